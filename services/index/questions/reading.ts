import { setImmediate } from 'node:timers/promises';

/**
 * Questions are written once, as generators, for stores that answer at once and for stores that must be waited for: what must be waited
 * for is yielded as a promise. SQLite's readers never yield one, so `now` runs them without a pause; adr/0058.
 */
export type Reading<T> = Generator<Promise<unknown>, T, undefined>;
/** Rows of an answer. `undefined`: nothing was found for a while, and others may have their turn. */
export type Rows<Row> = Generator<Row | Promise<unknown> | undefined, void, undefined>;

export function* waitFor<T>(promise: Promise<T>): Reading<T> {
  let value: T;
  yield promise.then((result) => {
    value = result;
  });
  return value!;
}

/** What a store that answers at once says. */
// biome-ignore lint/correctness/useYield: it does not wait
export function* ready<T>(value: T): Reading<T> {
  return value;
}

/** Asks a store that answers at once. */
export function now<T>(reading: Reading<T>): T {
  const step = reading.next();
  if (!step.done) throw new Error('a store that answers at once asked to be waited for');
  return step.value;
}

export async function later<T>(reading: Reading<T>): Promise<T> {
  let step = reading.next();
  while (!step.done) {
    try {
      await step.value;
    } catch (error) {
      step = reading.throw(error);
      continue;
    }
    step = reading.next();
  }
  return step.value;
}

/** So long a question may compute before others of its thread have their turn. */
const SLICE_MS = 10;

/** Asks a store that must be waited for; whoever stops taking rows, or aborts, ends the question. */
export async function* answers<Row>(rows: Rows<Row>, signal?: AbortSignal): AsyncGenerator<Row> {
  let ended = false;
  let began = performance.now();
  try {
    let step = rows.next();
    while (!step.done) {
      signal?.throwIfAborted();
      const { value } = step;
      if (value instanceof Promise) {
        try {
          await value;
        } catch (error) {
          began = performance.now();
          step = rows.throw(error);
          continue;
        }
        began = performance.now();
      } else if (value !== undefined) yield value;
      if (performance.now() - began > SLICE_MS) {
        await setImmediate();
        began = performance.now();
      }
      step = rows.next();
    }
    ended = true;
  } finally {
    if (!ended) rows.return();
  }
}
