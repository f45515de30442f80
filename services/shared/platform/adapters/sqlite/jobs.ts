import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { type ErrorCode, GantryError, toGantryError } from '../../errors.ts';
import type { Jobs } from '../../ports.ts';
import type { Claimed, Limits } from './job-store.ts';
import type { JobAnswer, JobRequest } from './jobs.worker.ts';

// A clock that was set back must not leave a job waiting for hours.
const LOOK_AGAIN_MS = 30_000;

export interface JobsRunning extends Jobs {
  close(): Promise<void>;
}

export async function sqliteJobs(path: string, limits: () => Limits, log: Logger): Promise<JobsRunning> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  let store: StoreThread;
  try {
    store = await StoreThread.open(path);
  } catch (error) {
    if (error instanceof GantryError && error.code === 'failed-precondition') throw error;
    // A queue may be lost (ports.ts); a start that fails because of one may not. What is damaged is kept for a person to look at.
    const aside = `${path}.damaged-${Date.now()}`;
    renameSync(path, aside);
    for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
    log.error({ file: aside }, 'the job queue could not be read: it was moved aside, and an empty one begins');
    store = await StoreThread.open(path);
  }
  const queues = new Map<string, Set<() => void>>();
  const poke = (queue: string) => {
    for (const look of queues.get(queue) ?? []) look();
  };
  const stops = new Set<() => Promise<void>>();

  return {
    async add(job) {
      const added = (await store.ask('add', { ...job, notBefore: job.notBefore ?? 0 }, limits())) as boolean;
      poke(job.queue);
      return { added };
    },
    work(queue, options, handler) {
      const running = new Map<number, { abort: AbortController; settled: Promise<void> }>();
      let stopped = false;
      let looking = false;
      let lookAgain = false;
      let timer: NodeJS.Timeout | undefined;

      const run = async (claimed: Claimed, signal: AbortSignal) => {
        const { id, key, tenant, attempt } = claimed;
        try {
          await handler({ queue, key, tenant, payload: Buffer.from(claimed.payload), attempt, signal });
          await store.ask('done', id);
        } catch (error) {
          if (stopped && signal.aborted) return void (await store.ask('release', id));
          const dead = attempt >= options.attemptsMax;
          const wait = options.backoffMs[Math.min(attempt, options.backoffMs.length) - 1] ?? 0;
          const { code, message } = toGantryError(error);
          log[dead ? 'error' : 'warn'](
            { err: error, queue, attempt, dead },
            dead ? 'a job failed for the last time: it waits for a person' : 'a job failed',
          );
          await store.ask('failed', id, `${code}: ${message}`, Date.now() + wait, dead);
        }
      };
      const look = async () => {
        if (stopped) return;
        if (looking) return void (lookAgain = true);
        looking = true;
        clearTimeout(timer);
        try {
          do {
            lookAgain = false;
            const free = options.concurrency - running.size;
            if (free <= 0) break;
            const { jobs, nextAt } = (await store.ask('claim', queue, free, options.attemptsMax, Date.now())) as {
              jobs: Claimed[];
              nextAt: number | null;
            };
            for (const job of jobs) begin(job);
            timer = setTimeout(look, Math.max(0, Math.min((nextAt ?? Infinity) - Date.now(), LOOK_AGAIN_MS)));
          } while (lookAgain && !stopped);
        } catch (error) {
          if (!stopped) {
            log.error({ err: error, queue }, 'the job queue does not answer');
            timer = setTimeout(look, 1_000);
          }
        } finally {
          looking = false;
        }
      };
      const begin = (job: Claimed) => {
        const abort = new AbortController();
        if (stopped) abort.abort(new GantryError('cancelled', 'the process is stopping'));
        const settled = run(job, abort.signal)
          .catch((error) =>
            log.error(
              { err: error, queue },
              'the outcome of a job could not be kept: it will run again after a restart',
            ),
          )
          .then(() => {
            running.delete(job.id);
            void look();
          });
        running.set(job.id, { abort, settled });
      };
      let looks = queues.get(queue);
      if (!looks) queues.set(queue, (looks = new Set()));
      looks.add(look);
      void look();

      const stop = async () => {
        stopped = true;
        clearTimeout(timer);
        queues.get(queue)?.delete(look);
        for (const { abort } of running.values()) abort.abort(new GantryError('cancelled', 'the process is stopping'));
        while (looking || running.size > 0) {
          await Promise.all([...running.values()].map(({ settled }) => settled));
          if (looking) await new Promise((resolve) => setImmediate(resolve));
        }
        stops.delete(stop);
      };
      stops.add(stop);
      return stop;
    },
    async list(queue) {
      const rows = (await store.ask('list', queue)) as Awaited<ReturnType<Jobs['list']>>;
      return rows.map((row) => ({ ...row, payload: Buffer.from(row.payload) }));
    },
    async retry(queue, key) {
      const found = (await store.ask('retry', queue, key, Date.now())) as boolean;
      poke(queue);
      return found;
    },
    remove: (queue, key) => store.ask('remove', queue, key) as Promise<boolean>,
    async close() {
      await Promise.all([...stops].map((stop) => stop()));
      await store.close();
    },
  };
}

/** The worker thread and the questions that it has not answered yet. */
class StoreThread {
  readonly #worker: Worker;
  readonly #asked = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 1;
  #gone: Error | undefined;

  private constructor(path: string) {
    this.#worker = new Worker(new URL('./jobs.worker.ts', import.meta.url), { workerData: { path } });
    this.#worker.on('message', ({ id, value, error }: JobAnswer) => {
      const asked = this.#asked.get(id);
      this.#asked.delete(id);
      if (error)
        asked?.reject(
          new GantryError(
            (error.code ?? 'internal') as ErrorCode,
            error.code ? error.message : `the job queue failed: ${error.message}`,
          ),
        );
      else asked?.resolve(value);
    });
    const end = (error: Error) => {
      this.#gone ??= error;
      for (const { reject } of this.#asked.values()) reject(error);
      this.#asked.clear();
    };
    this.#worker.on('error', (error) => end(error as Error));
    this.#worker.on('exit', () => end(new GantryError('unavailable', 'the job queue is closed')));
  }

  static async open(path: string): Promise<StoreThread> {
    const store = new StoreThread(path);
    await new Promise<unknown>((resolve, reject) => store.#asked.set(0, { resolve, reject }));
    return store;
  }

  ask(method: JobRequest['method'], ...args: unknown[]): Promise<unknown> {
    if (this.#gone) return Promise.reject(this.#gone);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args } satisfies JobRequest);
    });
  }

  async close(): Promise<void> {
    if (this.#gone) return;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    await this.ask('close');
    await exited;
  }
}
