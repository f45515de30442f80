import { GantryError } from '#platform/errors.ts';

/**
 * Memory for instances on their way in. A permit is taken before the first byte of a body is pulled; who has none does not read,
 * and that is what fills the sender's TCP window. Waiters are served in order, their number and their wait are bounded.
 */
export interface PermitLimits {
  waiters: number;
  waitMs: number;
}

interface Waiter {
  bytes: number;
  grant(permit: Permit): void;
}

export class Permits {
  readonly total: number;
  #inUse = 0;
  #waiting: Waiter[] = [];
  readonly #limits: () => PermitLimits;

  constructor(total: number, limits: () => PermitLimits) {
    this.total = total;
    this.#limits = limits;
  }

  get inUse(): number {
    return this.#inUse;
  }
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves once `bytes` are ours. Fails with `no-permit` when the queue is full or the wait was too long, `cancelled` on abort. */
  take(bytes: number, signal: AbortSignal): Promise<Permit> {
    if (bytes > this.total) throw new RangeError('a permit larger than all memory for permits');
    if (signal.aborted) return Promise.reject(new GantryError('cancelled', 'cancelled before a permit was taken'));
    if (this.#waiting.length === 0 && this.#inUse + bytes <= this.total) return Promise.resolve(this.#grant(bytes));
    const limits = this.#limits();
    if (this.#waiting.length >= limits.waiters)
      return Promise.reject(new GantryError('no-permit', 'too many instances wait for memory (ingest.permitWaiters)'));
    return new Promise((resolve, reject) => {
      const leave = (error: GantryError) => {
        settle();
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(error);
        // Who stood first may have asked for more than the next one does.
        this.#serve();
      };
      const timer = setTimeout(
        () => leave(new GantryError('no-permit', 'no memory within ingest.permitWaitMs')),
        limits.waitMs,
      );
      const onAbort = () => leave(new GantryError('cancelled', 'cancelled while waiting for a permit'));
      const settle = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        bytes,
        grant: (permit) => {
          settle();
          resolve(permit);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  #grant(bytes: number): Permit {
    this.#inUse += bytes;
    return new Permit(bytes, (freed) => {
      this.#inUse -= freed;
      this.#serve();
    });
  }

  #serve(): void {
    while (this.#waiting.length > 0 && this.#inUse + this.#waiting[0]!.bytes <= this.total) {
      const waiter = this.#waiting.shift()!;
      waiter.grant(this.#grant(waiter.bytes));
    }
  }
}

export class Permit {
  #bytes: number;
  readonly #free: (bytes: number) => void;

  constructor(bytes: number, free: (bytes: number) => void) {
    this.#bytes = bytes;
    this.#free = free;
  }

  /** Keeps `bytes` of it and gives the rest back: what was gathered has been handed on. */
  shrinkTo(bytes: number): void {
    const freed = this.#bytes - bytes;
    if (freed <= 0) return;
    this.#bytes = bytes;
    this.#free(freed);
  }

  release(): void {
    this.shrinkTo(0);
  }
}
