import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import pino from 'pino';
import { ulid } from 'ulid';
import { type NatsServers, type ServerNode, startNats } from '../../../../../tools/servers/index.ts';
import { GantryError } from '../../errors.ts';
import { natsJobs } from './jobs.ts';
import { natsKeyValue } from './key-value.ts';
import { natsLease } from './lease.ts';
import { NatsLink } from './link.ts';
import { Records } from './records.ts';
import { natsWake } from './wake.ts';

// Three servers, of which one dies, stands still or comes back while work goes on.
const silent = pino({ level: 'silent' });
const CLAIM_MS = 5_000;
let nats: NatsServers;
before(async () => {
  nats = await startNats({ nodes: 3 });
});
after(() => nats.close());

function house(prefix: string, timeoutMs = 20_000) {
  const link = new NatsLink({ servers: nats.servers, prefix, replicas: 3, timeoutMs: () => timeoutMs }, silent);
  const records = (kind: string) =>
    new Records(link, { stream: `${prefix}-${kind}`, root: `${prefix}.${kind}`, bytesMax: () => 64 * 1024 * 1024 });
  const limits = () => ({ jobsMax: 100_000, payloadMax: 100_000 });
  const jobs = natsJobs(records('job'), limits, () => CLAIM_MS, silent);
  const lease = natsLease(records('lease'), () => 4_000, silent);
  return {
    link,
    jobs,
    lease,
    kv: natsKeyValue(records('kv'), () => 100_000),
    async close() {
      await jobs.close();
      lease.close();
      await link.close();
    },
  };
}

/** The server that leads this stream now. */
async function leaderOf(stream: string): Promise<ServerNode> {
  const connection = await connect({ servers: nats.servers });
  try {
    const jsm = await jetstreamManager(connection, { checkAPI: false });
    for (;;) {
      const { cluster } = await jsm.streams.info(stream);
      const node = nats.nodes.find(({ name }) => name === `nats ${cluster?.leader}`);
      if (node) return node;
    }
  } finally {
    await connection.close();
  }
}

/** As the callers do: what is refused as unavailable is asked again. Not at once: who is long gone is refused without a wait, and could never come back. */
async function insist<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GantryError) || error.code !== 'unavailable') throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

describe('NATS, three servers', () => {
  for (const how of ['kill', 'stop'] as const)
    test(`the leader of the queue is ${how === 'kill' ? 'killed' : 'stopped'} under load: every job that was taken is done, and none is queued twice`, async () => {
      const prefix = `t${ulid()}`;
      const adder = house(prefix);
      const workers = [house(prefix), house(prefix)];
      const done = new Map<string, number>();
      const JOBS = 300;
      const all = Promise.withResolvers<void>();
      const middle = Promise.withResolvers<void>();
      try {
        for (const { jobs } of workers)
          jobs.work('q', { concurrency: 4, attemptsMax: 20, backoffMs: [10, 100] }, async (job) => {
            done.set(job.key, (done.get(job.key) ?? 0) + 1);
            if (done.size === JOBS / 3) middle.resolve();
            if (done.size === JOBS) all.resolve();
          });
        const adding = (async () => {
          for (let n = 0; n < JOBS; n++) {
            const job = { queue: 'q', key: `k${n}`, tenant: 'main', payload: Buffer.from(`${n}`) };
            await insist(() => adder.jobs.add(job));
          }
        })();
        await middle.promise;
        const leader = await leaderOf(`${prefix}-job`);
        const began = performance.now();
        await leader[how]();
        await Promise.all([adding, all.promise]);
        const tookMs = Math.round(performance.now() - began);
        await leader[how === 'kill' ? 'restart' : 'cont']();
        await nats.ready();
        while ((await insist(() => adder.jobs.list('q'))).length > 0);
        const more = [...done.values()].filter((times) => times > 1).length;
        console.log(`${JOBS} jobs, the leader was gone (${how}): done ${tookMs} ms later, ${more} more than once`);
        assert.equal(done.size, JOBS);
        assert.ok(more <= 8, `${more} ran twice: no more than were in hand`);
      } finally {
        await Promise.all([adder, ...workers].map((one) => one.close()));
      }
    });

  test('a worker that dies: its job is given to another, with the attempt counted', async () => {
    const prefix = `t${ulid()}`;
    const [dying, heir] = [house(prefix), house(prefix)];
    try {
      const begun = Promise.withResolvers<void>();
      dying.jobs.work('q', { concurrency: 1, attemptsMax: 3, backoffMs: [0] }, async ({ signal }) => {
        begun.resolve();
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        throw signal.reason;
      });
      await dying.jobs.add({ queue: 'q', key: 'k', tenant: 'main', payload: Buffer.alloc(0) });
      await begun.promise;
      const taken = new Promise<number>((resolve) => {
        heir.jobs.work('q', { concurrency: 1, attemptsMax: 3, backoffMs: [0] }, async (job) => resolve(job.attempt));
      });
      const began = performance.now();
      await dying.link.close(); // nothing more is heard of it
      assert.equal(await taken, 2);
      assert.ok(performance.now() - began > CLAIM_MS / 2, 'not while it may live');
      while ((await heir.jobs.list('q')).length > 0);
    } finally {
      await Promise.all([dying.close(), heir.close()]);
    }
  });

  test('a holder that is cut off is told before another may have the lease', async () => {
    const prefix = `t${ulid()}`;
    const [a, b] = [house(prefix), house(prefix)];
    const never = new AbortController().signal;
    try {
      const held = Promise.withResolvers<void>();
      let toldAt = 0;
      const holding = a.lease.hold('x', never, async (signal) => {
        held.resolve();
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
        toldAt = performance.now();
      });
      await held.promise;
      let takenAt = 0;
      const taking = b.lease.hold('x', never, async () => {
        takenAt = performance.now();
      });
      await a.link.close();
      await Promise.all([holding, taking]);
      assert.ok(toldAt > 0 && takenAt > toldAt, `told at ${toldAt}, taken at ${takenAt}`);
    } finally {
      await Promise.all([a.close(), b.close()]);
    }
  });

  test('a holder keeps its lease through a change of leaders or is told; two never hold it', async () => {
    const prefix = `t${ulid()}`;
    const houses = [house(prefix), house(prefix)];
    const stop = new AbortController();
    let holders = 0;
    let turns = 0;
    const twice: number[] = [];
    const wanted = Promise.withResolvers<void>();
    const first = Promise.withResolvers<void>();
    try {
      const work = async (signal: AbortSignal) => {
        if (++holders > 1) twice.push(turns);
        turns++;
        first.resolve();
        if (turns === 6) wanted.resolve();
        // As long as a renewal takes and longer.
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, 1_500);
          const end = () => {
            clearTimeout(timer);
            resolve();
          };
          signal.addEventListener('abort', end, { once: true });
        });
        holders--;
      };
      const loops = houses.map(async ({ lease }) => {
        try {
          while (!stop.signal.aborted) await lease.hold('x', stop.signal, work);
        } catch (error) {
          if (!stop.signal.aborted) throw error; // one that waited was told to stop
        }
      });
      await first.promise;
      const leader = await leaderOf(`${prefix}-lease`);
      await leader.kill();
      await wanted.promise;
      stop.abort();
      await Promise.all(loops);
      assert.deepEqual(twice, []);
      await leader.restart();
      await nats.ready();
    } finally {
      await Promise.all(houses.map((one) => one.close()));
    }
  });

  test('facts that were acknowledged outlive their leader, and compare-and-set still counts', async () => {
    const prefix = `t${ulid()}`;
    const one = house(prefix);
    try {
      let revision = 0;
      let acknowledged = -1;
      const set = async (n: number) => {
        // An answer that was lost may have happened: then the next one starts from what is there.
        try {
          revision = await one.kv.put('main', 'counter', Buffer.from(`${n}`), revision);
        } catch (error) {
          if (!(error instanceof GantryError) || !['unavailable', 'conflict'].includes(error.code)) throw error;
          const present = await insist(() => one.kv.get('main', 'counter'));
          assert.ok(Number(present?.value) >= acknowledged, 'what was acknowledged is there');
          revision = present?.revision ?? 0;
          return set(n);
        }
        acknowledged = n;
      };
      for (let n = 0; n < 50; n++) await set(n);
      const leader = await leaderOf(`${prefix}-kv`);
      const killed = leader.kill();
      for (let n = 50; n < 100; n++) await set(n);
      await killed;
      assert.equal(String((await insist(() => one.kv.get('main', 'counter')))?.value), '99');
      await leader.restart();
      await nats.ready();
    } finally {
      await one.close();
    }
  });

  test('streams that are wanted while a server is away are made, or unavailable and made later: nothing else is ever said', async () => {
    const [away] = nats.nodes;
    await away.kill();
    // Whether one can be made is decided by how much of the loss the other two have noticed: some of these meet each case.
    const houses = Array.from({ length: 8 }, () => house(`t${ulid()}`, 1_000));
    try {
      const kept = houses.map(({ kv }) => insist(() => kv.put('main', 'k', Buffer.from('v'))));
      await Promise.race(kept);
      await away.restart();
      await Promise.all(kept);
      for (const { kv } of houses) {
        const fact = await insist(() => kv.get('main', 'k'));
        assert.equal(fact?.value.toString(), 'v');
      }
    } finally {
      await Promise.all(houses.map((one) => one.close()));
    }
  });

  test('wakes reach other processes, also after their server died', async () => {
    const prefix = `t${ulid()}`;
    const links = [0, 1].map(
      () => new NatsLink({ servers: nats.servers, prefix, replicas: 3, timeoutMs: () => 20_000 }, silent),
    );
    const [from, to] = links.map((link) => natsWake(link, silent));
    try {
      await Promise.all(links.map((link) => link.whenUp(20_000)));
      const heard = new Set<string>();
      const waiting = new Map<string, () => void>();
      to.subscribe('log.committed', (tenant, payload) => {
        heard.add(`${tenant} ${payload}`);
        waiting.get(`${tenant} ${payload}`)?.();
      });
      // At most once, so the sender goes on until it was heard, as a follower polls.
      const arrives = async (text: string) => {
        const arrived = new Promise<void>((resolve) => waiting.set(`main ${text}`, resolve));
        const again = setInterval(() => from.publish('log.committed', 'main', Buffer.from(text)), 20);
        await arrived;
        clearInterval(again);
      };
      await arrives('1');
      const server = links[1].connection?.getServer();
      const node = nats.nodes.find(({ url }) => url === server);
      assert.ok(node, `it is connected to ${server}`);
      await node.kill();
      await arrives('2');
      await node.restart();
      await nats.ready();
    } finally {
      from.close();
      to.close();
      await Promise.all(links.map((link) => link.close()));
    }
  });
});
