import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { Call } from '#platform/call.ts';
import { type ErrorCode, GantryError } from '#platform/errors.ts';
import type { Module } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { type Entry, type Instance, type Place, Position, TableOfContents } from '#proto/storage/v1/log.ts';
import { type Commit, DataService } from '#proto/storage/v1/storage.ts';
import { openArchive } from '../adapters/fs/archive.ts';
import { archiveOptions } from '../settings.ts';
import { dataModule } from './module.ts';

const digest = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

function instanceOf(file: Buffer, n: number): Instance {
  return {
    studyInstanceUid: '1.2.3',
    seriesInstanceUid: '1.2.3.4',
    sopInstanceUid: `1.2.3.4.${n}`,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.7',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    version: digest(Buffer.from(`version ${n}`)),
    digest: digest(file),
    place: { object: '', offset: 0, length: file.length, encoding: 0 },
    dataSetOffset: 132,
    head: Buffer.from('head'),
    source: undefined,
  };
}

async function store(context: TestContext, call: Call, file: Buffer, n: number) {
  return (
    await context.bulk(BULK.appendInstance)(call, { instance: instanceOf(file, n) }, [
      file.subarray(0, 7),
      file.subarray(7),
    ])
  ).response;
}

async function readAll(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function log(context: TestContext, call: Call, after: Position[] = [], lanes: string[] = []): Promise<Commit[]> {
  const commits: Commit[] = [];
  for await (const commit of context.client(DataService).readLog(call, { after, lanes })) commits.push(commit);
  return commits;
}

for (const overGrpc of [false, true])
  test(`what is appended is in the log, in the heads, woken for, and read back (${overGrpc ? 'gRPC and HTTP' : 'direct'})`, async () => {
    const context = await createTestContext({ modules: [dataModule], overGrpc });
    try {
      const call = context.call();
      const woken: Position[] = [];
      context.wake.subscribe('log.committed', (_tenant, payload) => woken.push(Position.decode(payload)));
      const files = Array.from({ length: 20 }, (_, n) => randomBytes(1000 + n * 777));
      const answers = await Promise.all(files.map((file, n) => store(context, call, file, n)));
      const { positions } = await context.client(DataService).heads(call, {});
      assert.equal(positions.length, 1);
      assert.equal(Math.max(...answers.map(({ position }) => position!.sequence)), positions[0]!.sequence);
      const commits = await log(context, call);
      const entries = commits.flatMap(({ tableOfContents }) => TableOfContents.decode(tableOfContents).entries);
      assert.equal(entries.length, 20);
      assert.deepEqual(await log(context, call, positions), []);
      assert.deepEqual(
        await log(context, call, [{ lane: positions[0]!.lane, sequence: positions[0]!.sequence - 1 }]),
        commits.slice(-1),
      );
      const all = await context.bulk(BULK.read)(call, { places: answers.map(({ place }) => place!) });
      assert.equal(
        all.response.length,
        files.reduce((sum, file) => sum + file.length, 0),
      );
      assert.deepEqual(await readAll(all.body), Buffer.concat(files));
      const narrowed = await context.bulk(BULK.read)(call, {
        places: [{ ...answers[3]!.place!, offset: answers[3]!.place!.offset + 10, length: 5 }],
      });
      assert.deepEqual(await readAll(narrowed.body), files[3]!.subarray(10, 15));
      assert.ok(woken.length >= 1);
    } finally {
      await context.stop();
    }
  });

const isCode = (code: ErrorCode) => (error: unknown) => error instanceof GantryError && error.code === code;

async function withStorage(
  settings: Record<string, unknown>,
  work: (context: TestContext, call: Call) => Promise<void>,
  overGrpc = false,
): Promise<void> {
  const context = await createTestContext({ modules: [dataModule], settings, overGrpc });
  try {
    await work(context, context.call());
  } finally {
    await context.stop();
  }
}

async function putLarge(context: TestContext, call: Call, file: Buffer, n: number) {
  const put = await context.bulk(BULK.putLarge)(call, { expectedBytes: file.length }, [
    file.subarray(0, 100_000),
    file.subarray(100_000),
  ]);
  const instance = {
    ...instanceOf(file, n),
    place: { object: put.response.object, offset: 0, length: put.response.length, encoding: 0 },
  };
  return { put: put.response, instance };
}

for (const overGrpc of [false, true])
  test(`a large instance is invisible until it is committed (${overGrpc ? 'HTTP' : 'direct'})`, () =>
    withStorage(
      {},
      async (context, call) => {
        const file = randomBytes(5_000_000);
        const { put, instance } = await putLarge(context, call, file, 1);
        assert.equal(put.length, file.length);
        assert.deepEqual(await log(context, call), []);
        const appended = (await context.bulk(BULK.appendLarge)(call, { instance })).response;
        assert.deepEqual(appended.place, instance.place);
        const [commit] = await log(context, call);
        assert.equal(TableOfContents.decode(commit!.tableOfContents).entries[0]!.kind!.$case, 'large');
        assert.deepEqual(
          await readAll((await context.bulk(BULK.read)(call, { places: [appended.place!] })).body),
          file,
        );
      },
      overGrpc,
    ));

test('a large entry without its object, or with another length, is refused', () =>
  withStorage({}, async (context, call) => {
    const { instance } = await putLarge(context, call, randomBytes(200_000), 1);
    const append = (place: Partial<Place>) =>
      context.bulk(BULK.appendLarge)(call, { instance: { ...instance, place: { ...instance.place!, ...place } } });
    await assert.rejects(append({ object: 'large/main/none/x.dcm' }), isCode('not-found'));
    await assert.rejects(append({ object: 'large/main/../../x' }), isCode('not-found'));
    await assert.rejects(append({ object: 'log/main/x' }), isCode('invalid-argument'));
    await assert.rejects(append({ length: 199_999 }), isCode('damaged'));
    await assert.rejects(append({ offset: 1 }), isCode('invalid-argument'));
    assert.deepEqual(await log(context, call), []);
  }));

test('what an append may not be', () =>
  withStorage({ 'storage.smallLimit': '64KiB' }, async (context, call) => {
    const file = randomBytes(1000);
    const append = (over: Partial<Instance>, body = [file]) =>
      context.bulk(BULK.appendInstance)(call, { instance: { ...instanceOf(file, 1), ...over } }, body);
    await assert.rejects(append({}, [file.subarray(1)]), isCode('invalid-argument'), 'fewer bytes than said');
    await assert.rejects(append({}, [file, file]), isCode('invalid-argument'), 'more bytes than said');
    await assert.rejects(append({ place: undefined }), isCode('invalid-argument'));
    await assert.rejects(append({ digest: Buffer.alloc(31) }), isCode('invalid-argument'));
    await assert.rejects(append({ sopInstanceUid: '' }), isCode('missing-identifier'));
    await assert.rejects(append({ studyInstanceUid: '1'.repeat(65) }), isCode('missing-identifier'));
    await assert.rejects(
      append({ place: { object: '', offset: 0, length: 65_537, encoding: 0 } }),
      isCode('too-large'),
      'storage.smallLimit',
    );
    await assert.rejects(
      context.bulk(BULK.appendInstance)(call, { instance: undefined }, []),
      isCode('invalid-argument'),
    );
    assert.deepEqual(await log(context, call), [], 'nothing of a refused request is in the log');
  }));

test('control entries are durable when answered; instances and closings do not come in that way', () =>
  withStorage({ 'storage.controlBytes': 5000, 'storage.queueEntries': 10 }, async (context, call) => {
    const data = context.client(DataService);
    const entry = (kind: Entry['kind']): Entry => ({ n: 9, stamp: 'ignored', kind });
    const hold = entry({ $case: 'hold', value: { studyInstanceUid: '1.2.3', on: true, reason: 'r', actor: 'a' } });
    const { ids, positions } = await data.append(call, { entries: [hold, hold] });
    assert.deepEqual(
      ids.map(({ n }) => n),
      [0, 1],
    );
    assert.deepEqual((await data.heads(call, {})).positions, positions);
    const [commit] = await log(context, call);
    assert.match(TableOfContents.decode(commit!.tableOfContents).entries[0]!.stamp, /^[0-9a-f]{16}$/);
    for (const kind of [
      undefined,
      { $case: 'closed', value: { reason: '', by: '' } } as const,
      { $case: 'instance', value: instanceOf(Buffer.alloc(1), 1) } as const,
    ])
      await assert.rejects(data.append(call, { entries: [hold, entry(kind)] }), isCode('invalid-argument'));
    await assert.rejects(data.append(call, { entries: [] }), isCode('invalid-argument'));
    const long = entry({
      $case: 'hold',
      value: { studyInstanceUid: '1.2.3', on: true, reason: 'r'.repeat(5000), actor: 'a' },
    });
    await assert.rejects(data.append(call, { entries: [long] }), isCode('too-large'), 'storage.controlBytes');
    await assert.rejects(
      data.append(call, { entries: Array.from({ length: 11 }, () => hold) }),
      isCode('too-large'),
      'storage.queueEntries',
    );
    assert.equal((await log(context, call)).length, 1);
  }));

test('below the reserve instances are refused with no-space, everything else goes on, and it heals by itself', () =>
  withStorage({}, async (context, call) => {
    const data = context.client(DataService);
    const file = randomBytes(1000);
    const { place } = await store(context, call, file, 1);
    context.change({ 'storage.reserveBytes': 2 ** 50 });
    await assert.rejects(store(context, call, file, 2), isCode('no-space'));
    await assert.rejects(
      context.bulk(BULK.putLarge)(call, { expectedBytes: 1 }, [Buffer.alloc(1)]),
      isCode('no-space'),
    );
    const space = await data.space(call, {});
    assert.equal(space.accepting, false);
    assert.equal(space.reserveBytes, 2 ** 50);
    assert.ok(space.archiveBytes > 1000 && space.freeBytes > 0);
    await data.append(call, {
      entries: [
        { n: 0, stamp: '', kind: { $case: 'hold', value: { studyInstanceUid: '1', on: true, reason: '', actor: '' } } },
      ],
    });
    assert.deepEqual(await readAll((await context.bulk(BULK.read)(call, { places: [place!] })).body), file);
    context.change({ 'storage.reserveBytes': 0 });
    await store(context, call, file, 2);
  }));

test('a place of another tenant, one that is gone, too long, or of an encoding to come', () =>
  withStorage({ 'storage.readRanges': 3 }, async (context, call) => {
    const { place } = await store(context, call, randomBytes(1000), 1);
    const read = (over: Partial<Place>, tenant = 'main') =>
      context.bulk(BULK.read)(context.call({ tenant }), { places: [{ ...place!, ...over }] });
    await assert.rejects(read({}, 'other'), isCode('not-found'));
    await assert.rejects(read({ object: place!.object.replace(/\d\.tar$/, '9.tar') }), isCode('not-found'));
    await assert.rejects(read({ object: '../../etc/passwd' }), isCode('not-found'));
    await assert.rejects(read({ length: 2 ** 40 }), isCode('damaged'));
    await assert.rejects(read({ offset: -1 }), isCode('invalid-argument'));
    await assert.rejects(read({ encoding: 1 }), isCode('unimplemented'));
    await assert.rejects(
      context.bulk(BULK.read)(call, { places: [place!, place!, place!, place!] }),
      isCode('too-large'),
      'storage.readRanges',
    );
    assert.deepEqual(await readAll((await context.bulk(BULK.read)(call, { places: [] })).body), Buffer.alloc(0));
  }));

test('two modules of one process share the archive; the last one out closes it', async () => {
  const other: Module = {
    ...dataModule,
    name: 'second user',
    settings: {},
    start: async (context) => {
      const archive = await openArchive(context.dataDir, archiveOptions(context.settings));
      return { stop: () => archive.close() };
    },
  };
  const context = await createTestContext({ modules: [dataModule, other] });
  await store(context, context.call(), randomBytes(10), 1);
  await context.stop();
});

test('instances on their way are bounded, whoever sends them', () =>
  withStorage({ 'storage.queueBytes': '1MiB' }, async (context, call) => {
    const file = randomBytes(700_000);
    let arrive = (): void => {};
    const arrived = new Promise<void>((resolve) => (arrive = resolve));
    const slow = async function* (): AsyncIterable<Buffer> {
      yield file.subarray(0, 1000);
      await arrived;
      yield file.subarray(1000);
    };
    const first = context.bulk(BULK.appendInstance)(call, { instance: instanceOf(file, 1) }, slow());
    await assert.rejects(store(context, call, file, 2), isCode('no-permit'), 'storage.queueBytes');
    arrive();
    await first;
    await store(context, call, file, 2);
  }));

test('settings that cannot work together are named', async () => {
  for (const [settings, problems] of [
    [{}, 0],
    [{ 'storage.smallLimit': '32MiB', 'storage.segmentBytes': '1MiB' }, 2],
  ] as const)
    await withStorage(settings, async (context) => {
      const sentences = dataModule.check!(context.settings);
      assert.equal(sentences.length, problems);
      for (const sentence of sentences) assert.match(sentence, /Raise|raise/);
    });
});
