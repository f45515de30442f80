import { youngLanes } from '#platform/young-lanes.ts';
import type { Position } from '#proto/storage/v1/log.ts';

/** What is asked of the log. Lanes that are given and not in `positions` are read from their start. */
export interface Reading {
  positions: ReadonlyMap<string, number>;
  /** Empty: all of the tenant's. */
  lanes: string[];
  /** Besides `lanes` those whose name is not smaller. */
  since?: string;
}

/** So often all lanes are asked for: what nobody spoke of, in a lane with an old name in which nothing came lately, is found by then. */
const WHOLE_MS = 60_000;

/** What has been behind for so long without moving is held up by more than work: damage, a newer release's entries, a store that is gone. */
const STILL_MS = 10_000;

/**
 * How far one tenant's lanes are known to be folded, and to have grown. What is folded is remembered of one index: what takes its place
 * may not have come as far, and is asked anew.
 */
export class Lanes {
  readonly #folded = new Map<string, number>();
  readonly #announced = new Map<string, number>();
  /** Since when a lane that had grown has not moved; performance.now(). */
  readonly #behind = new Map<string, number>();
  #generation: number | undefined;
  /** Lanes with young names, as of the last whole reading; and others that moved, or of which somebody spoke, since then and before. */
  #since = '';
  #young: string[] = [];
  #moved = new Set<string>();
  #movedBefore = new Set<string>();
  #wholeMs = Number.NEGATIVE_INFINITY;

  get generation(): number | undefined {
    return this.#generation;
  }

  /** Somebody speaks of a commit: a wake, or the log's heads. */
  announce({ lane, sequence }: Position): void {
    this.#announced.set(lane, Math.max(sequence, this.#announced.get(lane) ?? 0));
    this.#grown(lane, sequence);
  }

  /** Somebody waits for these. */
  expect(positions: readonly Position[]): void {
    for (const { lane, sequence } of positions) this.#grown(lane, sequence);
  }

  #grown(lane: string, sequence: number): void {
    if (sequence <= (this.#folded.get(lane) ?? 0)) return;
    this.#moved.add(lane);
    if (!this.#behind.has(lane)) this.#behind.set(lane, performance.now());
  }

  /** What index number `generation` says of itself. Of a former one nothing counts. True: something in it is further than we knew. */
  fold(generation: number, positions: Iterable<readonly [lane: string, sequence: number]>): boolean {
    this.become(generation);
    if (generation !== this.#generation) return false;
    let moved = false;
    for (const [lane, sequence] of positions) {
      if (sequence <= (this.#folded.get(lane) ?? 0)) continue;
      this.#folded.set(lane, sequence);
      this.#behind.delete(lane);
      if (this.#wholeMs > 0) this.#moved.add(lane);
      moved = true;
    }
    return moved;
  }

  /** This index answers now; if it is another than we knew, nothing is known of it yet. */
  become(generation: number): void {
    if (generation <= (this.#generation ?? Number.NEGATIVE_INFINITY)) return;
    this.#folded.clear();
    this.#behind.clear();
    this.askAgain();
    this.#generation = generation;
  }

  /**
   * Lanes that have ended are many, and all the log has of them is folded: most readings leave them out (adr/0073). Undefined: it is time for a
   * whole one, with the positions that the index has.
   */
  reading(): Reading | undefined {
    if (performance.now() - this.#wholeMs >= WHOLE_MS) return undefined;
    const lanes = [...new Set([...this.#young, ...this.#movedBefore, ...this.#moved])];
    const positions = new Map<string, number>();
    for (const lane of lanes) {
      const sequence = this.#folded.get(lane);
      if (sequence !== undefined) positions.set(lane, sequence);
    }
    return { positions, lanes, since: this.#since };
  }

  /** The next reading is a whole one. */
  askAgain(): void {
    this.#wholeMs = Number.NEGATIVE_INFINITY;
  }

  /** All lanes were read, from what the index had when that began. */
  wasRead(beganMs: number): void {
    if (this.#folded.size === 0) return;
    const lanes = [...this.#folded.keys()].sort();
    // At least one lane is named in each reading: a storage process of the release before takes none for all.
    this.#since = [lanes.at(-1)!, youngLanes()].sort()[0]!;
    this.#young = lanes.filter((lane) => lane >= this.#since);
    this.#movedBefore = this.#moved;
    this.#moved = new Set();
    this.#wholeMs = beganMs;
  }

  knows(lane: string): boolean {
    return this.#folded.has(lane);
  }

  reached(positions: readonly Position[]): boolean {
    return positions.every(({ lane, sequence }) => (this.#folded.get(lane) ?? 0) >= sequence);
  }

  /** Those of them that are not reached lie in lanes that stand still: waiting will hardly help. */
  standStill(positions: readonly Position[]): boolean {
    const now = performance.now();
    return positions.every(
      ({ lane, sequence }) =>
        (this.#folded.get(lane) ?? 0) >= sequence || now - (this.#behind.get(lane) ?? now) >= STILL_MS,
    );
  }

  /** Commits that somebody spoke of and that are not folded yet. */
  get lag(): number {
    let lag = 0;
    for (const [lane, sequence] of this.#announced) lag += Math.max(0, sequence - (this.#folded.get(lane) ?? 0));
    return lag;
  }
}
