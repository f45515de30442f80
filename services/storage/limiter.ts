/** At most `max` at a time; the others wait in the order in which they came. */
export class Limiter {
  readonly #max: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#max) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next)
        next(); // takes over the place
      else this.#running--;
    }
  }
}

/** All of them, at most `width` at a time; the first failure ends it. */
export async function eachOf<T>(items: Iterable<T>, width: number, work: (item: T) => Promise<void>): Promise<void> {
  const source = items[Symbol.iterator]();
  let failed = false;
  const runner = async (): Promise<void> => {
    try {
      for (let next = source.next(); !next.done && !failed; next = source.next()) await work(next.value);
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  await Promise.all(Array.from({ length: width }, runner));
}
