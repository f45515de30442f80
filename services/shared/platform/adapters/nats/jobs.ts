import type { Logger } from 'pino';
import { ulid } from 'ulid';
import { GantryError } from '../../errors.ts';
import type { JobRow, Jobs } from '../../ports.ts';
import { QueueWorker } from '../queue-worker.ts';
import { Beats } from './beats.ts';
import { NatsQueue } from './job-queue.ts';
import { type JobState, jobHeader, jobState, known } from './job-record.ts';
import { token } from './names.ts';
import type { Records, StoredRecord } from './records.ts';

export interface JobLimits {
  jobsMax: number;
  payloadMax: number;
}
export interface QueueCount {
  queue: string;
  state: JobRow['state'];
  count: number;
}
export interface NatsJobs extends Jobs {
  /** Of the queues that this process works on. */
  counts(): QueueCount[];
  /** How long the oldest due job has waited, by queue. */
  ages(): { queue: string; ms: number }[];
  /** `bye` false: as a kill would. */
  close(bye?: boolean): Promise<void>;
}

// A change of a record needs room before its forerunner's comes free, and what runs must be able to change: newcomers are refused before
// the stream is full, by a tenth of it or by some of the longest jobs.
const KEPT_FREE = 0.1;
const LONGEST_KEPT_FREE = 4;
/** Two that change the same job at once: one of them looks again. */
const TRIES = 50;

/**
 * Jobs as records of one stream, each changed by compare-and-set: what a record says is what is so, in every process alike. Workers hear
 * of changes, claim what is due, and take over what belonged to a process that is not heard of any more (services/adr/0055).
 */
export function natsJobs(records: Records, limits: () => JobLimits, claimMs: () => number, log: Logger): NatsJobs {
  const { root } = records.options;
  const beats = new Beats(records.link, claimMs);
  const queues = new Map<string, NatsQueue>();
  const subjectOf = (tenant: string, queue: string, key: string) =>
    `${root}.${token(queue)}.${token(tenant)}.${token(key)}`;
  beats.onBye = () => {
    for (const queue of queues.values()) queue.look();
  };

  const queueOf = (name: string): NatsQueue => {
    let queue = queues.get(name);
    if (!queue) {
      queue = new NatsQueue(records, beats, `${root}.${token(name)}.>`, log);
      queues.set(name, queue);
    }
    return queue;
  };

  let counting: Promise<number> | undefined;
  const room = async (): Promise<void> => {
    const { messages, bytes, bytesMax } = await records.size();
    const { jobsMax, payloadMax } = limits();
    const keptFree = Math.max(bytesMax * KEPT_FREE, LONGEST_KEPT_FREE * payloadMax);
    const refuse = (why: string) => new GantryError('no-permit', `the job queues hold ${why}, and no more are allowed`);
    if (bytesMax > 0 && bytes > bytesMax - keptFree) throw refuse(`${bytes} bytes`);
    if (messages < jobsMax) return;
    // Among the messages are those of jobs that are gone and will be forgotten in a minute: only a count tells.
    counting ??= records
      .list(`${root}.>`, { bodies: false })
      .then((rows) => rows.length)
      .finally(() => {
        counting = undefined;
      });
    const count = await counting;
    if (count >= jobsMax) throw refuse(`${count} jobs`);
  };

  /** Reads, decides, writes; again when somebody else wrote in between. `decide` undefined: nothing to change. */
  const change = async <T>(
    subject: string,
    decide: (
      present: JobState | undefined,
      record: StoredRecord | undefined,
    ) => Promise<{ result: T; write?: { state: JobState; payload: Uint8Array } | 'remove' }>,
  ): Promise<T> => {
    for (let tries = 1; ; tries++) {
      const record = await records.read(subject);
      const { result, write } = await decide(record && !record.gone ? known(record) : undefined, record);
      if (!write) return result;
      const expected = record?.sequence ?? 0;
      try {
        if (write === 'remove') await records.remove(subject, expected);
        else await records.write(subject, { header: jobHeader(write.state), body: write.payload }, { expected });
        return result;
      } catch (error) {
        if (!(error instanceof GantryError) || error.code !== 'conflict' || tries === TRIES) throw error;
      }
    }
  };
  /** Its process may be gone, and then it only waits to be taken over. */
  const runs = (state: JobState) => state.state === 'running' && !beats.isDead(state.owner);

  return {
    async add({ queue, key, tenant, payload, notBefore }) {
      const max = Math.min(limits().payloadMax, records.bodyMax);
      if (payload.length > max)
        throw new GantryError('too-large', `the job has ${payload.length} bytes; ${max} are allowed`);
      const at = notBefore || Date.now();
      return change<{ added: boolean }>(subjectOf(tenant, queue, key), async (present, record) => {
        if (!present) {
          await room();
          const fresh = { id: ulid(), again: false, attempts: 0, notBefore: at, lastError: '', owner: '' };
          const state: JobState = { queue, tenant, key, state: 'waiting', ...fresh };
          return { result: { added: true }, write: { state, payload } };
        }
        const kept = record as StoredRecord;
        if (present.state === 'waiting') {
          if (at >= present.notBefore) return { result: { added: false } };
          return { result: { added: false }, write: { state: { ...present, notBefore: at }, payload: kept.body } };
        }
        // What is added while it runs may have happened after the handler looked: it runs once more.
        const state: JobState =
          present.state === 'running'
            ? { ...present, again: true, notBefore: at }
            : { ...present, state: 'waiting', attempts: 0, notBefore: at };
        return { result: { added: true }, write: { state, payload } };
      });
    },
    work(name, options, handler) {
      const queue = queueOf(name);
      beats.begin();
      const worker = new QueueWorker(queue, name, options, handler, log);
      queue.enter(worker);
      return async () => {
        await queue.leave(worker);
        if (queue.idle) queues.delete(name);
      };
    },
    async list(name) {
      const found = await records.list(name === undefined ? `${root}.>` : `${root}.${token(name)}.>`, { bodies: true });
      const rows = found.flatMap((record) => {
        const state = jobState(record);
        return state ? [{ state, payload: record.body }] : [];
      });
      rows.sort(({ state: a }, { state: b }) =>
        a.queue !== b.queue ? (a.queue < b.queue ? -1 : 1) : a.id < b.id ? -1 : 1,
      );
      return rows.map(({ state, payload }) => ({
        queue: state.queue,
        key: state.key,
        tenant: state.tenant,
        state: state.state === 'running' && !runs(state) ? 'waiting' : state.state,
        attempts: state.attempts,
        notBefore: state.notBefore,
        lastError: state.lastError,
        payload,
      }));
    },
    retry: (tenant, queue, key) =>
      change<boolean>(subjectOf(tenant, queue, key), async (present, record) => {
        if (!present || runs(present)) return { result: false };
        const state: JobState = { ...present, state: 'waiting', attempts: 0, notBefore: Date.now(), owner: '' };
        return { result: true, write: { state, payload: (record as StoredRecord).body } };
      }),
    remove: (tenant, queue, key) =>
      change<boolean>(subjectOf(tenant, queue, key), async (present) =>
        !present || runs(present) ? { result: false } : { result: true, write: 'remove' },
      ),
    counts: () =>
      [...queues].flatMap(([queue, { index }]) => {
        const counts = index.counts(Date.now());
        return (['waiting', 'running', 'dead'] as const).map((state) => ({ queue, state, count: counts[state] }));
      }),
    ages: () => [...queues].map(([queue, { index }]) => ({ queue, ms: index.counts(Date.now()).oldestMs })),
    async close(bye = true) {
      await Promise.all([...queues.values()].map((queue) => queue.close()));
      beats.close(bye);
    },
  };
}
