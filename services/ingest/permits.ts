import { GantryError } from '#platform/errors.ts';

/**
 * Memory for instances on their way in. A permit is taken before the first byte of a body is pulled; who has none does not read,
 * and that is what fills the sender's TCP window. Waiters are served in order, their number and their wait are bounded; one sender
 * never holds all of it, however many associations it opens and however slowly it sends.
 */
export interface PermitLimits {
  /** What one sender may hold. */
  senderBytes: number;
  waiters: number;
  waitMs: number;
}

interface Waiter {
  bytes: number;
  sender: string;
  grant(permit: Permit): void;
}

export class Permits {
  readonly total: number;
  #inUse = 0;
  readonly #inUseBySender = new Map<string, number>();
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
  take(bytes: number, signal: AbortSignal, sender = ''): Promise<Permit> {
    if (bytes > this.total) throw new RangeError('a permit larger than all memory for permits');
    if (signal.aborted) return Promise.reject(new GantryError('cancelled', 'cancelled before a permit was taken'));
    const limits = this.#limits();
    // Nobody stands before us but those that may not have more.
    const first = !this.#waiting.some((waiter) => this.#may(waiter.bytes, waiter.sender, limits));
    if (first && this.#may(bytes, sender, limits) && this.#inUse + bytes <= this.total)
      return Promise.resolve(this.#grant(bytes, sender));
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
        sender,
        grant: (permit) => {
          settle();
          resolve(permit);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** A sender that holds nothing may always have one. */
  #may(bytes: number, sender: string, limits: PermitLimits): boolean {
    const held = this.#inUseBySender.get(sender) ?? 0;
    return held === 0 || held + bytes <= limits.senderBytes;
  }

  #grant(bytes: number, sender: string): Permit {
    this.#count(bytes, sender);
    return new Permit(bytes, (freed) => {
      this.#count(-freed, sender);
      this.#serve();
    });
  }

  #count(bytes: number, sender: string): void {
    this.#inUse += bytes;
    const held = (this.#inUseBySender.get(sender) ?? 0) + bytes;
    if (held === 0) this.#inUseBySender.delete(sender);
    else this.#inUseBySender.set(sender, held);
  }

  /** In order; who may not have more steps aside, but who only lacks memory is not overtaken: a large one would starve. */
  #serve(): void {
    const limits = this.#limits();
    for (let at = 0; at < this.#waiting.length; ) {
      const { bytes, sender, grant } = this.#waiting[at]!;
      if (!this.#may(bytes, sender, limits)) {
        at++;
        continue;
      }
      if (this.#inUse + bytes > this.total) return;
      this.#waiting.splice(at, 1);
      grant(this.#grant(bytes, sender));
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
