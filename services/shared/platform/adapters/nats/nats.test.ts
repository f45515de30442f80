import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { ulid } from 'ulid';
import { type NatsServers, startNats } from '../../../../../tools/servers/index.ts';
import { jobsContract } from '../../jobs.contract.ts';
import { keyValueContract } from '../../key-value.contract.ts';
import { leaseContract } from '../../lease.contract.ts';
import { wakeContract } from '../../wake.contract.ts';
import { natsJobs } from './jobs.ts';
import { natsKeyValue } from './key-value.ts';
import { natsLease } from './lease.ts';
import { NatsLink } from './link.ts';
import { Records } from './records.ts';
import { natsWake } from './wake.ts';

// The contracts of the embedded adapters, against a real server.
const silent = pino({ level: 'silent' });
let nats: NatsServers;
before(async () => {
  nats = await startNats();
});
after(() => nats.close());

const CLAIM_MS = 600;
/** Each test has its streams for itself. */
const prefix = () => `t${ulid()}`;
const link = (name: string) =>
  new NatsLink({ servers: nats.servers, prefix: name, replicas: 1, timeoutMs: () => 10_000 }, silent);
const records = (on: NatsLink, kind: string) =>
  new Records(on, {
    stream: `${on.options.prefix}-${kind}`,
    root: `${on.options.prefix}.${kind}`,
    bytesMax: () => 16 * 1024 * 1024,
  });

jobsContract('NATS', async (limits) => {
  const name = prefix();
  const open = () => {
    const own = link(name);
    return {
      own,
      jobs: natsJobs(
        records(own, 'job'),
        () => limits,
        () => CLAIM_MS,
        silent,
      ),
    };
  };
  const opened = [open()];
  return {
    jobs: opened[0].jobs,
    async reopen() {
      // Its connection ends, and nobody is told.
      await opened[0].own.close();
      opened.push(open());
      const { jobs } = opened[1];
      while ((await jobs.list()).some(({ state }) => state === 'running'));
      return jobs;
    },
    async close() {
      for (const { jobs, own } of opened) {
        await jobs.close();
        await own.close();
      }
    },
  };
});

keyValueContract('NATS', async (valueMax) => {
  const name = prefix();
  const links: NatsLink[] = [];
  const open = () => {
    const own = link(name);
    links.push(own);
    return natsKeyValue(records(own, 'kv'), () => valueMax);
  };
  return {
    kv: open(),
    reopen: async () => open(),
    close: async () => void (await Promise.all(links.map((own) => own.close()))),
  };
});

leaseContract('NATS', async () => {
  const name = prefix();
  const links = [link(name), link(name)];
  const leases = links.map((own) => natsLease(records(own, 'lease'), () => 2_000, silent));
  return {
    leases: [leases[0], leases[1]],
    async close() {
      for (const lease of leases) lease.close();
      await Promise.all(links.map((own) => own.close()));
    },
  };
});

wakeContract('NATS', async () => {
  const own = link(prefix());
  const wake = natsWake(own, silent);
  return {
    wake,
    async close() {
      wake.close();
      await own.close();
    },
  };
});

test('200 jobs that end as they should are nobody’s loss: the word that ends one comes back on the stream before its answer', async () => {
  const lines: string[] = [];
  const own = link(prefix());
  const heard = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
  const limits = () => ({ jobsMax: 1_000, payloadMax: 1_000 });
  const jobs = natsJobs(records(own, 'job'), limits, () => CLAIM_MS, heard);
  const all = Promise.withResolvers<void>();
  let done = 0;
  const stop = jobs.work('q', { concurrency: 4, attemptsMax: 3, backoffMs: [10] }, async () => {
    if (++done === 200) all.resolve();
  });
  for (let n = 0; n < 200; n++)
    await jobs.add({ queue: 'q', tenant: 'main', key: String(n), payload: Buffer.alloc(0) });
  await all.promise;
  await stop();
  await jobs.close();
  await own.close();
  assert.deepEqual(lines, []);
});
