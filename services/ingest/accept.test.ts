import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, describe, test } from 'node:test';
import { decodeHead } from '#dicom/head.ts';
import { readPart10Prefix } from '#dicom/part10.ts';
import { GantryError } from '#platform/errors.ts';
import { Gathered } from './gathered.ts';
import {
  closeHouse,
  context,
  house,
  LARGE,
  SMALL,
  SOURCE,
  storage,
  store,
  storePart10,
  untilPermitsAreBack,
  watched,
} from './house.testing.ts';
import { CT, chunked, dataSet, EXPLICIT, element, part10 } from './sample.testing.ts';

afterEach(closeHouse);

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

  test('a sender that dribbles over many associations does not shut out another', async () => {
    await house({ settings: { 'ingest.permitBytesPerSender': SMALL * 2 } });
    const of = (address: string) => ({ source: { ...SOURCE, address } });
    const bytes = dataSet();
    const gates: (() => void)[] = [];
    async function* dribble() {
      yield bytes.subarray(0, 100);
      await new Promise<void>((resolve) => gates.push(resolve));
      yield bytes.subarray(100);
    }
    const slow = Array.from({ length: 6 }, () => store(dribble(), of('10.0.0.1')));
    assert.equal((await store([bytes], of('10.0.0.2'))).error, '');
    const opened = async () => {
      while (gates.length === 0) await new Promise((resolve) => setImmediate(resolve));
      gates.shift()!();
    };
    for (const _ of slow) await opened();
    assert.deepEqual(
      (await Promise.all(slow)).map(({ error }) => error),
      ['', '', '', '', '', ''],
    );
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
