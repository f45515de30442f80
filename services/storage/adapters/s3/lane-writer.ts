import { GantryError } from '#platform/errors.ts';
import type { StampClock } from '../../log/clock.ts';
import { layOutCommit } from '../../log/commit.ts';
import type { Committed } from '../../log/gather.ts';
import { segmentKey } from '../../log/names.ts';
import { TRAILER } from '../../log/tar.ts';
import type { NewEntry } from '../../ports.ts';
import { type Bucket, BucketError, type Clockwork } from './bucket.ts';
import { type Lane, newLane } from './lane.ts';
import { putOnce } from './put-once.ts';

export interface LaneLimits {
  /** How long an unclear commit is tried; then its waiters are refused. */
  readonly commitMs: number;
  /** After a failed commit, how long appends are refused without asking the store. */
  readonly restMs: number;
  /** A lane ends when it is so old, so that its objects can be merged. */
  readonly laneAgeMs: number;
}

export interface LaneWriterParts {
  readonly bucket: Bucket;
  readonly clock: StampClock;
  readonly clockwork: Clockwork;
  readonly limits: LaneLimits;
  /** A lane's first commit is durable: it exists from now on. */
  readonly onLane: (lane: Lane) => void;
  readonly onCommit: (lane: Lane, sequence: number, table: Buffer, bytes: number, entries: number) => void;
}

/** A first commit later than this after its lane was named is given up: readers look for new lanes among young names only. */
export const NAME_FRESH_MS = 60 * 60 * 1000;

/**
 * Writes one of this process's lanes of one tenant: one commit at a time, each an object. A number that another has taken (a keeper
 * that thought us dead) ends the lane, and the same entries go into a new one: they stand nowhere yet, and never will under the lost
 * number. A commit that stays unclear ends the lane too, and its waiters are refused: whether they stand there nobody knows.
 */
export class LaneWriter {
  readonly #tenant: string;
  readonly #parts: LaneWriterParts;
  #lane: Lane | undefined;
  #namedMs = 0;
  #writing = false;
  #restUntil = Number.NEGATIVE_INFINITY;
  #lastError: GantryError | undefined;

  constructor(tenant: string, parts: LaneWriterParts) {
    this.#tenant = tenant;
    this.#parts = parts;
  }

  get lane(): Lane | undefined {
    return this.#lane;
  }

  async commit(items: readonly NewEntry[]): Promise<Committed> {
    const { clockwork, limits } = this.#parts;
    if (this.#lastError && clockwork.elapsedMs() < this.#restUntil) throw this.#lastError;
    this.#writing = true;
    try {
      if (this.#isAged()) await this.#end('aged');
      for (let lost = 0; lost < 2; lost++) {
        const committed = await this.#attempt(items);
        if (committed) return committed;
      }
      throw new BucketError('unclear', 'the number of a new lane was taken');
    } catch (error) {
      this.#give();
      this.#restUntil = clockwork.elapsedMs() + limits.restMs;
      this.#lastError =
        error instanceof GantryError && error.code === 'no-space'
          ? error
          : new GantryError('unavailable', 'the archive could not be written', { cause: error });
      throw this.#lastError;
    } finally {
      this.#writing = false;
    }
  }

  /** Ends a lane that is old: what stands in it can be merged then. */
  async endAged(): Promise<void> {
    if (!this.#writing && this.#isAged()) await this.#end('aged');
  }

  async close(): Promise<void> {
    await this.#end('shutdown');
  }

  #isAged(): boolean {
    const { clockwork, limits } = this.#parts;
    return this.#lane !== undefined && clockwork.elapsedMs() - this.#namedMs >= limits.laneAgeMs;
  }

  async #end(reason: string): Promise<void> {
    const lane = this.#lane;
    if (!lane) return;
    this.#writing = true;
    try {
      if (await this.#attempt([{ kind: { $case: 'closed', value: { reason, by: lane.lane } } }])) lane.closed = true;
    } catch {
      // the keeper closes it: nothing is lost, and nothing waits for it
    } finally {
      this.#writing = false;
      this.#give();
    }
  }

  /** Never written again by us: from now on it is looked at as any other's. */
  #give(): void {
    if (this.#lane) this.#lane.own = false;
    this.#lane = undefined;
  }

  /** Undefined: the number is another's. */
  async #attempt(items: readonly NewEntry[]): Promise<Committed | undefined> {
    const { bucket, clock, clockwork, limits } = this.#parts;
    if (!this.#lane) {
      this.#lane = newLane(this.#tenant, clockwork.name(bucket.now()), true);
      this.#namedMs = clockwork.elapsedMs();
    }
    const lane = this.#lane;
    const sequence = lane.head + 1;
    const object = segmentKey(this.#tenant, lane.lane, sequence);
    const origin = { tenant: this.#tenant, lane: lane.lane, sequence, object, offset: 0, previousToc: -1 };
    const laid = layOutCommit(origin, items, () => clock.next());
    const body = Buffer.concat([...laid.buffers, TRAILER], laid.bytes + TRAILER.length);
    if ((await putOnce(bucket, object, body, limits.commitMs, clockwork)) === 'lost') {
      this.#give();
      return undefined;
    }
    if (sequence === 1 && clockwork.elapsedMs() - this.#namedMs > NAME_FRESH_MS)
      throw new BucketError('unclear', `${object} came too late for its name`);
    lane.head = sequence;
    if (sequence === 1) this.#parts.onLane(lane);
    this.#parts.onCommit(lane, sequence, laid.table, body.length, laid.entries.length);
    return { lane: lane.lane, sequence, entries: laid.entries, places: laid.places };
  }
}
