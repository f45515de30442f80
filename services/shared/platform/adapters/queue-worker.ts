import type { Logger } from 'pino';
import { GantryError, toGantryError } from '../errors.ts';
import type { Job } from '../ports.ts';

// A clock that was set back must not leave a job waiting for hours.
const LOOK_AGAIN_MS = 30_000;
const STORE_RETRY_MS = 1_000;

export interface WorkOptions {
  concurrency: number;
  attemptsMax: number;
  backoffMs: number[];
}

export interface Claimed<Id> {
  id: Id;
  key: string;
  tenant: string;
  payload: Uint8Array;
  attempt: number;
  /** Aborts when another process was given the job: this one counts for dead. */
  lost?: AbortSignal;
}

/** Where the jobs are: SQLite's thread, or a stream of NATS. */
export interface JobSource<Id> {
  /** Takes up to `count` jobs that are due; `nextAt` says when the next one will be. */
  claim(
    queue: string,
    count: number,
    attemptsMax: number,
    now: number,
  ): Promise<{ jobs: Claimed<Id>[]; nextAt: number | null }>;
  done(id: Id): Promise<unknown>;
  failed(id: Id, error: string, notBefore: number, dead: boolean): Promise<unknown>;
  /** It was interrupted by our own stop: that attempt does not count. */
  release(id: Id): Promise<unknown>;
}

/** One `work`: claims what is due, up to its concurrency, and keeps each outcome. */
export class QueueWorker<Id = unknown> {
  readonly #source: JobSource<Id>;
  readonly #queue: string;
  readonly #options: WorkOptions;
  readonly #handler: (job: Job) => Promise<void>;
  readonly #log: Logger;
  readonly #running = new Map<Id, { abort: AbortController; settled: Promise<void> }>();
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(
    source: JobSource<Id>,
    queue: string,
    options: WorkOptions,
    handler: (job: Job) => Promise<void>,
    log: Logger,
  ) {
    this.#source = source;
    this.#queue = queue;
    this.#options = options;
    this.#handler = handler;
    this.#log = log;
  }

  /** Called whenever something may be due: a job was added, one ended, a time has come. */
  look(): void {
    if (this.#stopped) return;
    this.#lookAgain = true;
    this.#looking ??= this.#lookAround().finally(() => {
      this.#looking = undefined;
      // Somebody may have asked between the last look and this line.
      if (this.#lookAgain) this.look();
    });
  }

  async #lookAround(): Promise<void> {
    try {
      while (this.#lookAgain && !this.#stopped) {
        this.#lookAgain = false;
        clearTimeout(this.#timer);
        const free = this.#options.concurrency - this.#running.size;
        if (free <= 0) return; // the end of a running job looks again
        const { jobs, nextAt } = await this.#source.claim(this.#queue, free, this.#options.attemptsMax, Date.now());
        for (const job of jobs) this.#begin(job);
        this.#wakeIn(Math.min((nextAt ?? Infinity) - Date.now(), LOOK_AGAIN_MS));
      }
    } catch (error) {
      this.#lookAgain = false;
      if (this.#stopped) return;
      this.#log.error({ err: error, queue: this.#queue }, 'the job queue does not answer');
      this.#wakeIn(STORE_RETRY_MS);
    }
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(() => this.look(), Math.max(0, ms));
  }

  #begin(job: Claimed<Id>): void {
    const abort = new AbortController();
    job.lost?.addEventListener('abort', () => abort.abort(job.lost?.reason), { once: true });
    if (this.#stopped) abort.abort(stopping());
    const settled = this.#run(job, abort.signal)
      .catch((error) =>
        this.#log.error(
          { err: error, queue: this.#queue },
          'the outcome of a job could not be kept: it will run again after a restart',
        ),
      )
      .then(() => {
        this.#running.delete(job.id);
        this.look();
      });
    this.#running.set(job.id, { abort, settled });
  }

  async #run(claimed: Claimed<Id>, signal: AbortSignal): Promise<void> {
    const { id, key, tenant, attempt } = claimed;
    const { attemptsMax, backoffMs } = this.#options;
    const queue = this.#queue;
    try {
      if (signal.aborted) throw signal.reason;
      await this.#handler({ queue, key, tenant, payload: Buffer.from(claimed.payload), attempt, signal });
    } catch (error) {
      if (signal.aborted) {
        await this.#source.release(id);
        return;
      }
      const dead = attempt >= attemptsMax;
      const wait = backoffMs[Math.min(attempt, backoffMs.length) - 1] ?? 0;
      const { code, message } = toGantryError(error);
      if (dead)
        this.#log.error({ err: error, queue, attempt }, 'a job failed for the last time: it waits for a person');
      else this.#log.warn({ err: error, queue, attempt, waitMs: wait }, 'a job failed and is tried again');
      await this.#source.failed(id, `${code}: ${message}`, Date.now() + wait, dead);
      return;
    }
    await this.#source.done(id);
  }

  /** What runs is told to end; what ends by that runs again later, and the attempt does not count. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    for (const { abort } of this.#running.values()) abort.abort(stopping());
    // A claim on its way may still bring jobs: they are begun aborted and released.
    while (this.#looking || this.#running.size > 0)
      await Promise.all([this.#looking, ...[...this.#running.values()].map(({ settled }) => settled)]);
    clearTimeout(this.#timer);
  }
}

const stopping = () => new GantryError('cancelled', 'the process is stopping');
