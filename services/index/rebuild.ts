import { setTimeout as pause } from 'node:timers/promises';
import { systemCall } from '#platform/call.ts';
import { toGantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import type { Service } from '#platform/rpc.types.ts';
import type { RebuildProgress } from '#proto/index/v1/index.ts';
import type { DataService } from '#proto/storage/v1/storage.ts';
import { type Follower, foldLog } from './follow.ts';
import type { Reading } from './lanes.ts';
import type { IndexStore } from './ports.ts';

export interface RebuilderOptions {
  data: Pick<Service<typeof DataService>, 'readLog' | 'heads'>;
  store: IndexStore;
  follower: Follower;
  log: Context['log'];
  /** Runs the work while no other process rebuilds the same index; absent: there is no other. */
  alone?: (signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>) => Promise<void>;
}

/** The log did not answer: what was folded until then is whole, so reading may go on behind it. Of a failed fold nobody can say that. */
class LogAway extends Error {}

function patientLog(data: RebuilderOptions['data']): RebuilderOptions['data'] {
  const told = (error: unknown): unknown => {
    const { code } = toGantryError(error);
    return code === 'unavailable' || code === 'deadline-exceeded'
      ? new LogAway('the log is away', { cause: error })
      : error;
  };
  return {
    async *readLog(call, request) {
      try {
        yield* data.readLog(call, request);
      } catch (error) {
        throw told(error);
      }
    },
    async heads(call, request) {
      try {
        return await data.heads(call, request);
      } catch (error) {
        throw told(error);
      }
    },
  };
}

/** A disk that is full now may be full in a second. */
const RETRY_MS = 60_000;
/** Everybody waits for the last reading, so it is to be short: the log is read again until a reading took no longer. */
const SHORT_MS = 1_000;
const READINGS_MAX = 10;
/** A rebuild takes hours, and the log that it reads may be away for a while: so long nothing may move before it is given up. */
const AWAY_MS = 15 * 60_000;
/** Behind the fence nobody else folds either. */
const AWAY_FENCED_MS = 60_000;
const AGAIN_MS = 1_000;
/** Somebody whose folds are refused looks so often for what a killed rebuild has left. */
const FENCED_MS = 5_000;

/** Builds the index again beside the one that answers, and puts it in its place: whatever this one lacks, the log has. */
export class Rebuilder {
  readonly #options: RebuilderOptions;
  readonly #stop = new AbortController();
  readonly #watching = new Set<() => void>();
  #running: Promise<void> | undefined;
  #notBefore = 0;
  #tidying: Promise<void> | undefined;
  #tidiedMs = Number.NEGATIVE_INFINITY;
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
    const { alone = (signal, work) => work(signal) } = this.#options;
    const work = async (signal: AbortSignal): Promise<void> => {
      if (await wanted()) await this.#rebuild(signal);
    };
    this.#running ??= alone(this.#stop.signal, work).finally(() => {
      this.#running = undefined;
      this.#tell();
    });
    return this.#running;
  }

  /** A rebuild that was killed could not clean up: a later start does, or the next rebuild. */
  tidy(): void {
    const { store, log, alone = (signal, work) => work(signal) } = this.#options;
    if (!store.tidy || this.#tidying) return;
    this.#tidying = alone(this.#stop.signal, () => store.tidy!())
      .catch((error) => {
        if (!this.#stop.signal.aborted)
          log.warn({ err: error }, 'what killed rebuilds left behind could not be removed; the next start tries again');
      })
      .finally(() => {
        this.#tidying = undefined;
        this.#tidiedMs = performance.now();
      });
  }

  /** Nothing can be folded: a rebuild is about to end, or was killed then. Whoever waits for its end knows which. */
  fenced(): void {
    if (performance.now() - this.#tidiedMs < FENCED_MS) return;
    this.tidy();
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

  /** `signal` ends with the right to rebuild: what another has begun meanwhile is not ours to fence. */
  async #rebuild(signal: AbortSignal): Promise<void> {
    const { store, follower, log } = this.#options;
    const data = patientLog(this.#options.data);
    const began = performance.now();
    this.#commits = this.#instances = 0;
    await store.tidy?.();
    const rebuilding = await store.beginRebuild();
    const each = async (work: (tenant: string, positions: Map<string, number>) => Promise<void>): Promise<void> => {
      for (const tenant of new Set([...follower.tenants, ...(await store.tenants())]))
        await work(tenant, await rebuilding.positions(tenant));
    };
    const read = (tenant: string, reading: Reading): Promise<void> =>
      foldLog(data, tenant, reading, rebuilding.fold, signal, (result) => {
        this.#commits += result.commits;
        this.#instances += result.instances;
        this.#tell();
      });
    try {
      for (let readings = 1, beganMs = performance.now(); ; readings++, beganMs = performance.now()) {
        await this.#patiently(AWAY_MS, signal, () =>
          each((tenant, positions) => read(tenant, { positions, lanes: [] })),
        );
        if (performance.now() - beganMs < SHORT_MS || readings === READINGS_MAX) break;
      }
      // The old one stands still for the last few commits, in every process, so that nothing that a sender was shown goes missing for a
      // moment. What it shows is below the heads as they are then: lanes are asked for by name, so that no storage process misses any.
      await follower.paused(async () => {
        signal.throwIfAborted();
        await rebuilding.fence?.();
        await this.#patiently(AWAY_FENCED_MS, signal, () =>
          each(async (tenant, positions) => {
            const heads = await data.heads(systemCall(tenant, 'index.rebuild', signal), {});
            const behind = heads.positions.filter(({ lane, sequence }) => sequence > (positions.get(lane) ?? 0));
            const lanes = behind.map(({ lane }) => lane);
            if (lanes.length === 0) return;
            const known = lanes.flatMap((lane): [string, number][] => {
              const sequence = positions.get(lane);
              return sequence === undefined ? [] : [[lane, sequence]];
            });
            await read(tenant, { positions: new Map(known), lanes });
          }),
        );
        await rebuilding.complete();
      });
    } catch (error) {
      await rebuilding.abandon();
      throw error instanceof LogAway ? error.cause : error;
    }
    const seconds = Math.round((performance.now() - began) / 1000);
    log.info({ commits: this.#commits, instances: this.#instances, seconds }, 'the index is rebuilt');
  }

  /** Again and again while the log is away; each attempt goes on from where it is. */
  async #patiently(awayMs: number, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    let [commits, movedMs, told] = [this.#commits, performance.now(), false];
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (this.#commits > commits) [commits, movedMs, told] = [this.#commits, performance.now(), false];
        if (!(error instanceof LogAway) || signal.aborted || performance.now() - movedMs >= awayMs) throw error;
        if (!told) this.#options.log.warn({ err: error.cause }, 'a rebuild waits for the log to be there again');
        told = true;
        await pause(AGAIN_MS, undefined, { signal });
      }
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running?.catch(() => {}); // it was told to stop
  }
}
