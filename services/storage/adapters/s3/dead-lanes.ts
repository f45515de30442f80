import type { StampClock } from '../../log/clock.ts';
import { layOutCommit } from '../../log/commit.ts';
import { segmentKey } from '../../log/names.ts';
import { TRAILER } from '../../log/tar.ts';
import type { Bucket, Clockwork } from './bucket.ts';
import type { Lane } from './lane.ts';
import type { LaneReader } from './lane-reader.ts';
import { putOnce } from './put-once.ts';

const FOLDER = 'derived/alive/';
/** A lane whose writer never said that it lives (a copied folder, a lost derived area) is left alone for so long. */
const STRANGER_MS = 24 * 60 * 60 * 1000;
/** Late commits of its writer that a closer may meet. */
const STEPS_MAX = 1000;

/** A process says which lanes it writes, so that a keeper does not close those of a living one for their silence. */
export class Alive {
  readonly #bucket: Bucket;
  readonly #key: string;
  #said = '';

  constructor(bucket: Bucket, process: string) {
    this.#bucket = bucket;
    this.#key = `${FOLDER}${process}.json`;
  }

  async say(lanes: readonly Lane[]): Promise<void> {
    if (lanes.length === 0) return this.leave();
    this.#said = JSON.stringify(lanes.map(({ tenant, lane }) => ({ tenant, lane })));
    await this.#bucket.put(this.#key, Buffer.from(this.#said));
  }

  async leave(): Promise<void> {
    if (this.#said === '') return;
    this.#said = '';
    await this.#bucket.remove(this.#key);
  }
}

export interface Sign {
  readonly key: string;
  readonly ageMs: number;
  readonly lanes: ReadonlySet<string>;
}

/** Signs of life, their ages by the store's own clock. */
export async function signsOfLife(bucket: Bucket): Promise<Sign[]> {
  const signs: Sign[] = [];
  for await (const page of bucket.list(FOLDER))
    for (const { key, modifiedMs } of page) {
      const got = await bucket.get(key);
      if (!got) continue;
      let lanes: unknown;
      try {
        lanes = JSON.parse(got.bytes.toString('utf8'));
      } catch {
        continue; // not ours: it proves nothing
      }
      const names = Array.isArray(lanes) ? lanes.map((each: { lane?: unknown }) => String(each?.lane)) : [];
      signs.push({ key, ageMs: bucket.now() - modifiedMs, lanes: new Set(names) });
    }
  return signs;
}

/** Dead: its process said that it writes it, and is silent since; or nobody ever said so, for a day. */
export function isDead(lane: Lane, lastMs: number, nowMs: number, signs: readonly Sign[], deadMs: number): boolean {
  const silentMs = nowMs - lastMs;
  const naming = signs.filter(({ lanes }) => lanes.has(lane.lane));
  if (naming.length === 0) return silentMs >= Math.max(STRANGER_MS, deadMs);
  return silentMs >= deadMs && naming.every(({ ageMs }) => ageMs >= deadMs);
}

/**
 * Closes a lane by winning its next number. A commit of its writer that comes between is met, and counts; one that comes after loses.
 * True: it is closed, by us or another.
 */
export async function closeLane(
  parts: { bucket: Bucket; reader: LaneReader; clock: StampClock; clockwork: Clockwork },
  lane: Lane,
  commitMs: number,
  by: string,
): Promise<boolean> {
  const { bucket, reader, clock, clockwork } = parts;
  for (let step = 0; step < STEPS_MAX; step++) {
    await reader.look(lane, true);
    if (lane.closed) return true;
    if (lane.head === 0) return false; // nothing was ever put: it does not exist
    // The number after what was seen here, whatever others learn meanwhile: another closing of this process is lost to, not followed.
    const sequence = lane.head + 1;
    // Read, so that the closing is stamped later than all that stands in the lane.
    if ((await reader.table(lane, sequence - 1)) === 'stop') return false;
    if (lane.closed) return true; // a head that was only told of, or not read yet
    const object = segmentKey(lane.tenant, lane.lane, sequence);
    const origin = { tenant: lane.tenant, lane: lane.lane, sequence, object, offset: 0, previousToc: -1 };
    const value = { reason: 'its process is gone', by };
    const laid = layOutCommit(origin, [{ kind: { $case: 'closed', value } }], () => clock.next());
    const body = Buffer.concat([...laid.buffers, TRAILER]);
    if ((await putOnce(bucket, object, body, commitMs, clockwork)) === 'written') {
      lane.head = Math.max(lane.head, sequence);
      lane.closed = true;
      return true;
    }
  }
  return false;
}

export const removeSign = (bucket: Bucket, sign: Sign): Promise<void> => bucket.remove(sign.key);
