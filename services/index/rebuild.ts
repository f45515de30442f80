import type { Context } from '#platform/module.ts';
import type { Service } from '#platform/rpc.types.ts';
import type { RebuildProgress } from '#proto/index/v1/index.ts';
import type { DataService } from '#proto/storage/v1/storage.ts';
import { type Follower, foldToHeads } from './follow.ts';
import type { IndexStore } from './ports.ts';

export interface RebuilderOptions {
  data: Pick<Service<typeof DataService>, 'readLog'>;
  store: IndexStore;
  follower: Follower;
  log: Context['log'];
  /** Runs the work while no other process rebuilds the same index; absent: there is no other. */
  alone?: (signal: AbortSignal, work: () => Promise<void>) => Promise<void>;
}

/** A disk that is full now may be full in a second. */
const RETRY_MS = 60_000;

/** Builds the index again beside the one that answers, and puts it in its place: whatever this one lacks, the log has. */
export class Rebuilder {
  readonly #options: RebuilderOptions;
  readonly #stop = new AbortController();
  readonly #watching = new Set<() => void>();
  #running: Promise<void> | undefined;
  #notBefore = 0;
  #commits = 0;
  #instances = 0;

  constructor(options: RebuilderOptions) {
    this.#options = options;
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  /** Joins the rebuild that runs already, if one does. */
  run(wanted: () => Promise<boolean> = async () => true): Promise<void> {
    const { alone = (_signal, work) => work() } = this.#options;
    const work = async (): Promise<void> => {
      if (await wanted()) await this.#rebuild();
    };
    this.#running ??= alone(this.#stop.signal, work).finally(() => {
      this.#running = undefined;
      this.#tell();
    });
    return this.#running;
  }

  /** A rebuild that was killed could not clean up: a later start does, or the next rebuild. */
  tidy(): void {
    const { store, log, alone = (_signal, work) => work() } = this.#options;
    if (!store.tidy) return;
    alone(this.#stop.signal, () => store.tidy!()).catch((error) => {
      if (!this.#stop.signal.aborted)
        log.warn({ err: error }, 'what killed rebuilds left behind could not be removed; the next start tries again');
    });
  }

  /** For a gap, which the follower meets at each look: not again at once when the last attempt failed. */
  mend(wanted?: () => Promise<boolean>): void {
    if (performance.now() < this.#notBefore) return;
    this.run(wanted).catch((error) => {
      this.#notBefore = performance.now() + RETRY_MS;
      if (!this.#stop.signal.aborted)
        this.#options.log.error({ err: error }, 'the index could not be rebuilt; it is tried again in a minute');
    });
  }

  /** Starts one, and tells how it goes. Whoever stops listening does not stop it. */
  async *watch(signal: AbortSignal): AsyncGenerator<RebuildProgress> {
    let failure: { error: unknown } | undefined;
    let done = false;
    const run = this.run().then(
      () => {
        done = true;
      },
      (error: unknown) => {
        failure = { error };
      },
    );
    let wake: () => void = () => {};
    const told = (): void => wake();
    this.#watching.add(told);
    signal.addEventListener('abort', told);
    try {
      while (!done && !failure) {
        yield { commits: this.#commits, instances: this.#instances, done: false };
        const news = new Promise<void>((resolve) => (wake = resolve));
        if (!done && !failure && !signal.aborted) await Promise.race([news, run]);
        signal.throwIfAborted();
      }
    } finally {
      this.#watching.delete(told);
      signal.removeEventListener('abort', told);
    }
    if (failure) throw failure.error;
    yield { commits: this.#commits, instances: this.#instances, done: true };
  }

  #tell(): void {
    for (const wake of this.#watching) wake();
  }

  async #rebuild(): Promise<void> {
    const { data, store, follower, log } = this.#options;
    const began = performance.now();
    this.#commits = this.#instances = 0;
    await store.tidy?.();
    const rebuilding = await store.beginRebuild();
    const catchUp = async (): Promise<void> => {
      for (const tenant of new Set([...follower.tenants, ...(await store.tenants())]))
        await foldToHeads(data, rebuilding, tenant, this.#stop.signal, (result) => {
          this.#commits += result.commits;
          this.#instances += result.instances;
          this.#tell();
        });
    };
    try {
      await catchUp();
      // The old one stands still for the last few commits, so that nothing that a sender was shown goes missing for a moment.
      await follower.paused(async () => {
        await catchUp();
        await rebuilding.complete();
      });
    } catch (error) {
      await rebuilding.abandon();
      throw error;
    }
    const seconds = Math.round((performance.now() - began) / 1000);
    log.info({ commits: this.#commits, instances: this.#instances, seconds }, 'the index is rebuilt');
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running?.catch(() => {}); // it was told to stop
  }
}
