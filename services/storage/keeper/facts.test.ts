import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pino from 'pino';
import { ulid } from 'ulid';
import { fileKeyValue } from '#platform/adapters/local/key-value.ts';
import { localLease } from '#platform/adapters/local/lease.ts';
import { natsKeyValue } from '#platform/adapters/nats/key-value.ts';
import { NatsLink } from '#platform/adapters/nats/link.ts';
import { Records } from '#platform/adapters/nats/records.ts';
import type { KeyValue } from '#platform/ports.ts';
import { type NatsServers, startNats } from '../../../tools/servers/index.ts';
import { openArchiveIn } from '../adapters/s3/archive.ts';
import { ModelStore } from '../adapters/s3/bucket.model.ts';
import { TEST_OPTIONS } from '../adapters/s3/options.testing.ts';
import type { StateStore } from '../ports.ts';
import { createFacts } from './facts.ts';

const log = pino({ level: 'silent' });
const signal = new AbortController().signal;
const lease = localLease();
const text = async (kv: KeyValue, key: string, tenant = 'main') => (await kv.get(tenant, key))?.value.toString();

interface Bed {
  store: ModelStore;
  state: StateStore;
  /** A KeyValue that has never been used. */
  fresh(): Promise<KeyValue>;
}

/** Where facts are kept: the same holds on both. */
let nats: NatsServers;
before(async () => {
  nats = await startNats();
});
after(() => nats.close());
const links: NatsLink[] = [];
const KEPT: Record<string, (folder: string, n: number) => Promise<KeyValue>> = {
  files: (folder, n) => fileKeyValue(join(folder, `kv-${n}`), () => 1000),
  async NATS() {
    const prefix = `t${ulid()}`;
    const link = new NatsLink({ servers: nats.servers, prefix, replicas: 1, timeoutMs: () => 10_000 }, log);
    links.push(link);
    const bytesMax = (): number => 16 * 1024 * 1024;
    return natsKeyValue(new Records(link, { stream: `KV_${prefix}`, root: `$KV.${prefix}`, bytesMax }), () => 1000);
  },
};

async function bedOf(
  keep: (folder: string, n: number) => Promise<KeyValue>,
  work: (bed: Bed) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gantry-facts-'));
  const store = new ModelStore(() => 0.5);
  const archive = await openArchiveIn(store.client(), TEST_OPTIONS);
  let made = 0;
  try {
    await work({ store, state: archive.state, fresh: () => keep(folder, ++made) });
  } finally {
    await archive.close();
    await Promise.all(links.splice(0).map((link) => link.close()));
    await rm(folder, { recursive: true });
  }
}
const keysOf = ({ store }: Bed): string[] => [...store.objects.keys()].filter((key) => key.startsWith('state/')).sort();

for (const [where, keep] of Object.entries(KEPT))
  describe(`facts in ${where}`, () => {
    const withBed = (work: (bed: Bed) => Promise<void>): Promise<void> => bedOf(keep, work);

    test('what is configured is exported as the file that it would be on a disk; what is deleted goes; what is unchanged costs nothing', () =>
      withBed(async (bed) => {
        const kv = await bed.fresh();
        const run = createFacts({ kv, lease, log }, bed.state);
        await kv.put('main', 'peers/WS 1', Buffer.from('{"port":104}'));
        await kv.put('main', 'raw', Buffer.from([0xff, 0]));
        await kv.put('main', 'keeper/free/log/main/x', Buffer.from('1'));
        await kv.put('north', 'peers/A', Buffer.from('n'));
        assert.deepEqual(await run(['north'], signal), { written: 3, removed: 0, filled: 0 });
        assert.deepEqual(keysOf(bed), [
          'state/kv/main/peers%2fWS%201.json',
          'state/kv/main/raw.json',
          'state/kv/north/peers%2fA.json',
        ]);
        const stored = JSON.parse(bed.store.objects.get('state/kv/main/peers%2fWS%201.json')!.bytes.toString());
        assert.deepEqual(
          { ...stored, revision: 0 },
          { format: 1, tenant: 'main', key: 'peers/WS 1', revision: 0, text: '{"port":104}' },
        );
        await run(['north'], signal);
        const before = bed.store.requests;
        assert.deepEqual(await run(['north'], signal), { written: 0, removed: 0, filled: 0 });
        // One list of three, as pages of the model go, and each tenant's owner.
        assert.ok(bed.store.requests - before <= 4, `${bed.store.requests - before} requests`);
        await kv.put('main', 'raw', Buffer.from('changed'));
        await kv.delete('north', 'peers/A');
        assert.deepEqual(await run([], signal), { written: 1, removed: 1, filled: 0 });
        assert.deepEqual(keysOf(bed), ['state/kv/main/peers%2fWS%201.json', 'state/kv/main/raw.json']);
      }));

    test('an empty KeyValue is filled; what is configured already stays; what was deleted later stays deleted', () =>
      withBed(async (bed) => {
        const first = await bed.fresh();
        for (const key of ['a', 'b', 'c']) await first.put('main', key, Buffer.from(`old ${key}`));
        await first.put('north', 'n', Buffer.from('of the north'));
        await createFacts({ kv: first, lease, log }, bed.state)(['north'], signal);
        const second = await bed.fresh();
        await second.put('main', 'b', Buffer.from('newer')); // by a process that was faster than the keeper
        const run = createFacts({ kv: second, lease, log }, bed.state);
        assert.equal((await run([], signal)).filled, 3, 'the tenants are those that the export has');
        assert.equal(await text(second, 'a'), 'old a');
        assert.equal(await text(second, 'b'), 'newer');
        assert.equal(await text(second, 'n', 'north'), 'of the north');
        assert.match(bed.store.objects.get('state/kv/main/b.json')!.bytes.toString(), /newer/);
        await second.delete('main', 'c');
        assert.deepEqual(await createFacts({ kv: second, lease, log }, bed.state)([], signal), {
          written: 0,
          removed: 1,
          filled: 0,
        });
        assert.equal(await text(second, 'c'), undefined);
      }));

    test('a KeyValue that is lost while the keeper runs takes nothing from the export: it is filled again', () =>
      withBed(async (bed) => {
        let kv = await bed.fresh();
        const current: KeyValue = {
          get: (...given) => kv.get(...given),
          put: (...given) => kv.put(...given),
          delete: (...given) => kv.delete(...given),
          list: (...given) => kv.list(...given),
        };
        const run = createFacts({ kv: current, lease, log }, bed.state);
        await kv.put('main', 'a', Buffer.from('1'));
        await run([], signal);
        const lost = await bed.fresh();
        // Between one question and the next.
        const list = current.list;
        current.list = async (...given) => {
          const rows = await list(...given);
          kv = lost;
          current.list = list;
          return rows;
        };
        await run([], signal);
        assert.deepEqual(keysOf(bed), ['state/kv/main/a.json']);
        assert.equal(await text(lost, 'a'), '1');
      }));

    test('facts of another bucket than the one before are taken, not wiped', () =>
      withBed(async (bed) => {
        const kv = await bed.fresh();
        await kv.put('main', 'mine', Buffer.from('1'));
        await createFacts({ kv, lease, log }, bed.state)([], signal);
        await withBed(async (other) => {
          const theirs = await other.fresh();
          await theirs.put('main', 'theirs', Buffer.from('2'));
          await createFacts({ kv: theirs, lease, log }, other.state)([], signal);
          assert.equal((await createFacts({ kv, lease, log }, other.state)([], signal)).filled, 1);
          assert.deepEqual(keysOf(other), ['state/kv/main/mine.json', 'state/kv/main/theirs.json']);
          assert.equal(await text(kv, 'theirs'), '2');
        });
      }));

    test('an older value that a keeper wrote late is found by the next run', () =>
      withBed(async (bed) => {
        const kv = await bed.fresh();
        const run = createFacts({ kv, lease, log }, bed.state);
        await kv.put('main', 'a', Buffer.from('old'));
        await run([], signal);
        const old = bed.store.objects.get('state/kv/main/a.json')!;
        await kv.put('main', 'a', Buffer.from('new'));
        await run([], signal);
        await run([], signal);
        bed.store.objects.set('state/kv/main/a.json', { ...old });
        assert.equal((await run([], signal)).written, 1);
        assert.match(bed.store.objects.get('state/kv/main/a.json')!.bytes.toString(), /new/);
      }));

    test('a damaged export fills nothing and is not removed; one of a newer release neither', () =>
      withBed(async (bed) => {
        for (const [bytes, code] of [
          ['{"format":1,"ten', 'damaged'],
          ['{"format":2}', 'failed-precondition'],
          ['{"format":1,"tenant":"other","key":"a","revision":1,"text":"x"}', 'damaged'],
        ] as const) {
          const kv = await bed.fresh();
          bed.store.objects.set('state/kv/main/a.json', { bytes: Buffer.from(bytes), modifiedMs: 0 });
          const run = createFacts({ kv, lease, log }, bed.state);
          await assert.rejects(run([], signal), { code });
          await assert.rejects(run([], signal), { code });
          assert.equal(bed.store.objects.get('state/kv/main/a.json')!.bytes.toString(), bytes);
          bed.store.objects.delete('state/kv/main/a.json');
          await run([], signal);
        }
      }));
  });
