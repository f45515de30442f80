import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pino from 'pino';
import { ulid } from 'ulid';
import { freePorts, type NatsServers, startNats } from '../../../../../tools/servers/index.ts';
import { natsJobs } from './jobs.ts';
import { natsKeyValue } from './key-value.ts';
import { NatsLink } from './link.ts';
import { textOf, token } from './names.ts';
import { Records } from './records.ts';
import { natsWake, WAKES_UNDER_WAY_MAX } from './wake.ts';

const silent = pino({ level: 'silent' });
let nats: NatsServers;
before(async () => {
  nats = await startNats();
});
after(() => nats.close());

const linkTo = (servers: string[], timeoutMs = 10_000) =>
  new NatsLink({ servers, prefix: `t${ulid()}`, replicas: 1, timeoutMs: () => timeoutMs }, silent);
const records = (on: NatsLink, bytes: number) =>
  new Records(on, { stream: `${on.options.prefix}-x`, root: `${on.options.prefix}.x`, bytesMax: () => bytes });

test('platform.natsTimeoutMs: without NATS a question is refused as unavailable, and later ones at once', async () => {
  const [port] = await freePorts(1);
  const link = linkTo([`127.0.0.1:${port}`], 300);
  const kv = natsKeyValue(records(link, 1024 * 1024), () => 100);
  const jobs = natsJobs(
    records(link, 1024 * 1024),
    () => ({ jobsMax: 10, payloadMax: 100 }),
    () => 1_000,
    silent,
  );
  try {
    await assert.rejects(kv.get('main', 'k'), { code: 'unavailable', message: /not connected/ });
    // More than the limit has passed without NATS: nobody waits for it any more.
    let waited = false;
    const tick = setTimeout(() => (waited = true), 250);
    await assert.rejects(jobs.add({ queue: 'q', key: 'k', tenant: 'main', payload: Buffer.alloc(0) }), {
      code: 'unavailable',
    });
    clearTimeout(tick);
    assert.equal(waited, false);
  } finally {
    await jobs.close();
    await link.close();
  }
});

test('platform.natsJobsBytesMax: newcomers are refused, and what is there can still be worked on', async () => {
  const link = linkTo(nats.servers);
  const jobs = natsJobs(
    records(link, 256 * 1024),
    () => ({ jobsMax: 1_000, payloadMax: 20_000 }),
    () => 1_000,
    silent,
  );
  try {
    const add = (key: string) => jobs.add({ queue: 'q', key, tenant: 'main', payload: Buffer.alloc(20_000) });
    let count = 0;
    await assert.rejects(
      async () => {
        for (;;) {
          await add(`k${count}`);
          count++;
        }
      },
      { code: 'no-permit', message: /bytes/ },
    );
    assert.ok(count >= 8 && count < 12, `${count} were taken`);
    let done = 0;
    await new Promise<void>((resolve) => {
      jobs.work('q', { concurrency: 1, attemptsMax: 1, backoffMs: [] }, async () => {
        if (++done === count) resolve();
      });
    });
    while ((await jobs.list()).length > 0);
    await add('again');
  } finally {
    await jobs.close();
    await link.close();
  }
});

test('platform.natsKeyValueBytesMax: a full bucket says so, and loses nothing', async () => {
  const link = linkTo(nats.servers);
  const kv = natsKeyValue(records(link, 128 * 1024), () => 50_000);
  try {
    const keys: string[] = [];
    await assert.rejects(
      async () => {
        for (;;) {
          await kv.put('main', `k${keys.length}`, Buffer.alloc(20_000));
          keys.push(`k${keys.length}`);
        }
      },
      { code: 'no-space' },
    );
    assert.deepEqual(
      (await kv.list('main', '')).map(({ key }) => key),
      keys,
    );
  } finally {
    await link.close();
  }
});

test('what is longer than the server takes is refused with a reason, before it is sent', async () => {
  const link = linkTo(nats.servers);
  try {
    await link.whenUp(10_000);
    const store = records(link, 8 * 1024 * 1024);
    await assert.rejects(store.write(`${store.options.root}.a`, { body: Buffer.alloc(2 * 1024 * 1024) }), {
      code: 'too-large',
      message: /max_payload/,
    });
    await store.write(`${store.options.root}.a`, { body: Buffer.alloc(store.bodyMax) });
  } finally {
    await link.close();
  }
});

test('wakes that a server does not read are dropped at a bound, and flow again with it', async () => {
  const own = await startNats();
  const link = linkTo(own.servers);
  const wake = natsWake(link, silent);
  try {
    await link.whenUp(10_000);
    await own.nodes[0].stop();
    for (let n = 0; n < WAKES_UNDER_WAY_MAX + 1_000; n++) wake.publish('log.committed', 'main', Buffer.alloc(100));
    assert.equal(wake.dropped(), 1_000);
  } finally {
    wake.close();
    await own.nodes[0].cont();
    await link.close();
    await own.close();
  }
});

test('any text is one token of a subject, and comes back', () => {
  for (const text of ['', '.', 'a.b', '*', '>', 'Ä 😀', '=2E', 'a/b', ' ', '\r\n']) {
    assert.match(token(text), /^[A-Za-z0-9_=-]+$/);
    assert.equal(textOf(token(text)), text);
  }
  assert.ok(token('😀'.repeat(2_000)).length < 100);
});
