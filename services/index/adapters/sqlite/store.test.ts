import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { indexStoreContract } from '../../index.contract.ts';
import { collect, makeInstance } from '../../instances.testing.ts';
import type { IndexOptions } from '../../ports.ts';
import { SqliteIndexStore } from './store.ts';

const optionsOf = (directory: string, more: Partial<IndexOptions> = {}): IndexOptions => ({
  directory,
  policy: 'keep-first',
  readers: 1,
  queriesMax: () => 100,
  queryIdleMs: () => 60_000,
  metadataCacheBytes: 1 << 20,
  ...more,
});

indexStoreContract('SQLite', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-index-'));
  return {
    open: async () => new SqliteIndexStore(optionsOf(directory)),
    remove: async () => rmSync(directory, { recursive: true, force: true }),
  };
});

async function using(more: Partial<IndexOptions>, work: (store: SqliteIndexStore) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-index-'));
  const store = new SqliteIndexStore(optionsOf(directory, more));
  try {
    const lane = '01AAAAAAAAAAAAAAAAAAAAAAAA';
    const entries = Array.from({ length: 600 }, (_, n) => ({
      n,
      stamp: '0000000003e80000',
      kind: {
        $case: 'instance' as const,
        value: makeInstance({ study: '1.2', series: '1.2.1', sop: `1.2.1.${n}` }).instance,
      },
    }));
    const toc = { formatVersion: 1, tenant: 'main', lane, sequence: 1, entries };
    await store.fold('main', [{ lane, sequence: 1, tableOfContents: TableOfContents.encode(toc).finish() }]);
    await work(store);
  } finally {
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
const ENTRIES = {
  tenant: 'main',
  request: { studyInstanceUid: '1.2', seriesInstanceUid: '', sopInstanceUid: '', inTrash: false },
};

test('index.queriesMax: one more is refused, and taken again when one has ended', () =>
  using({ queriesMax: () => 2 }, async (store) => {
    const open = [0, 1].map(() => store.query('entries', ENTRIES)[Symbol.asyncIterator]());
    for (const rows of open) await rows.next();
    await assert.rejects(store.query('entries', ENTRIES)[Symbol.asyncIterator]().next(), { code: 'unavailable' });
    await open[0]!.return!(undefined);
    const rows = store.query('entries', ENTRIES)[Symbol.asyncIterator]();
    assert.equal((await rows.next()).done, false);
    await rows.return!(undefined);
    await open[1]!.return!(undefined);
  }));

test('index.queryIdleMs: a query whose rows nobody takes ends, and says so', () =>
  using({ queryIdleMs: () => 20 }, async (store) => {
    const rows = store.query('entries', ENTRIES)[Symbol.asyncIterator]();
    await rows.next();
    await new Promise((resolve) => setTimeout(resolve, 60)); // longer than the limit: this is what is tested
    await assert.rejects(
      async () => {
        while (!(await rows.next()).done);
      },
      { code: 'deadline-exceeded' },
    );
  }));

test('after stop, whoever asks is told', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-index-'));
  const store = new SqliteIndexStore(optionsOf(directory));
  await store.close();
  await assert.rejects(store.positions('main'), { code: 'unavailable' });
  await assert.rejects(store.query('counts', { tenant: 'main' })[Symbol.asyncIterator]().next(), {
    code: 'unavailable',
  });
  rmSync(directory, { recursive: true });
});

test('a reader that dies is replaced by the next query, and one that cannot start is not started for ever', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-index-'));
  // Starts the first time only: a disk that went away takes the program's files with it.
  const marker = join(directory, 'broken');
  const file = join(directory, 'reader.mjs');
  const real = new URL('./reader.worker.ts', import.meta.url);
  writeFileSync(
    file,
    `import { existsSync } from 'node:fs';
if (existsSync(${JSON.stringify(marker)})) throw new Error('cannot start');
await import(${JSON.stringify(real.href)});`,
  );
  const deaths: string[] = [];
  const died = new EventTarget();
  const told = (_what: string, error: Error): void => {
    deaths.push(error.message);
    died.dispatchEvent(new Event('one'));
  };
  writeFileSync(marker, '');
  const store = new SqliteIndexStore({ ...optionsOf(directory), readers: 1 }, told, pathToFileURL(file));
  try {
    while (deaths.length < 2) await once(died, 'one'); // the reader and the settler
    const counts = () => collect(store.query('counts', { tenant: 'main' }));
    // As long as a thread takes to start and die: nobody asked, so nobody was started.
    await assert.rejects(counts(), { code: 'unavailable' });
    await assert.rejects(counts(), { code: 'unavailable' });
    assert.deepEqual(deaths, Array(4).fill('cannot start'), 'one for each question, and none by itself');
    rmSync(marker);
    assert.equal((await counts()).length, 1, 'the next one starts and answers');
  } finally {
    await store.close();
    rmSync(directory, { recursive: true });
  }
});

test('a settler that dies is replaced: the study that killed it is told, and the next one settles', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-index-'));
  const marker = join(directory, 'die');
  const file = join(directory, 'reader.mjs');
  const real = new URL('./reader.worker.ts', import.meta.url);
  writeFileSync(
    file,
    `import { existsSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
// Around its own listener, not beside it: a listener of ours that came first would take what is said while the rest is loaded.
const on = parentPort.on.bind(parentPort);
parentPort.on = (type, listener) =>
  on(type, (message) => {
    if (message.args?.name === 'metadataObjects' && existsSync(${JSON.stringify(marker)})) throw new Error('out of memory');
    listener(message);
  });
await import(${JSON.stringify(real.href)});`,
  );
  const deaths: string[] = [];
  const store = new SqliteIndexStore(
    optionsOf(directory),
    (_what, { message }) => deaths.push(message),
    pathToFileURL(file),
  );
  try {
    const lane = '01AAAAAAAAAAAAAAAAAAAAAAAA';
    const { instance: value } = makeInstance({ study: '1.2', series: '1.2.1', sop: '1.2.1.1' });
    const entries = [{ n: 0, stamp: '0000000003e80000', kind: { $case: 'instance' as const, value } }];
    const toc = { formatVersion: 1, tenant: 'main', lane, sequence: 1, entries };
    await store.fold('main', [{ lane, sequence: 1, tableOfContents: TableOfContents.encode(toc).finish() }]);
    const [due] = await store.settling.due(Number.MAX_SAFE_INTEGER, 10);
    writeFileSync(marker, '');
    await assert.rejects(store.settling.settle(due!), { code: 'unavailable' });
    assert.deepEqual(deaths, ['out of memory']);
    rmSync(marker);
    assert.equal(await store.settling.settle(due!), true);
  } finally {
    await store.close();
    rmSync(directory, { recursive: true });
  }
});
