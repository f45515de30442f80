import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { GantryError } from '../../errors.ts';
import type { Jobs } from '../../ports.ts';
import { QueueWorker } from '../queue-worker.ts';
import type { Limits, QueueDepth } from './job-store.ts';
import { StoreThread } from './store-thread.ts';

export interface JobsRunning extends Jobs {
  depth(): Promise<QueueDepth[]>;
  close(): Promise<void>;
}

/** Jobs on SQLite, in a thread of its own: an fsync on a busy disk takes 50 ms and more, and no association may wait for it. */
export async function sqliteJobs(path: string, limits: () => Limits, log: Logger): Promise<JobsRunning> {
  const store = await open(path, log);
  const workers = new Map<string, Set<QueueWorker<number>>>();
  const look = (queue: string) => {
    for (const worker of workers.get(queue) ?? []) worker.look();
  };

  return {
    async add(job) {
      const added = (await store.ask('add', { ...job, notBefore: job.notBefore || Date.now() }, limits())) as boolean;
      look(job.queue);
      return { added };
    },
    work(queue, options, handler) {
      const worker = new QueueWorker(store, queue, options, handler, log);
      let set = workers.get(queue);
      if (!set) workers.set(queue, (set = new Set()));
      set.add(worker);
      worker.look();
      return async () => {
        workers.get(queue)?.delete(worker);
        await worker.stop();
      };
    },
    async list(queue) {
      const rows = (await store.ask('list', queue)) as Awaited<ReturnType<Jobs['list']>>;
      return rows.map((row) => ({ ...row, payload: Buffer.from(row.payload) }));
    },
    async retry(tenant, queue, key) {
      const found = (await store.ask('retry', tenant, queue, key, Date.now())) as boolean;
      look(queue);
      return found;
    },
    remove: (tenant, queue, key) => store.ask('remove', tenant, queue, key) as Promise<boolean>,
    depth: () => store.ask('depth', Date.now()) as Promise<QueueDepth[]>,
    async close() {
      await Promise.all([...workers.values()].flatMap((set) => [...set].map((worker) => worker.stop())));
      await store.close();
    },
  };
}

async function open(path: string, log: Logger): Promise<StoreThread> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    return await StoreThread.open(path);
  } catch (error) {
    if (!(error instanceof GantryError) || error.code !== 'damaged') throw error;
  }
  // A queue may be lost (ports.ts); a start that fails because of one may not. What is damaged is kept for a person to look at.
  const aside = `${path}.damaged-${Date.now()}`;
  renameSync(path, aside);
  for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
  log.error({ file: aside }, 'the job queue is damaged: it was moved aside, and an empty one begins');
  return StoreThread.open(path);
}
