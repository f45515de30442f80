import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import pino from 'pino';
import { freePorts, type NatsServers, startNats, temporaryFolder } from '../../../../../tools/servers/index.ts';
import { createMetrics } from '../../metrics.ts';
import { defaultsOf, LiveSettings } from '../../setting-values.ts';
import { platformSettings } from '../../settings.ts';
import { openPlatform } from '../open.ts';

// A process that begins before NATS, outlives it, and finds it again.
const silent = pino({ level: 'silent' });
const unavailable = { code: 'unavailable' };

async function open(servers: string[], changes: Record<string, unknown> = {}) {
  const values = defaultsOf(platformSettings);
  const given = { natsServers: servers, natsStartWaitMs: 50, natsTimeoutMs: 500, ...changes };
  for (const [key, value] of Object.entries(given)) values.set(`platform.${key}`, value);
  const metrics = createMetrics();
  const platform = await openPlatform(new LiveSettings(platformSettings, values), '/nonexistent', silent, metrics);
  return {
    ...platform,
    metrics,
    async end() {
      await platform.close();
      await metrics.close();
    },
  };
}
const job = (key: string) => ({ queue: 'q', key, tenant: 'main', payload: Buffer.from(key) });

test('a process starts without NATS, says so, wakes itself, and works once NATS is there; what NATS took outlives its kill', async () => {
  const [port] = await freePorts(1);
  const platform = await open([`127.0.0.1:${port}`]);
  let nats: NatsServers | undefined;
  try {
    const state = () => platform.checks[0].check();
    assert.deepEqual([platform.checks[0].module, state().ready], ['nats', true]);
    assert.match(state().detail, /not connected/);
    assert.match(await platform.metrics.expose(), /gantry_nats_connected.* 0/);

    const woken = new Promise<string>((resolve) =>
      platform.wake.subscribe('log.committed', (tenant) => resolve(tenant)),
    );
    platform.wake.publish('log.committed', 'main', Buffer.alloc(0));
    assert.equal(await woken, 'main');
    await assert.rejects(platform.kv.get('main', 'k'), unavailable);
    await assert.rejects(platform.jobs.add(job('early')), unavailable);
    let ran: (key: string) => void = () => {};
    const next = () => new Promise<string>((resolve) => (ran = resolve));
    const stop = platform.jobs.work('q', { concurrency: 1, attemptsMax: 3, backoffMs: [0] }, async ({ key }) =>
      ran(key),
    );
    const held = new Promise<void>((resolve) => {
      void platform.lease.hold('x', new AbortController().signal, async () => resolve());
    });

    nats = await startNats({ ports: [port] });
    await held;
    const first = next();
    await platform.jobs.add(job('first'));
    assert.equal(await first, 'first');
    assert.match(state().detail, /^connected/);
    assert.match(await platform.metrics.expose(), /gantry_jobs\{[^}]*queue="q"[^}]*\} 0/);
    await platform.kv.put('main', 'fact', Buffer.from('kept'), 0);

    await stop();
    await platform.jobs.add(job('kept'));
    await nats.nodes[0].kill();
    await assert.rejects(platform.kv.get('main', 'fact'), unavailable);
    const kept = next();
    platform.jobs.work('q', { concurrency: 1, attemptsMax: 3, backoffMs: [0] }, async ({ key }) => ran(key));
    await nats.nodes[0].restart();
    assert.equal(await kept, 'kept');
    assert.equal((await platform.kv.get('main', 'fact'))?.value.toString(), 'kept');
  } finally {
    await platform.end();
    await nats?.close();
  }
});

test('NATS that lost all its data is written to again, by who wrote to it before', async () => {
  const folder = temporaryFolder('nats-lost');
  const nats = await startNats({ dir: folder.path });
  const platform = await open(nats.servers, { natsTimeoutMs: 10_000 });
  try {
    await platform.kv.put('main', 'k', Buffer.from('before'));
    await nats.nodes[0].kill();
    rmSync(folder.path, { recursive: true });
    await nats.nodes[0].restart();
    // Nothing is read first: to who writes, nobody says that the stream is gone.
    assert.equal(await platform.kv.put('main', 'k', Buffer.from('after')), 1);
  } finally {
    await platform.end();
    await nats.close();
    folder.remove();
  }
});

test('a token is read from its file at each connection: a wrong one is no reason to give up', async () => {
  const folder = temporaryFolder('nats-token');
  const nats = await startNats({ token: 'a-right-token' });
  const natsTokenFile = join(folder.path, 'token');
  writeFileSync(natsTokenFile, 'a-wrong-token\n');
  const platform = await open(nats.servers, { natsTokenFile });
  try {
    await assert.rejects(platform.kv.get('main', 'k'), unavailable);
    writeFileSync(natsTokenFile, 'a-right-token\n');
    for (;;) {
      try {
        assert.equal(await platform.kv.get('main', 'k'), undefined);
        break;
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'unavailable');
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  } finally {
    await platform.end();
    await nats.close();
    folder.remove();
  }
});

test('a file of a secret that cannot be read, and a prefix that is none, stop the start with a sentence', async () => {
  const refused = { code: 'failed-precondition' };
  await assert.rejects(open(['127.0.0.1:1'], { natsTokenFile: '/nonexistent/token' }), refused);
  await assert.rejects(open(['127.0.0.1:1'], { natsPrefix: 'a.b' }), refused);
});
