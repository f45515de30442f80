import { Worker } from 'node:worker_threads';
import { type ErrorCode, GantryError } from '../../errors.ts';
import type { JobSource } from '../queue-worker.ts';
import type { Claimed } from './job-store.ts';
import type { JobAnswer, JobRequest } from './jobs.worker.ts';

/** The thread that owns the queue's database, and the questions that it has not answered yet. */
export class StoreThread implements JobSource<number> {
  readonly #worker: Worker;
  readonly #asked = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 1;
  #gone: Error | undefined;

  private constructor(path: string) {
    this.#worker = new Worker(new URL('./jobs.worker.ts', import.meta.url), { workerData: { path }, execArgv: [] });
    this.#worker.on('message', ({ id, value, error }: JobAnswer) => {
      const asked = this.#asked.get(id);
      this.#asked.delete(id);
      if (!error) asked?.resolve(value);
      else if (error.code) asked?.reject(new GantryError(error.code as ErrorCode, error.message));
      else asked?.reject(new GantryError('internal', `the job queue failed: ${error.message}`));
    });
    const end = (error: Error) => {
      this.#gone ??= error;
      for (const { reject } of this.#asked.values()) reject(error);
      this.#asked.clear();
    };
    this.#worker.on('error', (cause) =>
      end(new GantryError('internal', 'the thread of the job queue failed', { cause })),
    );
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

  claim(
    queue: string,
    count: number,
    attemptsMax: number,
    now: number,
  ): Promise<{ jobs: Claimed[]; nextAt: number | null }> {
    return this.ask('claim', queue, count, attemptsMax, now) as Promise<{ jobs: Claimed[]; nextAt: number | null }>;
  }

  done(id: number): Promise<unknown> {
    return this.ask('done', id);
  }
  failed(id: number, error: string, notBefore: number, dead: boolean): Promise<unknown> {
    return this.ask('failed', id, error, notBefore, dead);
  }
  release(id: number): Promise<unknown> {
    return this.ask('release', id);
  }

  async close(): Promise<void> {
    if (this.#gone) return;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    await this.ask('close');
    await exited;
  }
}
