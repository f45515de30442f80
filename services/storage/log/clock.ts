/** Stamps this far in the future mean that a clock was, or is, wrong; retention and delays count from stamps. */
const CLOCK_AHEAD_MAX_MS = 60 * 60 * 1000;

/** A sentence for a person when the log was stamped far in the future. */
export function clockAhead(clock: StampClock): string | undefined {
  const aheadMs = clock.aheadMs();
  if (aheadMs < CLOCK_AHEAD_MAX_MS) return undefined;
  return `the log was stamped ${Math.round(aheadMs / 60_000)} minutes ahead of this machine's clock: set the clock, or stamps go on from there`;
}

/**
 * A hybrid logical clock (Kulkarni et al. 2014): physical milliseconds that never go back, and a counter within one. The stamp is 12
 * hex digits of milliseconds and 4 of counter, so stamps compare as strings.
 */
export class StampClock {
  #ms = 0;
  #counter = 0;
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** A stamp above every earlier one of this process and above all that were observed. */
  next(): string {
    const now = this.#now();
    if (now > this.#ms) {
      this.#ms = now;
      this.#counter = 0;
    } else if (++this.#counter > 0xffff) {
      this.#ms++;
      this.#counter = 0;
    }
    return this.highest();
  }

  /** The highest that was given or observed. */
  highest(): string {
    return this.#ms.toString(16).padStart(12, '0') + this.#counter.toString(16).padStart(4, '0');
  }

  /** How far the highest stamp is above the wall clock. */
  aheadMs(): number {
    return this.#ms - this.#now();
  }

  /** Never stamp below this one: read from the lanes' last commits at start, so a clock set back changes no order. */
  observe(stamp: string): void {
    const parsed = parseStamp(stamp);
    if (parsed && (parsed.ms > this.#ms || (parsed.ms === this.#ms && parsed.counter > this.#counter))) {
      this.#ms = parsed.ms;
      this.#counter = parsed.counter;
    }
  }
}

export function parseStamp(stamp: string): { ms: number; counter: number } | undefined {
  if (!/^[0-9a-f]{16}$/.test(stamp)) return undefined;
  return { ms: Number.parseInt(stamp.slice(0, 12), 16), counter: Number.parseInt(stamp.slice(12), 16) };
}
