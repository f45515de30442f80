import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, describe, test } from 'node:test';
import { decodeHead } from '#dicom/head.ts';
import { readPart10Prefix } from '#dicom/part10.ts';
import { GantryError } from '#platform/errors.ts';
import { BULK } from '#platform/routes.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { IngestService, type StoreRequest } from '#proto/ingest/v1/ingest.ts';
import { FakeStorage } from './fake-storage.ts';
import { Gathered } from './gathered.ts';
import { module } from './module.ts';
import { CT, chunked, dataSet, EXPLICIT, element, part10, type Sample } from './sample.ts';

const SOURCE = { door: 'DIMSE', callingAeTitle: 'MODALITY', calledAeTitle: 'GANTRY', address: '', defaultCharset: '' };
const REQUEST: StoreRequest = {
  sopClassUid: CT,
  sopInstanceUid: '1.2.3.4',
  transferSyntaxUid: EXPLICIT,
  source: SOURCE,
};
const SMALL = 64 * 1024;
const LARGE = { pixelBytes: 300_000 };

let context: TestContext;
let storage: FakeStorage;
afterEach(async () => {
  const { permitsInUse } = await context.client(IngestService).status(context.call(), {});
  await context.stop();
  assert.equal(permitsInUse, 0, 'every permit is back');
});

async function house(options: { overGrpc?: boolean; settings?: Record<string, unknown> } = {}) {
  storage = new FakeStorage();
  context = await createTestContext({
    modules: [storage.module, module],
    overGrpc: options.overGrpc ?? false,
    settings: {
      'ingest.smallLimit': SMALL,
      'ingest.permitBytes': SMALL * 4,
      'ingest.streamBytes': 16 * 1024,
      ...options.settings,
    },
  });
}

async function store(body: Bytes | readonly Buffer[], request: Partial<StoreRequest> = {}, signal?: AbortSignal) {
  const call = context.call(signal ? { signal } : {});
  return (await context.bulk(BULK.store)(call, { ...REQUEST, ...request }, body)).response;
}
async function storePart10(body: Bytes | readonly Buffer[], studyInstanceUid = '') {
  return (await context.bulk(BULK.storePart10)(context.call(), { source: SOURCE, studyInstanceUid }, body)).response;
}

for (const overGrpc of [false, true])
  describe(overGrpc ? 'ingest over HTTP' : 'ingest in one process', () => {
    test('a data set is kept byte for byte behind a meta of ours, and answered with its position', async () => {
      await house({ overGrpc });
      const bytes = dataSet({
        after: Buffer.concat([element(0xfffcfffc, 'OB', Buffer.alloc(8)), Buffer.from([1, 2, 3])]),
      });
      for (const size of [1, 7, 1000, 1_000_000]) {
        const response = await store(chunked(bytes, size));
        assert.equal(response.error, '');
        assert.equal(response.status, 0);
        assert.ok(response.position!.sequence > 0);
        assert.deepEqual(
          [response.sopClassUid, response.sopInstanceUid, response.studyInstanceUid, response.seriesInstanceUid],
          [CT, '1.2.3.4', '1.2.3', '1.2.3.1'],
        );
        const { instance, file } = storage.kept.at(-1)!;
        assert.deepEqual(file.subarray(instance.dataSetOffset), bytes);
        const prefix = readPart10Prefix(file);
        assert.ok(prefix.needMoreBytes === undefined && prefix.complete);
        assert.deepEqual(
          [
            prefix.meta.mediaStorageSopClassUid,
            prefix.meta.mediaStorageSopInstanceUid,
            prefix.transferSyntaxUid,
            prefix.dataSetOffset,
          ],
          [CT, '1.2.3.4', EXPLICIT, instance.dataSetOffset],
        );
        const head = decodeHead(instance.head);
        assert.equal(head.pixel!.length, 1000);
        assert.deepEqual(instance.source, SOURCE);
      }
      const versions = storage.kept.map(({ instance }) => Buffer.from(instance.version).toString('hex'));
      assert.equal(new Set(versions).size, 1, 'however it was cut');
      assert.equal(storage.objects.size, 0);
    });

    test('a large data set streams, and is committed only then', async () => {
      await house({ overGrpc });
      const bytes = dataSet(LARGE);
      for (const size of [997, 20_000, 1_000_000]) {
        assert.equal((await store(chunked(bytes, size))).error, '');
        const { instance, file } = storage.kept.at(-1)!;
        assert.match(instance.place!.object, /^large\//);
        assert.deepEqual(file.subarray(instance.dataSetOffset), bytes);
      }
    });

    test('the border between small and large', async () => {
      await house({ overGrpc });
      const room = SMALL - dataSet({ pixelBytes: 0 }).length;
      for (const pixelBytes of [room - 660, room - 640, room - 630, room, room + 2]) {
        assert.equal((await store([dataSet({ pixelBytes })])).error, '');
        assert.equal((await storePart10([part10(dataSet({ pixelBytes: pixelBytes - 300 }))])).error, '');
      }
      assert.ok(storage.objects.size > 0 && storage.objects.size < 10);
      for (const { instance, file } of storage.kept) if (!instance.place!.object) assert.ok(file.length <= SMALL);
    });

    test('a Part 10 file is kept as it came, preamble and all', async () => {
      await house({ overGrpc });
      for (const [data, sizes] of [
        [dataSet(), [1, 100, 1_000_000]],
        [dataSet(LARGE), [1000, 1_000_000]],
      ] as const)
        for (const size of sizes) {
          const file = part10(data);
          assert.equal((await storePart10(chunked(file, size))).error, '');
          assert.deepEqual(storage.kept.at(-1)!.file, file);
        }
    });

    test('a file without preamble or meta gets a meta of ours', async () => {
      await house({ overGrpc });
      for (const data of [dataSet(), dataSet(LARGE)]) {
        assert.equal((await storePart10(chunked(data, 500))).error, '');
        const { file, instance } = storage.kept.at(-1)!;
        assert.deepEqual(file.subarray(instance.dataSetOffset), data);
        const prefix = readPart10Prefix(file);
        assert.ok(prefix.needMoreBytes === undefined && prefix.complete);
        assert.equal(prefix.meta.mediaStorageSopInstanceUid, '1.2.3.4');
        assert.equal(prefix.meta.mediaStorageSopClassUid, CT);
      }
    });

    test('no DICOM at all is said to be none', async () => {
      await house({ overGrpc });
      for (const junk of [
        Buffer.from('%PDF-1.4 and so on, and more and more '.repeat(20)),
        Buffer.alloc(0),
        Buffer.from('x'),
      ]) {
        const response = await storePart10([junk]);
        assert.equal(response.notDicom, true);
        assert.equal(response.status, 0xc000);
      }
      assert.deepEqual(storage.kept, []);
    });

    test('storage fails: its error is the answer, and nothing is left', async () => {
      await house({ overGrpc });
      storage.before = {
        appendInstance: () => {
          throw new GantryError('no-space', 'below storage.reserveBytes');
        },
        appendLarge: () => {
          throw new GantryError('unavailable', 'the lane has ended');
        },
      };
      assert.partialDeepStrictEqual(await store([dataSet()]), {
        status: 0xa700,
        error: 'no-space',
        sopInstanceUid: '1.2.3.4',
      });
      assert.partialDeepStrictEqual(await store([dataSet(LARGE)]), { status: 0xa700, error: 'unavailable' });
      storage.failLargeAfter = 100_000;
      const source = watched(chunked(dataSet(LARGE), 1000));
      // Over HTTP the connection may break before the reason is heard.
      const reasons = overGrpc ? ['no-space', 'unavailable'] : ['no-space'];
      const unfinished = await store(source.body);
      assert.equal(unfinished.status, 0xa700);
      assert.ok(reasons.includes(unfinished.error));
      assert.ok(source.seen.ended);
      storage.before = {
        putLarge: () => {
          throw new GantryError('no-space', 'the disk is full');
        },
      };
      assert.ok(reasons.includes((await storePart10([part10(dataSet(LARGE))])).error));
      assert.deepEqual(storage.kept, []);
    });

    test('the sender gives up in the middle: nothing is kept', async () => {
      await house({ overGrpc });
      for (const pixelBytes of [1000, 300_000]) {
        const abort = new AbortController();
        const bytes = dataSet({ pixelBytes });
        async function* stalling(): AsyncGenerator<Buffer> {
          for await (const chunk of chunked(bytes.subarray(0, -10), 10_000)) yield chunk;
          setImmediate(() => abort.abort());
          await once(abort.signal, 'abort');
          await new Promise(() => {}); // and never says another word
        }
        await assert.rejects(store(stalling(), {}, abort.signal), { code: 'cancelled' });
      }
      await untilPermitsAreBack();
      assert.deepEqual(storage.kept, []);
      assert.equal(storage.objects.size, 0);
    });

    test('the body fails in the middle: nothing is kept', async () => {
      await house({ overGrpc });
      for (const pixelBytes of [1000, 300_000]) {
        const bytes = dataSet({ pixelBytes });
        async function* breaking(): AsyncGenerator<Buffer> {
          for await (const chunk of chunked(bytes.subarray(0, -10), 10_000)) yield chunk;
          throw new GantryError('cancelled', 'the association was aborted');
        }
        const outcome = await store(breaking()).then(
          (response) => response.error,
          (error) => error.code,
        );
        assert.equal(outcome, 'cancelled');
      }
      await untilPermitsAreBack();
      assert.deepEqual(storage.kept, []);
      assert.equal(storage.objects.size, 0);
    });
  });

/** Over HTTP the caller hears of its own cancellation before the handler does. */
async function untilPermitsAreBack() {
  while ((await context.client(IngestService).status(context.call(), {})).permitsInUse > 0)
    await new Promise((resolve) => setImmediate(resolve));
}

function watched(body: Bytes) {
  const seen = { chunks: 0, ended: false, closed: false };
  async function* pass() {
    try {
      for await (const chunk of body) {
        seen.chunks++;
        yield chunk;
      }
      seen.ended = true;
    } finally {
      seen.closed = true;
    }
  }
  return { seen, body: pass() };
}

describe('the refusal table', () => {
  const ofDataSet: [string, Sample, Partial<StoreRequest>, number, string, number[]][] = [
    ['no Study Instance UID', { studyInstanceUid: undefined }, {}, 0xa900, 'missing-identifier', [0x0020000d]],
    ['empty Study Instance UID', { studyInstanceUid: '' }, {}, 0xa900, 'missing-identifier', [0x0020000d]],
    ['Study Instance UID of padding', { studyInstanceUid: '\0\0 \0' }, {}, 0xa900, 'missing-identifier', [0x0020000d]],
    ['no Series Instance UID', { seriesInstanceUid: undefined }, {}, 0xa900, 'missing-identifier', [0x0020000e]],
    ['no SOP Instance UID', { sopInstanceUid: undefined }, {}, 0xa900, 'missing-identifier', [0x00080018]],
    [
      'no UID at all',
      { sopInstanceUid: undefined, studyInstanceUid: undefined, seriesInstanceUid: undefined },
      {},
      0xa900,
      'missing-identifier',
      [0x00080018, 0x0020000d, 0x0020000e],
    ],
    ['a UID of 65 characters', { studyInstanceUid: '1'.repeat(65) }, {}, 0xa900, 'invalid-argument', [0x0020000d]],
    ['a UID with a line break', { seriesInstanceUid: '1.2\n3' }, {}, 0xa900, 'invalid-argument', [0x0020000e]],
    [
      'another instance than the command set',
      {},
      { sopInstanceUid: '1.2.3.5' },
      0xa900,
      'identifier-mismatch',
      [0x00080018],
    ],
    [
      'another class than the command set',
      {},
      { sopClassUid: '1.2.840.10008.5.1.4.1.1.4' },
      0xa900,
      'identifier-mismatch',
      [0x00080016],
    ],
    [
      'a DICOMDIR',
      { sopClassUid: '1.2.840.10008.1.3.10' },
      { sopClassUid: '1.2.840.10008.1.3.10' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
    [
      'a hanging protocol',
      { sopClassUid: '1.2.840.10008.5.1.4.38.1', studyInstanceUid: undefined },
      { sopClassUid: '1.2.840.10008.5.1.4.38.1' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
    [
      'an inventory',
      { sopClassUid: '1.2.840.10008.5.1.4.1.1.201.1' },
      { sopClassUid: '1.2.840.10008.5.1.4.1.1.201.1' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
    [
      'no storage class',
      { sopClassUid: '1.2.840.10008.1.1' },
      { sopClassUid: '1.2.840.10008.1.1' },
      0x0122,
      'unsupported-class',
      [0x00080016],
    ],
  ];
  const taken: [string, Sample, Partial<StoreRequest>][] = [
    [
      'padding of any kind',
      { sopInstanceUid: '1.2.3.4 ', studyInstanceUid: '1.2.3\0\0' },
      { sopInstanceUid: '1.2.3.4\0' },
    ],
    ['a private class', { sopClassUid: '1.3.12.2.1107.5.9.1' }, { sopClassUid: '1.3.12.2.1107.5.9.1' }],
    ['UIDs with leading zeros and letters', { studyInstanceUid: '01.002.x-Y_z' }, {}],
    ['a UID of 64 characters', { studyInstanceUid: '1'.repeat(64) }, {}],
    ['no SOP Class UID in the data set', { sopClassUid: undefined }, {}],
  ];

  test('both doors give the same reason, the comment fits, and the whole body is read', async () => {
    await house();
    for (const [name, sample, request, status, error, offendingElements] of ofDataSet)
      for (const pixelBytes of [1000, 300_000]) {
        const bytes = dataSet({ ...sample, pixelBytes });
        const stated = { ...REQUEST, ...request };
        const source = watched(chunked(bytes, 10_000));
        const response = await store(source.body, request);
        assert.deepEqual(
          [response.status, response.error, response.offendingElements],
          [status, error, offendingElements],
          name,
        );
        assert.ok(source.seen.ended, 'the response follows the whole request');
        const file = watched(chunked(part10(bytes, stated), 10_000));
        const ofFile = await storePart10(file.body);
        assert.deepEqual(
          [ofFile.status, ofFile.error, ofFile.offendingElements],
          [status, error, offendingElements],
          name,
        );
        assert.ok(file.seen.ended);
        for (const { errorComment, position } of [response, ofFile]) {
          assert.ok(errorComment.length > 0 && errorComment.length <= 64, errorComment);
          assert.doesNotMatch(errorComment, /SECRET|1\.2\.3/);
          assert.equal(position, undefined);
        }
      }
    assert.deepEqual(storage.kept, []);
    assert.equal(storage.objects.size, 0, 'nothing large is left behind');
    const { refused } = await context.client(IngestService).status(context.call(), {});
    assert.equal(refused, ofDataSet.length * 4);
    assert.match(
      await context.metrics.expose(),
      /gantry_ingest_refusals_total\{[^}]*code="missing-identifier"[^}]*\} 24/,
    );
  });

  test('what looks odd and is taken', async () => {
    await house();
    for (const [name, sample, request] of taken) {
      assert.equal((await store([dataSet(sample)], request)).error, '', name);
      assert.equal((await storePart10([part10(dataSet(sample), { ...REQUEST, ...request })])).error, '', name);
    }
    assert.equal(storage.kept[0]!.instance.studyInstanceUid, '1.2.3');
    assert.equal(storage.kept.at(-1)!.instance.sopClassUid, CT);
  });

  test('a Part 10 file as a data set, and bytes that are no data set: C000', async () => {
    await house();
    for (const bytes of [
      part10(dataSet()),
      Buffer.from('hello, this is no data set at all'),
      dataSet().subarray(0, 300),
      dataSet(LARGE).subarray(0, 200_000),
    ]) {
      const response = await store(chunked(bytes, 50));
      assert.deepEqual([response.status, response.error], [0xc000, 'unparsable']);
      assert.ok(response.errorComment.length > 0 && response.errorComment.length <= 64);
    }
    assert.equal(storage.objects.size, 0);
  });

  test('the study of the request', async () => {
    await house();
    assert.equal((await storePart10([part10(dataSet())], '1.2.3')).error, '');
    assert.partialDeepStrictEqual(await storePart10([part10(dataSet())], '1.2.4'), {
      status: 0xa900,
      error: 'identifier-mismatch',
    });
  });
});

describe('limits', () => {
  test('without a permit nothing is read, and after the wait the answer is A700', async () => {
    await house({ settings: { 'ingest.permitBytes': SMALL, 'ingest.permitWaitMs': 0, 'ingest.permitWaiters': 1 } });
    let release = () => {};
    const arrived = new Promise<void>((begun) => {
      storage.before.appendInstance = () => {
        begun();
        return new Promise<void>((resolve) => (release = resolve));
      };
    });
    const first = store([dataSet()]);
    await arrived;
    const source = watched(chunked(dataSet(), 100));
    const second = store(source.body);
    assert.equal(source.seen.chunks, 0);
    assert.partialDeepStrictEqual(await second, { status: 0xa700, error: 'no-permit' });
    assert.ok(source.seen.ended, 'then it is read, to be forgotten');
    context.change({ 'ingest.permitWaitMs': 60_000 });
    const third = store([dataSet()]);
    const fourth = await store([dataSet()]);
    assert.partialDeepStrictEqual(fourth, { status: 0xa700, error: 'no-permit' });
    release();
    storage.before = {};
    assert.equal((await first).error, '');
    assert.equal((await third).error, '', 'a waiter is served');
  });

  test('a waiter that gives up leaves the queue', async () => {
    await house({ settings: { 'ingest.permitBytes': SMALL, 'ingest.permitWaiters': 1 } });
    let release = () => {};
    const arrived = new Promise<void>((begun) => {
      storage.before.appendInstance = () => {
        begun();
        return new Promise<void>((resolve) => (release = resolve));
      };
    });
    const first = store([dataSet()]);
    await arrived;
    const abort = new AbortController();
    const second = store([dataSet()], {}, abort.signal);
    abort.abort();
    await assert.rejects(second, { code: 'cancelled' });
    const third = store([dataSet()]);
    storage.before = {};
    release();
    assert.equal((await first).error, '');
    assert.equal((await third).error, '');
  });

  test('a large instance gives most of its permit back while it streams', async () => {
    await house({ settings: { 'ingest.permitBytes': SMALL + 16 * 1024 } });
    const bytes = dataSet(LARGE);
    let go = () => {};
    const reached = new Promise<void>((resolve) => (go = resolve));
    let finish = () => {};
    async function* slow() {
      yield bytes.subarray(0, 200_000);
      yield bytes.subarray(200_000, 290_000);
      go();
      await new Promise<void>((resolve) => (finish = resolve));
      yield bytes.subarray(290_000);
    }
    const large = store(slow());
    await reached;
    assert.equal((await store([dataSet()])).error, '', 'there is room for a small one');
    finish();
    assert.equal((await large).error, '');
  });

  test('a head above ingest.headBytes is refused', async () => {
    await house({ settings: { 'ingest.headBytes': 10_000 } });
    const comments = Array.from({ length: 30 }, (_, n) => element(0x00091000 + n, 'UN', Buffer.alloc(1000)));
    const response = await store([Buffer.concat(comments)]);
    assert.deepEqual([response.status, response.error], [0xa700, 'too-large']);
  });

  test('a body of one-byte fragments costs no buffer a byte', async () => {
    await house();
    let most = 0;
    const bytes = dataSet({ pixelBytes: 50_000 });
    const gathered = new Gathered();
    for await (const chunk of chunked(bytes, 1)) {
      gathered.push(chunk);
      most = Math.max(most, gathered.buffers.length);
    }
    assert.equal(most, 1);
    assert.deepEqual(Buffer.concat(gathered.buffers), bytes);
    const mixed = new Gathered();
    let at = 0;
    for (const size of [1, 5000, 3, 3, 2048, 2047, 10_000, 1, 30_000, 60_000])
      mixed.push(bytes.subarray(at, (at += size)));
    assert.deepEqual(Buffer.concat(mixed.buffers), bytes.subarray(0, at));
    assert.equal(mixed.length, Math.min(at, bytes.length));
  });
});
