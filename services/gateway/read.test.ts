import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemCall } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { type AwaitRequest, IndexService, Located, type LocateRequest } from '#proto/index/v1/index.ts';
import { DataService, type ReadRequest } from '#proto/storage/v1/storage.ts';
import { createReader } from './read.ts';
import { createReadYourWrites } from './read-your-writes.ts';

const call = systemCall('main', 'test');
const version = (n: number) => Buffer.from([n]);

/** Objects whose bytes can move while somebody reads: `breakAt` is when the next read of an object finds it gone. */
function archive() {
  const objects = new Map<string, Buffer>();
  const located: Located[] = [];
  /** Folded by the time that the index has been waited for. */
  const late: Located[] = [];
  const asked: string[] = [];
  const reads: ReadRequest[] = [];
  let breakAt: number | undefined;
  const moveAll = (to: string) => {
    for (const one of located) {
      const bytes = objects.get(one.place!.object)!;
      objects.delete(one.place!.object);
      one.place = { ...one.place!, object: `${to}/${one.sopInstanceUid}`, offset: 0 };
      objects.set(one.place.object, bytes.subarray(Number(one.place.offset)));
    }
  };
  const hooks: { onBreak?: () => void; failure?: GantryError } = {};
  const context = {
    client: (service: unknown) => {
      if (service === DataService)
        return {
          async heads() {
            if (hooks.failure) throw hooks.failure;
            asked.push('heads');
            return { positions: [{ lane: 'l', sequence: 7 }] };
          },
        };
      assert.equal(service, IndexService);
      return {
        async await(_: unknown, { positions, byUid }: AwaitRequest) {
          assert.deepEqual(positions, [{ lane: 'l', sequence: 7 }]);
          asked.push(byUid ? 'await' : 'await found');
          located.push(...late.splice(0));
          return { reached: true };
        },
        locate: async function* (_: unknown, request: LocateRequest) {
          for (const one of located)
            if (request.sopInstanceUids.length === 0 || request.sopInstanceUids.includes(one.sopInstanceUid))
              yield Located.fromPartial(one);
        },
      };
    },
    bulk: () => async (_: unknown, request: ReadRequest) => {
      reads.push(request);
      return {
        response: { length: 0 },
        body: (async function* () {
          for (const place of request.places) {
            const bytes = objects.get(place.object);
            if (bytes === undefined) throw new GantryError('not-found', 'it has moved');
            for (let at = 0; at < place.length; at += 3) {
              if (breakAt !== undefined && place.offset + at >= breakAt) {
                breakAt = undefined;
                hooks.onBreak?.();
                throw hooks.failure ?? new GantryError('not-found', 'it has moved');
              }
              yield bytes.subarray(place.offset + at, place.offset + Math.min(at + 3, place.length));
            }
          }
        })(),
      };
    },
  } as unknown as Context;
  return {
    reader: createReader(context),
    reads,
    located,
    late,
    asked,
    moveAll,
    hooks,
    breakNext: (at: number) => {
      breakAt = at;
    },
    add(n: number, bytes: Buffer): Located {
      const one = Located.fromPartial({
        studyInstanceUid: '1',
        seriesInstanceUid: '1.1',
        sopInstanceUid: `1.1.${n}`,
        version: version(n),
        digest: version(n),
        place: { object: `log/${n}`, offset: 0, length: bytes.length },
      });
      objects.set(`log/${n}`, bytes);
      located.push(one);
      return Located.fromPartial(one);
    },
    replace(n: number, bytes: Buffer) {
      objects.set(`log/${n}`, bytes);
    },
  };
}
const all = async (bytes: AsyncIterable<Buffer>) => {
  const chunks: Buffer[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};

test('what moves while it is read is found again, at the same byte, more than once', async () => {
  const store = archive();
  const one = store.add(1, Buffer.from('abcdefghijklmnopqrstuvwxyz'));
  let moves = 0;
  store.hooks.onBreak = () => {
    store.moveAll(`pack${++moves}`);
    if (moves < 3) store.breakNext(6 * (moves + 1));
  };
  store.breakNext(6);
  assert.equal(await all(store.reader.read(call, one)), 'abcdefghijklmnopqrstuvwxyz');
  assert.equal(moves, 3);
  assert.equal(await all(store.reader.read(call, one, { start: 2, end: 5 })), 'cde');
});

test('reads by UID show what another process has just taken: the index is waited for, but not for instances that it has', async () => {
  const store = archive();
  store.add(1, Buffer.from('abc'));
  const here = { studyInstanceUids: ['1'], seriesInstanceUids: ['1.1'], sopInstanceUids: ['1.1.1'] };
  assert.equal((await store.reader.locate(call, here)).length, 1);
  assert.deepEqual(store.asked, []);
  const behind = (n: number) => {
    const one = store.add(n, Buffer.from('def'));
    store.located.pop();
    store.late.push(one);
  };
  behind(2);
  assert.equal((await store.reader.locate(call, { studyInstanceUids: ['1'] })).length, 2);
  assert.deepEqual(store.asked.splice(0), ['heads', 'await']);
  behind(3);
  assert.equal((await store.reader.locate(call, { ...here, sopInstanceUids: ['1.1.1', '1.1.3'] })).length, 2);
  assert.deepEqual(store.asked.splice(0), ['heads', 'await']);
  // Without a study's UID it is looked for.
  await store.reader.locate(call, { patientId: 'P1' });
  await store.reader.locate(call, { sopInstanceUids: ['1.1.9'] });
  assert.deepEqual(store.asked.splice(0), ['heads', 'await found', 'heads', 'await found']);
  // A log that does not answer costs what it holds beyond the index, and nothing else.
  store.hooks.failure = new GantryError('unavailable', 'no storage');
  behind(4);
  assert.equal((await store.reader.locate(call, { studyInstanceUids: ['1'] })).length, 3);
  store.hooks.failure = new GantryError('damaged', 'a bad log');
  await assert.rejects(store.reader.locate(call, { studyInstanceUids: ['1'] }), { code: 'damaged' });
});

test('what is gone for good is not-found, not asked for for ever', async () => {
  const store = archive();
  const one = store.add(1, Buffer.from('abcdef'));
  store.located.length = 0;
  store.breakNext(0);
  await assert.rejects(all(store.reader.read(call, one)), { code: 'not-found' });
  // The same data set from another sender now: its prefix differs, so that these bytes are not those.
  const other = store.add(1, Buffer.from('ABCDEF'));
  assert.equal(await all(store.reader.read(call, other)), 'ABCDEF');
  store.breakNext(3);
  await assert.rejects(all(store.reader.read(call, { ...one, digest: version(9) })), { code: 'not-found' });
  // Resolved to a place that is not there either.
  const lost = store.add(2, Buffer.from('abc'));
  store.located.at(-1)!.place!.object = 'nowhere';
  await assert.rejects(all(store.reader.read(call, { ...lost, place: { ...lost.place!, object: 'away' } })), {
    code: 'not-found',
  });
});

test('who reads breaks off amid a body: it goes on at the same byte, as often as it gets further, and not before the first', async () => {
  const store = archive();
  store.hooks.failure = new GantryError('unavailable', 'the connection broke inside the answer');
  const one = store.add(1, Buffer.from('abcdefghijklmnopqrstuvwxyz'));
  let breaks = 0;
  store.hooks.onBreak = () => {
    if (++breaks < 3) store.breakNext(6 * (breaks + 1));
  };
  store.breakNext(6);
  assert.equal(await all(store.reader.read(call, one)), 'abcdefghijklmnopqrstuvwxyz');
  assert.equal(breaks, 3);
  assert.equal(store.reads.length, 4);
  const two = store.add(2, Buffer.from('0123456789'));
  breaks = 2;
  store.breakNext(6);
  let files = '';
  for await (const { file, chunk, first } of store.reader.readFiles(call, [two, two]))
    files += `${first ? `${file.sopInstanceUid} ` : ''}${chunk}`;
  assert.equal(files, '1.1.2 01234567891.1.2 0123456789');
  // Of many files those that came before count as begun, and both failures may meet at one byte.
  const many = Array.from({ length: 300 }, (_, n) => store.add(100 + n, Buffer.from(`file ${n}.`)));
  breaks = 2;
  let count = 0;
  for await (const { first } of store.reader.readFiles(call, many)) {
    if (first && ++count === 256) store.breakNext(0);
  }
  assert.equal(count, 300);
  // Twice at the same byte, or before there was one.
  store.hooks.onBreak = () => store.breakNext(6);
  store.breakNext(6);
  await assert.rejects(all(store.reader.read(call, one)), { code: 'unavailable' });
  store.hooks.onBreak = () => {};
  store.breakNext(0);
  const before = store.reads.length;
  await assert.rejects(all(store.reader.read(call, one)), { code: 'unavailable' });
  assert.equal(store.reads.length, before + 1);
});

test('fewer bytes than the entry says is damage, never a short file', async () => {
  const store = archive();
  const one = store.add(1, Buffer.from('abcdef'));
  store.replace(1, Buffer.from('abc'));
  const short = { ...one, place: { ...one.place!, length: 6 } };
  await assert.rejects(all(store.reader.read(call, short)), { code: 'damaged' });
  const iterate = async () => {
    for await (const _ of store.reader.readFiles(call, [short]));
  };
  await assert.rejects(iterate, { code: 'damaged' });
});

test('files in one read, each with its own bytes, also when they move in between', async () => {
  for (const breakAt of [undefined, 0, 3, 6]) {
    const store = archive();
    const files = Array.from({ length: 300 }, (_, n) => store.add(n, Buffer.from(`file ${n}.`)));
    if (breakAt !== undefined) {
      store.hooks.onBreak = () => store.moveAll('pack');
      store.breakNext(breakAt);
    }
    const seen = new Map<string, string>();
    for await (const { file, chunk, first } of store.reader.readFiles(call, files)) {
      assert.equal(first, !seen.has(file.sopInstanceUid), file.sopInstanceUid);
      seen.set(file.sopInstanceUid, (seen.get(file.sopInstanceUid) ?? '') + chunk.toString());
    }
    assert.deepEqual(
      [...seen.values()],
      files.map((_, n) => `file ${n}.`),
    );
    if (breakAt === undefined) assert.equal(store.reads.length, 2); // 256 and 44: neighbours in one read
  }
});

test("a sender's own queries wait for what it wrote, nobody else's; what was waited for is forgotten", async () => {
  const waited: { lane: string; sequence: number }[][] = [];
  let reached = true;
  const context = {
    client: () => ({
      await: async (_: unknown, { positions }: { positions: { lane: string; sequence: number }[] }) => {
        waited.push(positions);
        return { reached };
      },
    }),
    wake: { publish: () => undefined, subscribe: () => () => undefined },
  } as unknown as Context;
  const written = createReadYourWrites(context);
  written.note('main', 'CT1', { lane: 'A', sequence: 3 });
  written.note('main', 'CT1', { lane: 'A', sequence: 2 });
  written.note('main', 'CT1', { lane: 'B', sequence: 7 });
  await written.settle(call, 'MR1');
  await written.settle({ ...call, tenant: 'other' }, 'CT1');
  assert.deepEqual(waited, []);
  reached = false;
  await written.settle(call, 'CT1');
  reached = true;
  await written.settle(call, 'CT1');
  await written.settle(call, 'CT1');
  const both = [
    { lane: 'A', sequence: 3 },
    { lane: 'B', sequence: 7 },
  ];
  assert.deepEqual(waited, [both, both]);
});
