import type { Position } from '#proto/storage/v1/log.ts';

/**
 * How far one tenant's lanes are known to be folded, and to have grown. What is folded is remembered of one index: what takes its place
 * may not have come as far, and is asked anew.
 */
export class Lanes {
  readonly #folded = new Map<string, number>();
  readonly #announced = new Map<string, number>();
  #generation: number | undefined;

  get generation(): number | undefined {
    return this.#generation;
  }

  /** Somebody speaks of a commit: a wake, or the log's heads. */
  announce({ lane, sequence }: Position): void {
    this.#announced.set(lane, Math.max(sequence, this.#announced.get(lane) ?? 0));
  }

  /** What index number `generation` says of itself. Of a former one nothing counts. True: something in it is further than we knew. */
  fold(generation: number, positions: Iterable<readonly [lane: string, sequence: number]>): boolean {
    this.become(generation);
    if (generation !== this.#generation) return false;
    let moved = false;
    for (const [lane, sequence] of positions) {
      if (sequence <= (this.#folded.get(lane) ?? 0)) continue;
      this.#folded.set(lane, sequence);
      moved = true;
    }
    return moved;
  }

  /** This index answers now; if it is another than we knew, nothing is known of it yet. */
  become(generation: number): void {
    if (generation <= (this.#generation ?? Number.NEGATIVE_INFINITY)) return;
    this.#folded.clear();
    this.#generation = generation;
  }

  knows(lane: string): boolean {
    return this.#folded.has(lane);
  }

  reached(positions: readonly Position[]): boolean {
    return positions.every(({ lane, sequence }) => (this.#folded.get(lane) ?? 0) >= sequence);
  }

  /** Commits that somebody spoke of and that are not folded yet. */
  get lag(): number {
    let lag = 0;
    for (const [lane, sequence] of this.#announced) lag += Math.max(0, sequence - (this.#folded.get(lane) ?? 0));
    return lag;
  }
}
