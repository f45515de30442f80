import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { type NatsServers, startNats, temporaryFolder } from '../../../../../tools/servers/index.ts';
import { createMetrics } from '../../metrics.ts';
import { defaultsOf, LiveSettings } from '../../setting-values.ts';
import { platformSettings } from '../../settings.ts';
import { openPlatform } from '../open.ts';
import { makeAuthority, makeOperator } from './secured.testing.ts';

// Servers that ask who we are and show who they are, through the settings that a person has for them.
const folder = temporaryFolder('nats-secured');
after(() => folder.remove());
const fileOf = (name: string, text: string): string => {
  const path = join(folder.path, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
};

interface Line {
  msg: string;
  reason?: string;
}

async function withPlatform(
  servers: string[],
  given: Record<string, unknown>,
  work: (platform: Awaited<ReturnType<typeof openPlatform>>, lines: Line[]) => Promise<void>,
): Promise<void> {
  const values = defaultsOf(platformSettings);
  const all = { natsServers: servers, natsStartWaitMs: 3_000, natsTimeoutMs: 5_000, ...given };
  for (const [key, value] of Object.entries(all)) values.set(`platform.${key}`, value);
  const metrics = createMetrics();
  const lines: Line[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const platform = await openPlatform(new LiveSettings(platformSettings, values), '/nonexistent', log, metrics);
  try {
    await work(platform, lines);
  } finally {
    await platform.close();
    await metrics.close();
  }
}

/** Connection, key-value, lease, job and wake. */
const works = (servers: string[], given: Record<string, unknown>): Promise<void> =>
  withPlatform(servers, given, async (platform, lines) => {
    assert.match(platform.checks[0]!.check().detail, /^connected/);
    const revision = await platform.kv.put('main', `k${Math.random()}`, Buffer.from('v'), 0);
    assert.ok(revision > 0);
    let held = false;
    await platform.lease.hold('x', new AbortController().signal, async () => void (held = true));
    assert.ok(held);
    const ran = Promise.withResolvers<string>();
    platform.jobs.work('q', { concurrency: 1, attemptsMax: 1, backoffMs: [] }, async ({ key }) => ran.resolve(key));
    await platform.jobs.add({ queue: 'q', key: 'job', tenant: 'main', payload: Buffer.alloc(0) });
    assert.equal(await ran.promise, 'job');
    assert.deepEqual(lines, []);
  });

/** It starts all the same, says once why it is alone, and refuses what needs NATS with the reason, not after a long wait. */
const refused = (servers: string[], given: Record<string, unknown>, reason: RegExp): Promise<void> =>
  withPlatform(servers, { natsStartWaitMs: 50, natsTimeoutMs: 500, ...given }, async (platform, lines) => {
    const said = () => lines.filter((line) => line.reason !== undefined);
    for (const until = Date.now() + 20_000; said().length === 0; await sleep(20))
      assert.ok(Date.now() < until, 'it says why');
    const began = performance.now();
    await assert.rejects(platform.kv.get('main', 'k'), { code: 'unavailable', message: reason });
    assert.ok(performance.now() - began < 3_000);
    const { ready, detail } = platform.checks[0]!.check();
    assert.equal(ready, true);
    assert.match(detail, reason);
    assert.equal(said().length, 1);
    assert.match(said()[0]!.reason!, reason);
  });

describe('NATS with TLS', () => {
  const ours = makeAuthority(folder.path, 'ours');
  const theirs = makeAuthority(folder.path, 'theirs');
  const server = ours.issue('server');
  const tls = (more = '') => `tls { cert_file: "${server.certificate}", key_file: "${server.key}"${more} }`;
  const folders = [folder.path];
  let nats: NatsServers;
  before(async () => {
    nats = await startNats({ config: [tls()], folders });
  });
  after(() => nats.close());

  test('an authority that we know: everything works', () => works(nats.servers, { natsTlsCaFile: ours.ca }));
  test('another one: refused', () =>
    refused(nats.servers, { natsTlsCaFile: theirs.ca }, /UNABLE_TO_VERIFY.*natsTlsCaFile/));
  test('none of ours, where the server asks for TLS: refused, for nobody knows its authority', () =>
    refused(nats.servers, {}, /UNABLE_TO_VERIFY.*natsTlsCaFile/));
  test('a server without TLS is refused where an authority is given', async () => {
    const plain = await startNats();
    try {
      await refused(plain.servers, { natsTlsCaFile: ours.ca }, /offers no TLS.*natsTlsCaFile/);
    } finally {
      await plain.close();
    }
  });
  test('TLS from the first byte: works with platform.natsTlsFirst, and not without', async () => {
    const first = await startNats({ config: [tls(', handshake_first: true')], folders });
    try {
      await works(first.servers, { natsTlsCaFile: ours.ca, natsTlsFirst: true });
      await refused(first.servers, { natsTlsCaFile: ours.ca }, /natsTlsFirst/);
    } finally {
      await first.close();
    }
  });
  test('a server that asks for a certificate takes ours, and nobody’s without', async () => {
    const asks = await startNats({ config: [tls(`, ca_file: "${ours.ca}", verify: true`)], folders });
    const { certificate, key } = ours.issue('client');
    const stranger = theirs.issue('stranger');
    const of = (cert: string, keyFile: string) => ({
      ...{ natsTlsCaFile: ours.ca, natsTlsCertFile: cert, natsTlsKeyFile: keyFile },
    });
    try {
      await works(asks.servers, of(certificate, key));
      await refused(asks.servers, { natsTlsCaFile: ours.ca }, /natsTlsCertFile/);
      await refused(asks.servers, of(stranger.certificate, stranger.key), /natsTlsCertFile/);
    } finally {
      await asks.close();
    }
  });
});

describe('NATS with credentials', () => {
  test('creds as nsc writes them: good ones work, those of another operator are refused', async () => {
    const operator = makeOperator(folder.path);
    const nats = await startNats({ config: operator.config });
    try {
      await works(nats.servers, { natsCredsFile: operator.user('ours') });
      const theirs = makeOperator(folder.path).user('theirs');
      await refused(nats.servers, { natsCredsFile: theirs }, /not take our credentials.*natsCredsFile.*natsUser/);
      await refused(nats.servers, { natsCredsFile: fileOf('empty.creds', '') }, /natsCredsFile holds no/);
      await refused(nats.servers, {}, /not take our credentials.*natsCredsFile.*natsUser/);
    } finally {
      await nats.close();
    }
  });

  test('user and password: good ones work, wrong ones are refused', async () => {
    const nats = await startNats({ config: ['authorization { user: gantry, password: "a-right-password" }'] });
    const right = fileOf('right', 'a-right-password\n');
    try {
      await works(nats.servers, { natsUser: 'gantry', natsPasswordFile: right });
      await refused(
        nats.servers,
        { natsUser: 'gantry', natsPasswordFile: fileOf('wrong', 'another\n') },
        /not take our credentials.*natsCredsFile.*natsUser/,
      );
      await refused(
        nats.servers,
        { natsUser: 'nobody', natsPasswordFile: right },
        /not take our credentials.*natsCredsFile.*natsUser/,
      );
    } finally {
      await nats.close();
    }
  });
});
