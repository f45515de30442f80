import type { Subscription } from '@nats-io/transport-node';
import { ulid } from 'ulid';
import type { NatsLink } from './link.ts';

const BEATS_A_CLAIM = 5;
const BYE = 'bye';

/**
 * Who is alive: each process that works on jobs says so on core NATS, a few times within the time after which it is taken for dead. Time
 * is each listener's own and monotonic: clocks that differ, or that are set, kill nobody. A process that was cut off itself believes
 * nobody dead until it has listened for a whole while again.
 */
export class Beats {
  readonly id = ulid();
  readonly #link: NatsLink;
  readonly #subject: string;
  readonly #claimMs: () => number;
  readonly #heard = new Map<string, number>();
  #subscription: Subscription | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ticked = performance.now();
  #working = false;
  readonly #listen = () => {
    this.#listenAgain();
    this.#tick();
  };
  /** A process said good-bye. */
  onBye: () => void = () => {};

  constructor(link: NatsLink, claimMs: () => number) {
    this.#link = link;
    this.#subject = `${link.options.prefix}.beat`;
    this.#claimMs = claimMs;
    link.on('up', this.#listen);
    this.#listenAgain();
    this.#tick();
  }

  /** From now on this process says that it is alive. */
  begin(): void {
    this.#working = true;
    this.#tick();
  }

  /** When `owner` will be taken for dead, unless it is heard of: on `performance.now()`'s clock. */
  deadAt(owner: string): number {
    if (owner === this.id) return Number.POSITIVE_INFINITY;
    let heard = this.#heard.get(owner);
    // Never heard of: its time begins when it is asked about.
    if (heard === undefined) this.#heard.set(owner, (heard = performance.now()));
    return heard + this.#claimMs();
  }
  isDead(owner: string): boolean {
    return this.#link.connected && this.deadAt(owner) <= performance.now();
  }
  /** Those that own nothing any more. */
  forget(isOwner: (id: string) => boolean): void {
    for (const id of this.#heard.keys()) if (!isOwner(id)) this.#heard.delete(id);
  }

  #listenAgain(): void {
    const { connection } = this.#link;
    if (!connection) return;
    this.#spare();
    if (this.#subscription?.isClosed() === false) return;
    this.#subscription = connection.subscribe(this.#subject, {
      callback: (error, message) => {
        if (error) return;
        const [id, word] = message.string().split(' ');
        // Only those asked about: strangers' beats must not fill the memory.
        if (!this.#heard.has(id)) return;
        this.#heard.set(id, word === BYE ? Number.NEGATIVE_INFINITY : performance.now());
        if (word === BYE) this.onBye();
      },
    });
  }

  #spare(): void {
    for (const [id, at] of this.#heard) if (at !== Number.NEGATIVE_INFINITY) this.#heard.set(id, performance.now());
  }

  #tick(): void {
    clearTimeout(this.#timer);
    const everyMs = this.#claimMs() / BEATS_A_CLAIM;
    // This process stood still itself (a stopped machine, a long pause): it heard nothing because it did not listen.
    if (performance.now() - this.#ticked > 2 * everyMs) this.#spare();
    this.#ticked = performance.now();
    if (this.#working) this.#say('');
    this.#timer = setTimeout(() => this.#tick(), everyMs);
    this.#timer.unref();
  }
  #say(word: string): void {
    try {
      this.#link.connection?.publish(this.#subject, `${this.id} ${word}`);
    } catch {
      // closed this very moment: the others wait their time
    }
  }

  /** `bye`: what this process owned may be taken at once. */
  close(bye: boolean): void {
    clearTimeout(this.#timer);
    this.#link.off('up', this.#listen);
    if (bye && this.#working) this.#say(BYE);
    this.#subscription?.unsubscribe();
  }
}
