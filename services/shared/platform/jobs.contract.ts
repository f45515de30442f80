import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GantryError } from './errors.ts';
import type { Job, JobRow, Jobs } from './ports.ts';

/** What every adapter of Jobs must do. `reopen` ends the adapter as a kill would (nothing is told) and opens its data again. */
export interface JobsFixture {
  jobs: Jobs;
  reopen(): Promise<Jobs>;
  close(): Promise<void>;
}

const ONCE = { concurrency: 1, attemptsMax: 1, backoffMs: [0] };
const payload = (text: string) => Buffer.from(text);
const add = (
  jobs: Jobs,
  key: string,
  more: { queue?: string; tenant?: string; payload?: Buffer; notBefore?: number } = {},
) => jobs.add({ queue: 'q', tenant: 'main', payload: payload(key), key, ...more });

/** Collects what a handler was given and lets a test wait for the nth. */
function collector() {
  const seen: Job[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  return {
    seen,
    take(job: Job) {
      seen.push(job);
      for (const one of waiting) if (seen.length >= one.count) one.resolve();
    },
    reached: (count: number) =>
      new Promise<void>((resolve) => (seen.length >= count ? resolve() : waiting.push({ count, resolve }))),
  };
}
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}
/** A handler that ends only when it is told to. */
const untilStopped = (job: Job) =>
  new Promise<void>((_, reject) => job.signal.addEventListener('abort', () => reject(job.signal.reason)));
/** Waits until the queue looks like this: an outcome is kept a moment after its handler ended. */
async function until(jobs: Jobs, holds: (rows: JobRow[]) => boolean, queue = 'q'): Promise<JobRow[]> {
  for (;;) {
    const rows = await jobs.list(queue);
    if (holds(rows)) return rows;
  }
}

export function jobsContract(
  name: string,
  open: (limits: { jobsMax: number; payloadMax: number }) => Promise<JobsFixture>,
): void {
  const withJobs = async (
    run: (jobs: Jobs, fixture: JobsFixture) => Promise<void>,
    limits = { jobsMax: 1_000, payloadMax: 100_000 },
  ) => {
    const fixture = await open(limits);
    try {
      await run(fixture.jobs, fixture);
    } finally {
      await fixture.close();
    }
  };

  describe(`Jobs: ${name}`, () => {
    test('a job runs once and is gone', () =>
      withJobs(async (jobs) => {
        const got = collector();
        jobs.work('q', ONCE, async (job) => got.take(job));
        assert.deepEqual(await add(jobs, 'k', { payload: Buffer.from([0, 255, 10]), tenant: 't' }), { added: true });
        await got.reached(1);
        const [job] = got.seen;
        assert.deepEqual(
          [job.queue, job.key, job.tenant, job.attempt, [...job.payload]],
          ['q', 'k', 't', 1, [0, 255, 10]],
        );
        await until(jobs, (rows) => rows.length === 0);
        assert.equal(got.seen.length, 1);
      }));

    test('jobs that were added before anybody worked run too, oldest first', () =>
      withJobs(async (jobs) => {
        for (const key of ['a', 'b', 'c']) await add(jobs, key);
        const got = collector();
        jobs.work('q', ONCE, async (job) => got.take(job));
        await got.reached(3);
        assert.deepEqual(
          got.seen.map(({ key }) => key),
          ['a', 'b', 'c'],
        );
      }));

    test('the same key is queued once; another tenant or queue is another job', () =>
      withJobs(async (jobs) => {
        assert.equal((await add(jobs, 'k')).added, true);
        assert.equal((await add(jobs, 'k', { payload: payload('later') })).added, false);
        assert.equal((await add(jobs, 'k', { tenant: 'other' })).added, true);
        assert.equal((await add(jobs, 'k', { queue: 'other' })).added, true);
        assert.deepEqual(
          (await jobs.list('q')).map(({ tenant, payload: bytes }) => [tenant, String(bytes)]),
          [
            ['main', 'k'],
            ['other', 'k'],
          ],
        );
        assert.equal((await jobs.list()).length, 3);
      }));

    test('added while it runs, it runs again: what happened after the handler looked is not lost', () =>
      withJobs(async (jobs) => {
        const got = collector();
        const { open: letGo, opened } = gate();
        jobs.work('q', ONCE, async (job) => {
          got.take(job);
          if (got.seen.length === 1) await opened;
        });
        await add(jobs, 'k', { payload: payload('first') });
        await got.reached(1);
        assert.equal((await add(jobs, 'k', { payload: payload('second') })).added, true);
        letGo();
        await got.reached(2);
        assert.deepEqual(
          got.seen.map((job) => [String(job.payload), job.attempt]),
          [
            ['first', 1],
            ['second', 1],
          ],
        );
        await until(jobs, (rows) => rows.length === 0);
      }));

    test('a job waits for its time, and an earlier wish brings it forward', () =>
      withJobs(async (jobs) => {
        const got = collector();
        jobs.work('q', ONCE, async (job) => got.take(job));
        await add(jobs, 'late', { notBefore: Date.now() + 3_600_000 });
        await add(jobs, 'soon', { notBefore: Date.now() + 30 });
        await got.reached(1);
        assert.deepEqual(
          got.seen.map(({ key }) => key),
          ['soon'],
        );
        await add(jobs, 'late', { notBefore: 0 });
        await got.reached(2);
      }));

    test('a failing job is tried again, then it is a dead letter with its last error, which a person can retry', () =>
      withJobs(async (jobs) => {
        const got = collector();
        let works = false;
        jobs.work('q', { concurrency: 1, attemptsMax: 3, backoffMs: [0, 1] }, async (job) => {
          got.take(job);
          if (!works) throw new GantryError('unavailable', 'the destination does not answer');
        });
        await add(jobs, 'k');
        const [dead] = await until(jobs, ([row]) => row?.state === 'dead');
        assert.deepEqual(
          got.seen.map(({ attempt }) => attempt),
          [1, 2, 3],
        );
        assert.equal(dead.lastError, 'unavailable: the destination does not answer');
        assert.equal(dead.attempts, 3);
        works = true;
        assert.equal(await jobs.retry('main', 'q', 'k'), true);
        await until(jobs, (rows) => rows.length === 0);
        assert.equal(got.seen.length, 4);
        assert.equal(await jobs.retry('main', 'q', 'k'), false);
      }));

    test('an unexpected error is kept without its message', () =>
      withJobs(async (jobs) => {
        jobs.work('q', ONCE, async () => {
          throw new Error('Doe^John');
        });
        await add(jobs, 'k');
        const [row] = await until(jobs, ([one]) => one?.state === 'dead');
        assert.equal(row.lastError, 'internal: an unexpected failure');
      }));

    test('a dead letter that is added again begins anew', () =>
      withJobs(async (jobs) => {
        let fail = true;
        const got = collector();
        jobs.work('q', ONCE, async (job) => {
          if (fail) throw new GantryError('unavailable', 'no');
          got.take(job);
        });
        await add(jobs, 'k');
        await until(jobs, ([row]) => row?.state === 'dead');
        fail = false;
        assert.equal((await add(jobs, 'k', { payload: payload('new') })).added, true);
        await got.reached(1);
        assert.equal(String(got.seen[0].payload), 'new');
      }));

    test('no more run at once than may', () =>
      withJobs(async (jobs) => {
        const got = collector();
        const { open: letGo, opened } = gate();
        let now = 0;
        let most = 0;
        jobs.work('q', { ...ONCE, concurrency: 3 }, async (job) => {
          most = Math.max(most, ++now);
          got.take(job);
          await opened;
          now--;
        });
        await Promise.all(Array.from({ length: 10 }, (_, n) => add(jobs, `k${n}`)));
        await got.reached(3);
        assert.equal((await jobs.list('q')).filter(({ state }) => state === 'running').length, 3);
        letGo();
        await got.reached(10);
        assert.equal(most, 3);
      }));

    test('a waiting job can be removed; one that runs cannot', () =>
      withJobs(async (jobs) => {
        await add(jobs, 'k');
        assert.equal(await jobs.remove('main', 'q', 'k'), true);
        assert.equal(await jobs.remove('main', 'q', 'k'), false);
        const got = collector();
        const { open: letGo, opened } = gate();
        jobs.work('q', ONCE, async (job) => {
          got.take(job);
          await opened;
        });
        await add(jobs, 'k');
        await got.reached(1);
        assert.equal(await jobs.remove('main', 'q', 'k'), false);
        letGo();
      }));

    test('a job of another tenant is not there: neither retried nor removed with its namesake', () =>
      withJobs(async (jobs) => {
        const tenantsOf = async () => (await jobs.list('q')).map(({ tenant }) => tenant).sort();
        await add(jobs, 'k', { tenant: 'a', notBefore: Date.now() + 3_600_000 });
        await add(jobs, 'k', { tenant: 'b', notBefore: Date.now() + 3_600_000 });
        assert.equal(await jobs.remove('c', 'q', 'k'), false);
        assert.equal(await jobs.retry('c', 'q', 'k'), false);
        const got = collector();
        jobs.work('q', ONCE, async (job) => got.take(job));
        assert.equal(await jobs.retry('b', 'q', 'k'), true);
        await got.reached(1);
        await until(jobs, (rows) => rows.length === 1);
        assert.equal(got.seen[0].tenant, 'b');
        assert.deepEqual(await tenantsOf(), ['a']);
        assert.equal(await jobs.remove('a', 'q', 'k'), true);
        assert.deepEqual(await tenantsOf(), []);
      }));

    test('stopping tells the handler, and the interrupted attempt does not count', () =>
      withJobs(async (jobs) => {
        const got = collector();
        const stop = jobs.work('q', ONCE, async (job) => {
          got.take(job);
          await untilStopped(job);
        });
        await add(jobs, 'k');
        await got.reached(1);
        await stop();
        const [row] = await jobs.list('q');
        assert.deepEqual([row.state, row.attempts], ['waiting', 0]);
        jobs.work('q', ONCE, async (job) => got.take(job));
        await got.reached(2);
      }));

    test('after a kill everything is there, and what ran runs again', () =>
      withJobs(async (jobs, fixture) => {
        const got = collector();
        jobs.work('q', { ...ONCE, attemptsMax: 2 }, (job) => {
          got.take(job);
          return untilStopped(job);
        });
        await add(jobs, 'ran');
        await got.reached(1);
        await add(jobs, 'waited', { queue: 'other' });
        const again = await fixture.reopen();
        assert.deepEqual(
          (await again.list()).map(({ key, state }) => [key, state]),
          [
            ['waited', 'waiting'],
            ['ran', 'waiting'],
          ],
        );
        const second = collector();
        again.work('q', { ...ONCE, attemptsMax: 2 }, async (job) => second.take(job));
        await second.reached(1);
        assert.deepEqual([second.seen[0].key, second.seen[0].attempt], ['ran', 2]);
      }));

    test('a job that kills its process every time ends as a dead letter', () =>
      withJobs(async (jobs, fixture) => {
        const got = collector();
        const never = (job: Job) => {
          got.take(job);
          return untilStopped(job);
        };
        jobs.work('q', ONCE, never);
        await add(jobs, 'k');
        await got.reached(1);
        const again = await fixture.reopen();
        again.work('q', ONCE, never);
        const [row] = await until(again, ([one]) => one?.state === 'dead');
        assert.match(row.lastError, /process ended/);
        assert.equal(got.seen.length, 1);
      }));

    test('platform.jobPayloadMax and platform.jobsMax refuse', () =>
      withJobs(
        async (jobs) => {
          await assert.rejects(add(jobs, 'big', { payload: Buffer.alloc(11) }), { code: 'too-large' });
          await add(jobs, 'a');
          await add(jobs, 'b');
          await assert.rejects(add(jobs, 'c'), { code: 'no-permit' });
          assert.equal((await add(jobs, 'a')).added, false);
          await jobs.remove('main', 'q', 'a');
          assert.equal((await add(jobs, 'c')).added, true);
        },
        { jobsMax: 2, payloadMax: 10 },
      ));
  });
}
