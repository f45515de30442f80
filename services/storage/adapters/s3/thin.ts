import { GantryError } from '#platform/errors.ts';
import { segmentKey } from '../../log/names.ts';
import { TRAILER } from '../../log/tar.ts';
import { thinCommit } from '../../log/thin.ts';
import { decodeTable } from '../../log/toc.ts';
import type { Bucket } from './bucket.ts';
import type { Lane, Piece } from './lane.ts';
import type { LaneReader } from './lane-reader.ts';
import type { Run } from './runs.ts';
import { putStream } from './upload.ts';

/**
 * Writes a run once more without the instances' bytes, as one object beside it: same commits, same tables, control entries as before.
 * While an original is there it counts. Answers the thinned object; one that was written before is taken when it reaches as far.
 */
export async function prepareThinned(bucket: Bucket, reader: LaneReader, lane: Lane, run: Run): Promise<Piece> {
  const { first, last } = run.row;
  const object = segmentKey(lane.tenant, lane.lane, first, true);
  if (!(await bucket.head(object)))
    try {
      await putStream(bucket, object, thinned(reader, lane, first, last));
    } catch (error) {
      if (!(error instanceof GantryError) || error.code !== 'already-exists') throw error; // another keeper was faster
    }
  const row = await bucket.head(object);
  const piece = row && { object, first, bytes: row.bytes, modifiedMs: row.modifiedMs, thinned: true };
  if (!piece || (await reader.span(lane, piece)).last < last)
    throw new GantryError('conflict', `${object} does not reach to commit ${last}: ${run.row.object} stays as it is`);
  return piece;
}

async function* thinned(reader: LaneReader, lane: Lane, first: number, last: number): AsyncIterable<Buffer> {
  let offset = 0;
  let previousToc = -1;
  for (let sequence = first; sequence <= last; sequence++) {
    const table = await reader.table(lane, sequence);
    const decoded = Buffer.isBuffer(table) ? decodeTable(table, lane.tenant, lane.lane, sequence) : 'damaged';
    if (typeof decoded === 'string')
      throw new GantryError(
        'damaged',
        `commit ${sequence} of lane ${lane.lane} cannot be read: the segment stays as it is`,
      );
    const commit = thinCommit(decoded, table as Buffer, offset, previousToc);
    previousToc = commit.tocOffset;
    offset += commit.bytes;
    yield* commit.buffers;
  }
  yield TRAILER;
}

/**
 * The last look before the originals go: every table of the thinned object, read from the bucket, equals the original's. Tables and
 * control entries are nowhere else.
 */
export async function assertSameTables(reader: LaneReader, lane: Lane, run: Run, copy: Piece): Promise<void> {
  const after = await reader.tablesIn(lane, copy);
  for (const piece of run.pieces)
    for (const [sequence, table] of await reader.tablesIn(lane, piece)) {
      if (sequence < run.row.first || sequence > run.row.last || after.get(sequence)?.equals(table)) continue;
      throw new GantryError(
        'damaged',
        `commit ${sequence} does not read the same in ${piece.object} and ${copy.object}: both stay`,
      );
    }
}
