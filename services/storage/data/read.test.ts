import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { giveBack, SLAB_BYTES, takeBytes } from '#platform/slabs.ts';
import type { Place } from '#proto/storage/v1/log.ts';
import { bytesOf } from '../log/sample.testing.ts';
import type { ObjectStore } from '../ports.ts';
import { joinRanges, streamPlaces } from './read.ts';

const SIZE = 100_000;
const OBJECTS = new Map(['log/t/a', 'log/t/b'].map((key) => [key, randomBytes(SIZE)]));

/** Counts reads and what of them was pulled. */
function counting(chunk: number) {
  const reads: string[] = [];
  let pulled = 0;
  const objects: Pick<ObjectStore, 'read'> = {
    async *read(object, offset, length) {
      reads.push(object);
      for (let at = offset; at < offset + length; at += chunk) {
        pulled++;
        yield OBJECTS.get(object)!.subarray(at, Math.min(at + chunk, offset + length));
      }
    },
  };
  return { reads, pulled: () => pulled, objects: objects as ObjectStore };
}
const place = (object: string, offset: number, length: number): Place => ({ object, offset, length, encoding: 0 });
const NEVER = new AbortController().signal;

test('ranges come in the order asked, whatever they are and however they are read', async () => {
  const places = fc.array(
    fc
      .tuple(fc.constantFrom(...OBJECTS.keys()), fc.nat(SIZE - 1), fc.nat(5000))
      .map(([object, offset, length]) => place(object, offset, Math.min(length, SIZE - offset))),
    { maxLength: 20 },
  );
  await fc.assert(
    fc.asyncProperty(places, fc.integer({ min: 1, max: 9000 }), fc.boolean(), async (asked, chunk, sorted) => {
      if (sorted) asked.sort((a, b) => a.offset - b.offset);
      const expected = Buffer.concat(
        asked.map(({ object, offset, length }) => OBJECTS.get(object)!.subarray(offset, offset + length)),
      );
      assert.deepEqual(await bytesOf(streamPlaces(counting(Math.max(chunk, 500)).objects, asked, NEVER)), expected);
    }),
  );
});

test('neighbours with a tar header between them are one read', async () => {
  const source = counting(1_000_000);
  const asked = Array.from({ length: 50 }, (_, i) => place('log/t/a', i * 1536, 1000));
  await bytesOf(streamPlaces(source.objects, asked, NEVER));
  assert.equal(source.reads.length, 1);
  assert.equal(joinRanges([place('log/t/a', 0, 10), place('log/t/b', 10, 10), place('log/t/a', 20, 10)]).length, 3);
  assert.equal(joinRanges([place('log/t/a', 0, 10), place('log/t/a', 80_000, 10)]).length, 2, 'not over a wide gap');
  assert.equal(joinRanges([place('log/t/a', 50, 10), place('log/t/a', 0, 10)]).length, 2);
});

test('nothing is read that nobody pulls, and an abort ends it', async () => {
  const source = counting(100);
  const stream = streamPlaces(source.objects, [place('log/t/a', 0, SIZE)], NEVER)[Symbol.asyncIterator]();
  await stream.next();
  await stream.next();
  assert.ok(source.pulled() <= 3, `${source.pulled()} chunks for two`);
  await stream.return?.();
  await assert.rejects(bytesOf(streamPlaces(source.objects, [place('log/t/a', 0, SIZE)], AbortSignal.abort())));
});

test('what is read into slabs and given back piece by piece is right, and its slabs come back', async () => {
  const bytes = randomBytes(4 * SLAB_BYTES);
  const slabs: Buffer[] = [];
  const objects = {
    async *read(_object, offset, length) {
      for (let at = offset; at < offset + length; at += SLAB_BYTES) {
        const chunk = takeBytes(Math.min(SLAB_BYTES, offset + length - at));
        slabs.push(chunk);
        bytes.copy(chunk, 0, at);
        yield chunk;
      }
    },
  } satisfies Pick<ObjectStore, 'read'>;
  // A piece that ends in the middle, one that ends with its slab, one over a border, a gap over a border.
  const borders = [
    0,
    1000,
    5000,
    SLAB_BYTES,
    SLAB_BYTES + 10,
    3 * SLAB_BYTES - 9000,
    3 * SLAB_BYTES + 2000,
    bytes.length,
  ];
  const ranges = borders.slice(1).map((end, i) => [borders[i]!, end] as const);
  const asked = ranges.filter(([start]) => start !== 3 * SLAB_BYTES - 9000).concat([[0, 200_000]]);
  const got: Buffer[] = [];
  for await (const piece of streamPlaces(
    objects as unknown as ObjectStore,
    asked.map(([start, end]) => place('log/t/a', start, end - start)),
    NEVER,
  )) {
    got.push(Buffer.from(piece));
    giveBack(piece);
  }
  assert.deepEqual(Buffer.concat(got), Buffer.concat(asked.map(([start, end]) => bytes.subarray(start, end))));
  assert.equal(slabs.length, 5);
  assert.ok(
    slabs.every((slab) => slab.every((byte) => byte === 0xdd)),
    'a test overwrites what came back',
  );
});
