import { type Address, type Addresses, addressKey } from './endpoints.ts';
import { GantryError } from './errors.ts';
import type { Scope } from './scope.ts';

/** The request did not reach a handler: another process may have it, whatever it is. */
export class NotSent extends Error {
  constructor(cause: unknown) {
    super('not sent', { cause });
  }
}
/** The connection went while the request was on its way: it may have been served. Only what may be repeated is. */
export class Lost extends Error {
  constructor(cause: unknown) {
    super('lost', { cause });
  }
}

/**
 * Tokens for repeating what may have been served: each call earns a part of one, each repetition costs one. When everything fails, the
 * calls that are made stay (1 + share) times the calls that were asked for: no retry storm.
 */
export class RetryBudget {
  readonly #percent: () => number;
  #tokens = BUDGET_MAX;

  constructor(percent: () => number) {
    this.#percent = percent;
  }
  earn(): void {
    this.#tokens = Math.min(BUDGET_MAX, this.#tokens + this.#percent() / 100);
  }
  spend(): boolean {
    if (this.#percent() === 0 || this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
const BUDGET_MAX = 10; // a burst: one process that dies takes about so many calls with it

/** How often one call is repeated at most, whatever the budget says. */
const REPEATS_MAX = 2;
/** A process that could not be reached is left alone for so long, then twice as long … */
const DOWN_FIRST_MS = 100;
const DOWN_MAX_MS = 1_000;
const LOOK_AGAIN_MS = 50;

export interface Target<Channel> {
  readonly address: Address;
  readonly channel: Channel;
  inFlight: number;
  failures: number;
  downUntil: number;
  gone: boolean;
}

export interface BalanceOptions {
  /** How long a call may look for somebody who takes it. */
  connectMs: () => number;
  retryPercent: () => number;
}

/**
 * The processes that serve one endpoint, as one plane sees them. The next call goes to the one with the fewest in flight, in turn among
 * equals: round robin, except that a process that stands still (stopped, swapping, cut off) stops getting more.
 */
export class Balance<Channel> {
  readonly #addresses: Addresses;
  readonly #open: (address: Address) => Channel;
  readonly #shut: (channel: Channel) => void;
  readonly #options: BalanceOptions;
  readonly #budget: RetryBudget;
  readonly #targets = new Map<string, Target<Channel>>();
  readonly #unsubscribe: () => void;
  #turn = 0;

  constructor(
    addresses: Addresses,
    options: BalanceOptions,
    open: (address: Address) => Channel,
    shut: (channel: Channel) => void,
  ) {
    this.#addresses = addresses;
    this.#options = options;
    this.#open = open;
    this.#shut = shut;
    this.#budget = new RetryBudget(options.retryPercent);
    this.#unsubscribe = addresses.onChange(() => this.#follow());
    this.#follow();
  }

  get targets(): readonly Target<Channel>[] {
    return [...this.#targets.values()];
  }

  close(): void {
    this.#unsubscribe();
    for (const target of this.#targets.values()) this.#shut(target.channel);
    this.#targets.clear();
  }

  /** New processes are taken in at once; one that is not named any more ends what it has. */
  #follow(): void {
    const wanted = new Map(this.#addresses.current.map((address) => [addressKey(address), address]));
    for (const [key, target] of this.#targets)
      if (!wanted.has(key)) {
        this.#targets.delete(key);
        target.gone = true;
        if (target.inFlight === 0) this.#shut(target.channel);
      }
    for (const [key, address] of wanted)
      if (!this.#targets.has(key))
        this.#targets.set(key, {
          address,
          channel: this.#open(address),
          inFlight: 0,
          failures: 0,
          downUntil: 0,
          gone: false,
        });
  }

  /** The least busy of those that were not asked yet and are not known to be down. */
  #pick(tried: ReadonlySet<Target<Channel>>): Target<Channel> | undefined {
    const all = [...this.#targets.values()];
    const now = performance.now();
    let best: Target<Channel> | undefined;
    this.#turn++;
    for (let i = 0; i < all.length; i++) {
      const target = all[(this.#turn + i) % all.length]!;
      if (tried.has(target) || target.downUntil > now) continue;
      if (best === undefined || target.inFlight < best.inFlight) best = target;
    }
    return best;
  }

  /**
   * One call. `run` throws NotSent or Lost for what the connection did, anything else for what was answered; the call holds its place
   * among those in flight until `release`, which `run` may keep for later (an answer's body).
   */
  async call<T>(
    what: string,
    scope: Scope,
    repeatable: boolean,
    run: (channel: Channel, release: () => void) => Promise<T>,
  ): Promise<T> {
    const until = performance.now() + this.#options.connectMs();
    const tried = new Set<Target<Channel>>();
    let repeats = 0;
    let last: unknown;
    this.#budget.earn();
    for (;;) {
      if (scope.failure) throw scope.failure;
      const target = this.#pick(tried);
      if (target === undefined) {
        // Nobody is there, or everybody was asked: pods start, names appear. A short while, then its caller is told.
        if (performance.now() >= until)
          throw new GantryError('unavailable', `${what}: no process that serves it can be reached`, { cause: last });
        await scope.wait(() => new Promise<void>((resolve) => setTimeout(resolve, LOOK_AGAIN_MS)));
        tried.clear();
        continue;
      }
      target.inFlight++;
      let released = false;
      const release = () => {
        if (released) return;
        released = true;
        if (--target.inFlight === 0 && target.gone) this.#shut(target.channel);
      };
      try {
        const answer = await run(target.channel, release);
        target.failures = 0;
        target.downUntil = 0;
        return answer;
      } catch (error) {
        release();
        if (scope.failure) throw scope.failure;
        if (error instanceof NotSent) {
          // Those who were on their way together count as one attempt.
          if (target.downUntil <= performance.now())
            target.downUntil = performance.now() + Math.min(DOWN_MAX_MS, DOWN_FIRST_MS * 2 ** target.failures++);
          tried.add(target);
          last = error.cause;
          continue;
        }
        if (!(error instanceof Lost)) throw error;
        last = error.cause;
        if (!repeatable || repeats >= REPEATS_MAX || !this.#budget.spend()) throw lost(what, error.cause);
        repeats++;
        tried.add(target);
      }
    }
  }
}

export const lost = (what: string, cause: unknown): GantryError =>
  new GantryError('unavailable', `${what}: the connection broke before the answer`, { cause });
