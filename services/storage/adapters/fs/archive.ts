import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Position } from '#proto/storage/v1/log.ts';
import type { GatherLimits } from '../../log/gather.ts';
import type { Alarm, Archive } from '../../ports.ts';
import { shareArchive } from '../shared.ts';
import { type Disk, DurableDirectories, type OnFlush, realDiskTelling } from './disk.ts';
import { checkFormat } from './format.ts';
import { Handles } from './handles.ts';
import type { SegmentLimits } from './lane-writer.ts';
import { lockDirectory } from './lock.ts';
import { FsLogStore } from './log-store.ts';
import { FsObjectStore } from './object-store.ts';

export interface ArchiveOptions {
  readonly gather: GatherLimits;
  readonly segment: SegmentLimits;
  readonly tableCacheBytes: number;
  readonly openFiles: number;
  /** Read each time: SIGHUP may change it. */
  readonly reserveBytes: () => number;
  readonly now?: () => number;
  readonly onAlarm?: (alarm: Alarm) => void;
  readonly onFlush?: OnFlush;
  readonly onTorn?: (lane: string, bytes: number) => void;
  readonly onCommit?: (tenant: string, position: Position, entries: number, bytes: number) => void;
}

/** How long one look at the free space holds; what is committed meanwhile is subtracted. */
const SPACE_FRESH_MS = 500;

/** Opens `<dataDir>/archive` on any disk. The caller owns the directory. */
export async function openArchiveOn(
  disk: Disk,
  dataDir: string,
  options: ArchiveOptions,
): Promise<Archive & { readonly log: FsLogStore }> {
  const root = join(dataDir, 'archive');
  const directories = new DurableDirectories(disk, dataDir);
  await directories.ensure(root);
  await checkFormat(disk, root);
  const handles = new Handles(disk, root, options.openFiles);
  let written = 0;
  const log = await FsLogStore.open({
    ...options,
    disk,
    root,
    directories,
    handles,
    onCommit: (tenant, position, entries, bytes) => {
      written += bytes;
      options.onCommit?.(tenant, position, entries, bytes);
    },
  });
  const objects = new FsObjectStore(disk, root, directories, handles);
  let seen: { freeBytes: number; atMs: number } | undefined;
  return {
    log,
    objects,
    async room() {
      if (!seen || performance.now() - seen.atMs > SPACE_FRESH_MS) {
        const { freeBytes } = await objects.space();
        seen = { freeBytes, atMs: performance.now() };
        written = 0;
      }
      const freeBytes = Math.max(0, seen.freeBytes - written);
      const reserveBytes = options.reserveBytes();
      return { freeBytes, reserveBytes, accepting: freeBytes >= reserveBytes };
    },
    async close() {
      await log.close();
      await handles.close();
    },
  };
}

export function openArchive(dataDir: string, options: ArchiveOptions): Promise<Archive> {
  const path = resolve(dataDir);
  return shareArchive(path, () => openLocked(path, options));
}

async function openLocked(dataDir: string, options: ArchiveOptions): Promise<Archive> {
  mkdirSync(dataDir, { recursive: true, mode: 0o750 });
  const lock = lockDirectory(dataDir);
  try {
    const archive = await openArchiveOn(realDiskTelling(options.onFlush ?? (() => {})), dataDir, options);
    return {
      log: archive.log,
      objects: archive.objects,
      room: archive.room,
      async close() {
        await archive.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}
