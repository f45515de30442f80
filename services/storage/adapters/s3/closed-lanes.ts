import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { isLane, segmentKey } from '../../log/names.ts';
import type { SegmentRow } from '../../ports.ts';
import type { Bucket } from './bucket.ts';
import { type Lane, newLane } from './lane.ts';

/**
 * What a keeper knows of the lanes that nobody writes any more: a process that starts reads one object instead of asking for each of them
 * (adr/0051). It is derived: lost, it is made again from a whole listing, and whoever finds none lists.
 */
export interface ClosedLanes {
  /** Every lane with a smaller name is in it. */
  readonly before: string;
  readonly lanes: readonly Lane[];
  /** Nothing in them is stamped higher: whoever does not read them stamps later all the same. */
  readonly stamp: string;
}

interface Stored {
  format: number;
  before: string;
  stamp: string;
  /** Name, head, 1 when it is closed; of a closed one its segments where they are known. */
  lanes: [string, number, 0 | 1, StoredRow[]?][];
}
/** First, last, bytes, objects, state, 1 when the object's name is a thinned one's. */
type StoredRow = [number, number, number, number, SegmentRow['state'], 0 | 1];

const FORMAT = 1;
const keyOf = (tenant: string): string => `derived/lanes/${tenant}.json.gz`;

export async function writeClosedLanes(
  bucket: Bucket,
  tenant: string,
  { before, lanes, stamp }: ClosedLanes,
): Promise<void> {
  const stored: Stored = {
    format: FORMAT,
    before,
    stamp,
    lanes: lanes
      .filter(({ lane, head }) => lane < before && head > 0)
      .map(({ lane, head, closed, rows }) =>
        closed && rows ? [lane, head, 1, rows.rows.map(storedRow)] : [lane, head, closed ? 1 : 0],
      ),
  };
  await bucket.put(keyOf(tenant), await promisify(gzip)(Buffer.from(JSON.stringify(stored))));
}

/** Undefined: there is none that this release can read. */
export async function readClosedLanes(bucket: Bucket, tenant: string, nowMs: number): Promise<ClosedLanes | undefined> {
  const got = await bucket.get(keyOf(tenant));
  if (!got) return undefined;
  let stored: Stored;
  try {
    stored = JSON.parse((await promisify(gunzip)(got.bytes)).toString('utf8'));
  } catch {
    return undefined; // cut, or changed: gzip's own CRC says so
  }
  if (stored.format !== FORMAT || !/^[0-9A-HJKMNP-TV-Z]{10}$/.test(stored.before)) return undefined;
  const lanes: Lane[] = [];
  for (const [name, head, closed, rows] of stored.lanes) {
    if (!isLane(name) || !(head > 0)) return undefined;
    const lane = newLane(tenant, name);
    lanes.push(lane);
    if (!closed) continue; // looked at as any other
    Object.assign(lane, { head, closed: true });
    if (rows) lane.rows = { rows: rows.map((row) => rowOf(tenant, name, row)), atMs: nowMs };
  }
  return { before: stored.before, stamp: stored.stamp, lanes };
}

/** A closed lane's segments change only when a keeper thins one, and then a second keeper does not find what it looks for; copies are rare. */
const ROWS_FRESH_MS = 24 * 60 * 60 * 1000;

/** Its segments without asking for them. */
export function rowsKnown({ closed, rows }: Lane, nowMs: number): readonly SegmentRow[] | undefined {
  if (!closed || !rows) return undefined;
  const final = rows.rows.every(({ state }) => state === 'thinned');
  return final || nowMs - rows.atMs < ROWS_FRESH_MS ? rows.rows : undefined;
}

const storedRow = ({ first, last, bytes, objects, state, object }: SegmentRow): StoredRow => [
  ...([first, last, bytes, objects] as const),
  state,
  object.endsWith('.toc.tar') ? 1 : 0,
];

const rowOf = (tenant: string, lane: string, [first, last, bytes, objects, state, toc]: StoredRow): SegmentRow => ({
  object: segmentKey(tenant, lane, first, toc === 1),
  lane,
  first,
  last,
  bytes,
  objects,
  state,
});
