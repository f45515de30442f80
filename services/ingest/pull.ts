import { GantryError } from '#platform/errors.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import { bytesPassed } from '#platform/young-buffers.ts';

/**
 * A body, pulled chunk by chunk, that gives up at once when the call is aborted even while the sender is silent. One listener for
 * the whole body: racing each `next()` against one long-lived promise would keep every chunk's reaction until the end.
 */
export class Pull implements AsyncIterableIterator<Buffer> {
  readonly #iterator: AsyncIterator<Buffer>;
  readonly #signal: AbortSignal;
  #reject: ((error: GantryError) => void) | undefined;
  #turns: (() => void)[] = [];
  #ended = false;

  constructor(body: Bytes, signal: AbortSignal) {
    this.#iterator = body[Symbol.asyncIterator]();
    this.#signal = signal;
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  #onAbort = () => {
    this.#ended = true;
    this.#reject?.(this.#cancelled());
    this.#closeSource();
  };

  #cancelled(): GantryError {
    return new GantryError('cancelled', 'the sender gave up', { cause: this.#signal.reason });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Buffer>> {
    // Storage may still be waiting for a chunk when what it was given is drained: one at a time.
    while (this.#reject) await new Promise<void>((resolve) => this.#turns.push(resolve));
    if (this.#signal.aborted) throw this.#cancelled();
    if (this.#ended) return { done: true, value: undefined };
    try {
      const result = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        this.#reject = reject;
        this.#iterator.next().then(resolve, reject);
      });
      if (result.done) this.#finish();
      else bytesPassed(result.value.length);
      return result;
    } catch (error) {
      this.#finish();
      throw error instanceof GantryError ? error : new GantryError('cancelled', 'the body broke off', { cause: error });
    } finally {
      this.#reject = undefined;
      this.#turns.shift()?.();
    }
  }

  async return(): Promise<IteratorResult<Buffer>> {
    if (!this.#ended) {
      this.#finish();
      this.#closeSource();
    }
    return { done: true, value: undefined };
  }

  /**
   * Reads to the end and forgets: a refused instance still travels to its end on an association (PS3.7 §9.3.1: the response
   * follows the whole request), and a refused part of a STOW body stands before the next one.
   */
  async drain(): Promise<void> {
    while (!(await this.next()).done);
  }

  #finish(): void {
    this.#ended = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
  }

  #closeSource(): void {
    // A generator in the middle of `next` runs its `finally` only when that settles: nobody waits for it, and what it throws while
    // closing is of no interest to a body that has been given up.
    this.#iterator.return?.().then(
      () => {},
      () => {},
    );
  }
}
