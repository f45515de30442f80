import type { Call } from './call.ts';
import { GantryError } from './errors.ts';

// setTimeout takes a signed 32-bit delay; a longer one would fire at once.
const TIMER_MAX_MS = 2 ** 31 - 1;

/**
 * One call's deadline and cancellation. Its `call` carries a signal that aborts when the caller gives up, when time is up, or when
 * the scope is closed; and whoever waits inside is answered then, even if the handler below does not listen to the signal.
 */
export class Scope {
  readonly call: Call;
  readonly #abort = new AbortController();
  readonly #parent: AbortSignal;
  readonly #onParent = () => this.fail(new GantryError('cancelled', 'the caller gave up'));
  #timer: NodeJS.Timeout | undefined;
  #failure: GantryError | undefined;
  #waiting: ((error: GantryError) => void) | undefined;

  /** `timeoutMs` applies where the call names no deadline; Infinity in either: none. */
  constructor(call: Call, timeoutMs: number, what: string) {
    const deadline = call.deadline ?? (timeoutMs === Infinity ? Infinity : Date.now() + timeoutMs);
    this.#parent = call.signal;
    this.call = {
      ...call,
      signal: this.#abort.signal,
      ...(deadline === Infinity ? { deadline: undefined } : { deadline }),
    };
    if (call.signal.aborted) {
      this.#onParent();
      return;
    }
    call.signal.addEventListener('abort', this.#onParent, { once: true });
    if (deadline === Infinity) return;
    const left = deadline - Date.now();
    const expired = () => this.fail(new GantryError('deadline-exceeded', `${what}: the time limit was reached`));
    if (left <= 0) expired();
    else if (left <= TIMER_MAX_MS) this.#timer = setTimeout(expired, left);
  }

  get failure(): GantryError | undefined {
    return this.#failure;
  }

  fail(error: GantryError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.close();
    this.#abort.abort(error);
    this.#waiting?.(error);
  }

  /** No more timers and listeners; the signal stays as it is. */
  close(): void {
    clearTimeout(this.#timer);
    this.#parent.removeEventListener('abort', this.#onParent);
  }

  /** Only one wait at a time. Not Promise.race: racing a long-lived promise once a row would keep every row's reaction alive. */
  wait<T>(work: () => Promise<T>): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise<T>((resolve, reject) => {
      this.#waiting = reject;
      work().then(resolve, reject);
    }).finally(() => {
      this.#waiting = undefined;
    });
  }
}
