import { join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import { ARCHIVE_FORMAT, formatJson, formatOf } from '../../log/format.ts';
import type { Disk } from './disk.ts';

const NAME = 'format.json';

/** It lies in the archive itself, so that a copy of the archive says what it is. */
export async function checkFormat(disk: Disk, root: string): Promise<void> {
  const path = join(root, NAME);
  const stat = await disk.stat(path);
  if (!stat) return writeFormat(disk, path);
  const bytes = Buffer.alloc(Math.min(stat.bytes, 4096));
  const file = await disk.open(path, 'read');
  try {
    await file.read(bytes, 0);
  } finally {
    await file.close();
  }
  let format: unknown;
  try {
    format = formatOf(bytes);
  } catch (error) {
    throw new GantryError(
      'failed-precondition',
      `${path} cannot be read: restore it from a backup of this archive, or write {"format":${ARCHIVE_FORMAT}} into it`,
      { cause: error },
    );
  }
  if (format !== ARCHIVE_FORMAT)
    throw new GantryError(
      'failed-precondition',
      `the archive in ${root} has format ${String(format)}, this release reads format ${ARCHIVE_FORMAT}: start the release that wrote it, or a newer one`,
    );
}

/** Renamed into place with its contents on stable storage: it is never seen empty. That it may be missing after a power cut is no harm. */
async function writeFormat(disk: Disk, path: string): Promise<void> {
  const part = `${path}.part`;
  await disk.unlink(part).catch(() => {}); // from a start that was cut short
  const file = await disk.open(part, 'create');
  try {
    await file.write([formatJson()], 0);
    await file.flush('format');
  } finally {
    await file.close();
  }
  await disk.rename(part, path);
}
