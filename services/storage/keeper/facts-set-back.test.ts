// A KeyValue that was restored from an older state, one that was lost, and two keepers at once: what was exported later is not lost to it.
import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import pino from 'pino';
import { fileKeyValue } from '#platform/adapters/local/key-value.ts';
import { localLease } from '#platform/adapters/local/lease.ts';
import { natsKeyValue } from '#platform/adapters/nats/key-value.ts';
import { NatsLink } from '#platform/adapters/nats/link.ts';
import { Records } from '#platform/adapters/nats/records.ts';
import type { KeyValue, Lease } from '#platform/ports.ts';
import { startNats } from '../../../tools/servers/index.ts';
import { openArchiveIn } from '../adapters/s3/archive.ts';
import { ModelStore } from '../adapters/s3/bucket.model.ts';
import { TEST_OPTIONS } from '../adapters/s3/options.testing.ts';
import type { StateStore } from '../ports.ts';
import { createFacts } from './facts.ts';
import { OWNER, ownerObject } from './facts-owner.ts';

const silent = pino({ level: 'silent' });
const signal = new AbortController().signal;

/** A KeyValue whose disk can be copied away and brought back. */
interface Kept {
  readonly kv: KeyValue;
  snapshot(): Promise<void>;
  setBack(): Promise<void>;
  /** As new. */
  lose(): Promise<void>;
  close(): Promise<void>;
}

async function inFiles(folder: string): Promise<Kept> {
  const [data, copy] = [join(folder, 'kv'), join(folder, 'copy')];
  const open = () => fileKeyValue(data, () => 1000);
  let kv = await open();
  const again = async (from?: string): Promise<void> => {
    await rm(data, { recursive: true });
    if (from) await cp(from, data, { recursive: true });
    kv = await open();
  };
  return {
    kv: {
      get: (...given) => kv.get(...given),
      put: (...given) => kv.put(...given),
      delete: (...given) => kv.delete(...given),
      list: (...given) => kv.list(...given),
    },
    snapshot: () => cp(data, copy, { recursive: true }),
    setBack: () => again(copy),
    lose: () => again(),
    close: async () => undefined,
  };
}

async function inNats(folder: string): Promise<Kept> {
  const [data, copy] = [join(folder, 'nats'), join(folder, 'copy')];
  const nats = await startNats({ dir: data });
  const link = new NatsLink({ servers: nats.servers, prefix: 'facts', replicas: 1, timeoutMs: () => 20_000 }, silent);
  const bytesMax = (): number => 16 * 1024 * 1024;
  const records = new Records(link, { stream: 'KV_facts', root: '$KV.facts', bytesMax });
  const whileDown = async (work: () => Promise<void>): Promise<void> => {
    await nats.nodes[0]!.kill();
    await work();
    await nats.nodes[0]!.restart();
  };
  const again = (from?: string) =>
    whileDown(async () => {
      await rm(data, { recursive: true });
      if (from) await cp(from, data, { recursive: true });
    });
  return {
    kv: natsKeyValue(records, () => 1000),
    snapshot: () => whileDown(() => cp(data, copy, { recursive: true })),
    setBack: () => again(copy),
    lose: () => again(),
    async close() {
      await link.close();
      await nats.close();
    },
  };
}

interface Bed extends Kept {
  readonly store: ModelStore;
  readonly state: StateStore;
  readonly lines: Record<string, unknown>[];
  keeper(over?: { state?: Partial<StateStore>; kv?: Partial<KeyValue>; lease?: Lease }): () => Promise<unknown>;
  put(key: string, text: string): Promise<number>;
  text(key: string): Promise<string | undefined>;
  exported(key: string): string | undefined;
}

for (const [where, open] of Object.entries({ files: inFiles, NATS: inNats }))
  describe(`facts in ${where}`, () => {
    async function withBed(work: (bed: Bed) => Promise<void>): Promise<void> {
      const folder = await mkdtemp(join(tmpdir(), 'gantry-set-back-'));
      const store = new ModelStore(() => 0.5);
      const archive = await openArchiveIn(store.client(), TEST_OPTIONS);
      const kept = await open(folder);
      const { state } = archive;
      const lease = localLease();
      const lines: Record<string, unknown>[] = [];
      const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
      try {
        await work({
          ...kept,
          ...{ store, state, lines },
          keeper(over = {}) {
            const run = createFacts(
              { kv: { ...kept.kv, ...over.kv }, lease: over.lease ?? lease, log },
              { ...state, ...over.state },
            );
            return () => run([], signal);
          },
          put: (key, text) => kept.kv.put('main', key, Buffer.from(text)),
          text: async (key) => (await kept.kv.get('main', key))?.value.toString(),
          exported(key) {
            const file = store.objects.get(`state/kv/main/${key}.json`);
            return file && JSON.parse(file.bytes.toString()).text;
          },
        });
      } finally {
        await kept.close();
        await archive.close();
        await rm(folder, { recursive: true });
      }
    }

    test('set back to an older state: what was exported since is taken; what is newer than that stays; what a person must look at is told', () =>
      withBed(async ({ keeper, put, text, exported, kv, snapshot, setBack, lines }) => {
        for (const key of ['a', 'b', 'gone']) await put(key, `old ${key}`);
        const run = keeper();
        await run();
        await snapshot();
        await put('a', 'exported a');
        await put('c', 'exported c');
        await kv.delete('main', 'gone');
        await run();
        await setBack();
        await put('b', 'newest b'); // somebody was faster than the keeper
        assert.deepEqual(await run(), { written: 2, removed: 0, filled: 2 });
        assert.deepEqual(await Promise.all(['a', 'b', 'c'].map(text)), ['exported a', 'newest b', 'exported c']);
        assert.deepEqual(['a', 'b', 'c'].map(exported), ['exported a', 'newest b', 'exported c']);
        const told = lines.map(({ newer, kept, back }) => ({ newer, kept, back }));
        assert.deepEqual(told, [{ newer: 2, kept: ['state/kv/main/b.json'], back: ['state/kv/main/gone.json'] }]);
        // From here on it is the truth again.
        await kv.delete('main', 'gone');
        assert.deepEqual(await keeper()(), { written: 0, removed: 1, filled: 0 });
      }));

    test('set back to a state that has all that was exported: it is the truth, and what it deleted stays deleted', () =>
      withBed(async ({ keeper, put, text, exported, kv, snapshot, setBack, lines }) => {
        await put('a', '1');
        await put('b', '1');
        await keeper()();
        await kv.delete('main', 'b');
        await snapshot();
        await put('a', 'never exported');
        await setBack();
        assert.deepEqual(await keeper()(), { written: 0, removed: 1, filled: 0 });
        assert.deepEqual([await text('a'), exported('a'), await text('b'), lines], ['1', '1', undefined, []]);
      }));

    test('lost, and the same revision is another value now: it is exported', () =>
      withBed(async ({ keeper, put, exported, kv, lose }) => {
        const before = await put('a', 'old');
        const run = keeper();
        await run();
        await run();
        await lose();
        const after = await put('a', 'new'); // before the keeper looked
        // Revisions of files come from a clock, and are never the same.
        if (where === 'NATS') assert.equal(after, before);
        await run();
        assert.equal(exported('a'), 'new');
        assert.equal((await kv.get('main', 'a'))?.value.toString(), 'new');
      }));

    test('lost, and filled by another keeper: who comes later does not believe what it saw of the one before', () =>
      withBed(async ({ keeper, put, exported, lose }) => {
        await put('a', 'old');
        const late = keeper();
        await late();
        await late();
        await lose();
        await put('a', 'new');
        // The other has filled it, and died before it exported.
        const broken = keeper({ state: { put: async (object) => assert.equal(object, ownerObject('main')) } });
        await broken().catch(() => undefined);
        await late();
        assert.equal(exported('a'), 'new');
      }));

    test('two keepers fill: what was deleted after one of them had filled does not come back by the other', () =>
      withBed(async ({ keeper, put, text, kv, lose, state }) => {
        await put('a', '1');
        await keeper()();
        await lose();
        const turns = localLease();
        let waiting = 0;
        const bothWait = Promise.withResolvers<void>();
        const asked: Lease = {
          hold(...given) {
            if (++waiting === 2) bothWait.resolve();
            return turns.hold(...given);
          },
        };
        // The slow one has read what was exported, and puts it late: after the other, where both may fill at once.
        const slow = keeper({
          lease: asked,
          state: {
            async get(object) {
              const bytes = await state.get(object);
              if (object.endsWith('/a.json')) await deleted;
              return bytes;
            },
          },
        });
        const fast = keeper({ lease: asked });
        const { promise: deleted, resolve } = Promise.withResolvers<void>();
        const first = slow();
        const second = fast();
        await Promise.race([second, bothWait.promise]);
        const filled = await text('a');
        if (filled !== undefined) await kv.delete('main', 'a');
        resolve();
        await Promise.all([first, second]);
        if (filled === undefined) {
          assert.equal(await text('a'), '1');
          await kv.delete('main', 'a');
          await fast();
        }
        assert.equal(await text('a'), undefined);
      }));

    test('killed between its two words a KeyValue is still the owner', () =>
      withBed(async ({ keeper, put, text, exported, kv, state }) => {
        await put('a', '1');
        await put('b', '1');
        await keeper()();
        await put('a', '2');
        const killed = keeper({
          state: {
            async put(object, bytes) {
              if (object === ownerObject('main')) throw new Error('killed');
              await state.put(object, bytes);
            },
          },
        });
        await assert.rejects(killed(), /killed/);
        assert.equal(exported('a'), '1', 'nothing is exported before both are said');
        await kv.delete('main', 'b');
        assert.deepEqual(await keeper()(), { written: 1, removed: 1, filled: 0 });
        assert.deepEqual([await text('b'), exported('a')], [undefined, '2']);
      }));

    test('what changes after the word was said is exported under the next one', () =>
      withBed(async ({ keeper, put, exported, kv }) => {
        await put('a', '1');
        await put('b', '1');
        await keeper()();
        await put('a', '2');
        await put('b', '2');
        const busy = keeper({
          kv: {
            async put(tenant, key, ...rest) {
              const revision = await kv.put(tenant, key, ...rest);
              if (key === OWNER) await put('b', '3');
              return revision;
            },
          },
        });
        await busy();
        // A snapshot that was taken at the word has no b of 3.
        assert.deepEqual([exported('a'), exported('b')], ['2', '1']);
        await keeper()();
        assert.equal(exported('b'), '3');
      }));

    test('who cannot have a turn says so, and nothing happens', () =>
      withBed(async ({ keeper, put, exported }) => {
        await put('a', '1');
        const given = new Error('gone');
        await assert.rejects(keeper({ lease: { hold: () => Promise.reject(given) } })(), given);
        assert.equal(exported('a'), undefined);
      }));
  });
