import { ulid } from 'ulid';
import { eachOf } from '../../limiter.ts';
import type { StampClock } from '../../log/clock.ts';
import { isLane } from '../../log/names.ts';
import type { Bucket, Clockwork } from './bucket.ts';
import { readClosedLanes, writeClosedLanes } from './closed-lanes.ts';
import { byFirst, type Lane, newLane, type Piece, pieceOf } from './lane.ts';
import { isTransient, type LaneReader } from './lane-reader.ts';
import { NAME_FRESH_MS } from './lane-writer.ts';

export interface LanesParts {
  readonly bucket: Bucket;
  readonly clockwork: Clockwork;
  readonly clock: StampClock;
  readonly reader: LaneReader;
  /** A reader that was told nothing looks for others' commits so often. */
  readonly lookMs: number;
}

/**
 * `all`: old names too, else young ones. `exact`: none that was there when this was asked is missed, or it fails. `now`: it is looked for,
 * however lately that was done, by the next number of each lane, which costs a get and not a list.
 */
export interface How {
  readonly all: boolean;
  readonly exact: boolean;
  readonly now?: boolean;
}

/** Lanes end after a day; whoever is still looked for has a young name. */
const YOUNG_MS = 26 * 60 * 60 * 1000 + NAME_FRESH_MS;
const ALL_EVERY_MS = 60 * 60 * 1000;
export const WIDTH = 16;

/** The lanes of one tenant that this process knows: how it finds those of others, and asks for as few of them as it can (adr/0051). */
export class Lanes {
  readonly known = new Map<string, Lane>();
  readonly #tenant: string;
  readonly #parts: LanesParts;
  /** When lanes were last looked for: among all names, among young ones. */
  #allMs = Number.NEGATIVE_INFINITY;
  #youngMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> = Promise.resolve();
  /** Looks that have not begun, by what is looked for. */
  readonly #waiting = new Map<string, Promise<void>>();
  #surveys = false;
  /** All lanes that were named before it were listed here, and nobody was told yet. */
  #surveyed: string | undefined;

  constructor(tenant: string, parts: LanesParts) {
    this.#tenant = tenant;
    this.#parts = parts;
  }

  /** Nobody has looked yet. */
  get unseen(): boolean {
    return this.#youngMs === Number.NEGATIVE_INFINITY;
  }

  [Symbol.iterator](): Iterator<Lane> {
    return this.known.values();
  }

  /**
   * Finds lanes and commits of other processes. One at a time: whoever asks meanwhile waits for a look that begins later, for what came
   * since; all who wait for the same share it, so that however many ask, nobody waits for more than a look of each kind.
   */
  refresh(how: How): Promise<void> {
    const kind = `${how.all} ${how.exact} ${how.now ?? false}`;
    const waiting = this.#waiting.get(kind);
    if (waiting) return waiting;
    const before = this.#looking.catch(() => {}); // whoever asked for that one is told
    const turn = before.then(() => {
      this.#waiting.delete(kind);
      return this.#look(how);
    });
    this.#looking = turn;
    this.#waiting.set(kind, turn);
    turn.catch(() => {}); // whoever asked is told
    return turn;
  }

  /** From now on all lanes are listed here: in a keeper's process, where what is known decides what may go. */
  survey(): void {
    if (this.#surveys) return;
    this.#surveys = true;
    this.#allMs = Number.NEGATIVE_INFINITY;
  }

  /** After a listing, for those that did not make it. */
  async tell(): Promise<void> {
    if (this.#surveyed === undefined) return;
    const told = { before: this.#surveyed, lanes: [...this.known.values()], stamp: this.#parts.clock.highest() };
    await writeClosedLanes(this.#parts.bucket, this.#tenant, told);
    this.#surveyed = undefined;
  }

  async #look({ all, exact, now: looks = exact }: How): Promise<void> {
    const { clockwork, lookMs, reader } = this.#parts;
    const now = clockwork.elapsedMs();
    const wantsAll = all && now - this.#allMs >= ALL_EVERY_MS;
    if (looks || wantsAll || now - this.#youngMs >= lookMs) {
      const surveys = this.#surveys;
      await this.#find(wantsAll);
      this.#youngMs = now;
      if (wantsAll && surveys === this.#surveys) this.#allMs = now;
    }
    const due = [...this].filter((lane) => !lane.own && !lane.closed && (looks || now - lane.lookedMs >= lookMs));
    await eachOf(due, WIDTH, async (lane) => {
      try {
        await reader.look(lane, exact);
      } catch (error) {
        if (exact || !isTransient(error)) throw error; // reading the lane says the same
      }
    });
  }

  async #find(all: boolean): Promise<void> {
    const { bucket } = this.#parts;
    const prefix = `log/${this.#tenant}/`;
    const young = ulid(Math.max(0, bucket.now() - YOUNG_MS)).slice(0, 10);
    const surveys = this.#surveys; // as it is now: what was found by less must not be told as a survey
    const told = all && !surveys ? await this.#told() : undefined;
    // Never later than what is young by our own clock: the keeper's may have been wrong.
    const from = !all ? young : told !== undefined && told > young ? young : told;
    if (from === undefined && this.known.size === 0) await this.#listWhole(prefix);
    else
      for await (const page of bucket.list(prefix, { after: from === undefined ? '' : prefix + from, shallow: true }))
        for (const { key } of page) {
          const name = key.slice(prefix.length, -1);
          if (key.endsWith('/') && isLane(name) && !this.known.has(name))
            this.known.set(name, newLane(this.#tenant, name));
        }
    if (all && surveys) this.#surveyed = young;
  }

  /** Nothing is known: all objects of the log in whole pages, instead of a list a lane. */
  async #listWhole(prefix: string): Promise<void> {
    const { bucket, clockwork, reader } = this.#parts;
    const beganMs = clockwork.elapsedMs();
    const lanes = new Map<string, Piece[]>();
    for await (const page of bucket.list(prefix))
      for (const row of page) {
        const name = row.key.split('/')[2]!;
        const piece = pieceOf(row);
        if (!piece || !isLane(name)) continue;
        const pieces = lanes.get(name);
        if (pieces) pieces.push(piece);
        else lanes.set(name, [piece]);
      }
    await eachOf(lanes, WIDTH, async ([name, pieces]) => {
      const lane = newLane(this.#tenant, name);
      try {
        await reader.adopt(lane, pieces.sort(byFirst), beganMs);
      } catch (error) {
        if (!isTransient(error)) throw error; // it is looked at again, and whoever needs it hears
      }
      if (!this.known.has(name)) this.known.set(name, lane);
    });
  }

  /** Lanes that a keeper knows as closed; answers the name before which there are no others. */
  async #told(): Promise<string | undefined> {
    const { bucket, clockwork, clock } = this.#parts;
    const told = await readClosedLanes(bucket, this.#tenant, clockwork.elapsedMs());
    if (told) clock.observe(told.stamp);
    for (const lane of told?.lanes ?? []) {
      const ours = this.known.get(lane.lane);
      if (!ours) this.known.set(lane.lane, lane);
      else if (lane.closed && !ours.own && !ours.closed) Object.assign(ours, { head: lane.head, closed: true });
    }
    return told?.before;
  }
}
