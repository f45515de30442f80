import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ArchiveBed, logStoreContract } from '../../log-store.contract.ts';
import { objectStoreContract } from '../../object-store.contract.ts';
import { type ArchiveOptions, openArchiveOn } from './archive.ts';
import { ModelDisk } from './disk.model.ts';
import { type Disk, type DiskFile, realDisk } from './disk.ts';
import { randomOf } from './power-loss.testing.ts';

const OPTIONS: ArchiveOptions = {
  gather: { commitBytes: 256 * 1024, commitEntries: 16, queueBytes: 2 ** 30, queueEntries: 4096 },
  segment: { segmentBytes: 64 * 1024, segmentAgeMs: 2 ** 31, restMs: 0 },
  tableCacheBytes: 4096, // small, so that tables are read from the disk too
  openFiles: 4,
  reserveBytes: () => 0,
};

function bed(disk: Disk, directory: string, kill: () => Promise<void>, dispose: () => Promise<void>): ArchiveBed {
  return { open: () => openArchiveOn(disk, directory, OPTIONS), abandon: kill, dispose };
}

/** The kernel closes what a killed process had open, and flushes nothing. */
const onRealDisk = async (): Promise<ArchiveBed> => {
  const directory = await mkdtemp(join(tmpdir(), 'gantry-storage-'));
  const open = new Set<DiskFile>();
  const disk: Disk = {
    ...realDisk,
    async open(path, mode) {
      const file = await realDisk.open(path, mode);
      open.add(file);
      return file;
    },
  };
  const kill = async (): Promise<void> => {
    for (const file of open) await file.close();
    open.clear();
  };
  return bed(disk, directory, kill, () => rm(directory, { recursive: true }));
};

const onModelDisk = async (): Promise<ArchiveBed> => {
  const disk = new ModelDisk(randomOf(7), ['/data']);
  return bed(
    disk,
    '/data',
    async () => disk.powerCut(),
    async () => {},
  );
};

logStoreContract('file system, real disk', onRealDisk);
logStoreContract('file system, model disk and power cuts', onModelDisk);
objectStoreContract('file system, real disk', onRealDisk);
objectStoreContract('file system, model disk', onModelDisk);
