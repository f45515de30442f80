import { join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import { segmentKey } from '../../log/names.ts';
import { readTocAt, scanFromEnd } from '../../log/scan.ts';
import { TRAILER } from '../../log/tar.ts';
import { thinCommit } from '../../log/thin.ts';
import { decodeTable } from '../../log/toc.ts';
import type { Disk } from './disk.ts';
import type { Lane, Segment } from './lane.ts';
import { sourceOf, tocsOf } from './recover.ts';

/**
 * Writes the segment once more without the instances' bytes, beside it: same commits, same tables, control entries as before. While
 * both are there the old one counts. Answers the thinned one; one that was written before is taken as it is.
 */
export async function thinSegment(
  disk: Disk,
  root: string,
  lane: Lane,
  segment: Segment,
  tocs: readonly number[],
): Promise<Segment> {
  const object = segmentKey(lane.tenant, lane.lane, segment.first, true);
  const written = await thinnedBefore(disk, root, object, segment);
  if (written) return written;
  const part = join(root, `${object}.part`);
  await disk.unlink(part).catch(() => {}); // from a thin() that was cut short
  const old = await disk.open(join(root, segment.object), 'read');
  try {
    const file = await disk.open(part, 'create');
    const source = sourceOf(old, segment.bytes);
    const newTocs: number[] = [];
    let offset = 0;
    try {
      for (const [i, tocOffset] of tocs.entries()) {
        const sequence = segment.first + i;
        const frame = await readTocAt(source, tocOffset);
        const table = typeof frame === 'string' ? frame : decodeTable(frame.table, lane.tenant, lane.lane, sequence);
        if (typeof frame === 'string' || typeof table === 'string')
          throw new GantryError(
            'damaged',
            `commit ${sequence} of ${segment.object} cannot be read: the segment stays as it is`,
          );
        const { buffers, bytes, tocOffset: newToc } = thinCommit(table, frame.table, offset, newTocs.at(-1) ?? -1);
        newTocs.push(newToc);
        await file.write(buffers, offset);
        offset += bytes;
      }
      await file.write([TRAILER], offset);
      await file.flush('thinned');
    } finally {
      await file.close();
    }
    await disk.rename(part, join(root, object));
    return {
      object,
      first: segment.first,
      last: segment.last,
      bytes: offset + TRAILER.length,
      thinned: true,
      tocs: newTocs,
    };
  } finally {
    await old.close().catch(() => {}); // only read
  }
}

/**
 * The last look before the original goes: every table of the thinned file is read from the disk and must equal the original's. Tables
 * and control entries are nowhere else, so a byte that rotted since it was written must stop this.
 */
export async function assertSameTables(
  disk: Disk,
  root: string,
  segment: Segment,
  tocs: readonly number[],
  thinned: Segment,
): Promise<void> {
  const old = await disk.open(join(root, segment.object), 'read');
  try {
    const written = await disk.open(join(root, thinned.object), 'read');
    try {
      for (const [i, tocOffset] of tocs.entries()) {
        const before = await readTocAt(sourceOf(old, segment.bytes), tocOffset);
        const after = await readTocAt(sourceOf(written, thinned.bytes), thinned.tocs![i]!);
        if (typeof before === 'string' || typeof after === 'string' || !before.table.equals(after.table))
          throw new GantryError(
            'damaged',
            `commit ${segment.first + i} does not read the same in ${segment.object} and ${thinned.object}: both stay`,
          );
      }
    } finally {
      await written.close().catch(() => {}); // only read
    }
  } finally {
    await old.close().catch(() => {}); // only read
  }
}

/** It was renamed with its contents on stable storage, so it is whole, or it is not ours. */
async function thinnedBefore(disk: Disk, root: string, object: string, segment: Segment): Promise<Segment | undefined> {
  const stat = await disk.stat(join(root, object));
  if (!stat) return undefined;
  const file = await disk.open(join(root, object), 'read');
  try {
    const scan = await scanFromEnd(sourceOf(file, stat.bytes), segment.first, segment.last);
    return (
      scan && {
        object,
        first: segment.first,
        last: segment.last,
        bytes: stat.bytes,
        thinned: true,
        tocs: tocsOf(segment.first, scan.commits),
      }
    );
  } finally {
    await file.close().catch(() => {}); // only read
  }
}
