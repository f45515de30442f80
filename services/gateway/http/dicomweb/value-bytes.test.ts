// Values of deflated data sets: whole where they are small, in bounded memory where they are not.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { skim } from '#dicom/skim.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { systemCall } from '#platform/call.ts';
import { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';
import { createValueReader } from './value-bytes.ts';

const DEFLATED = '1.2.840.10008.1.2.1.99';
const PREFIX = 200; // where the data set begins in its file
const SLICE = 1000; // of what a read brings at once

const pixels = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 3));
const plain = encodeDataSet(
  {
    '00080018': { vr: 'UI', Value: ['1.2.3'] },
    '7FE00010': { vr: 'OB', InlineBinary: pixels.toString('base64') },
  } as never,
  { transferSyntaxUid: '1.2.840.10008.1.2.1' },
);

/** An instance whose data set is stored so, and how much of its file was read. */
function kept(stored: Buffer, sopInstanceUid = '1.2.3') {
  const file = Buffer.concat([Buffer.alloc(PREFIX), stored]);
  const read = { bytes: 0, times: 0, open: 0 };
  const reader = {
    fileLength: () => file.length,
    async *read(_call: unknown, _located: unknown, { start, end }: { start: number; end: number }) {
      read.times++;
      read.open++;
      try {
        for (let at = start; at < end; at += SLICE) {
          const chunk = file.subarray(at, Math.min(end, at + SLICE));
          read.bytes += chunk.length;
          yield chunk;
        }
      } finally {
        read.open--;
      }
    },
  } as unknown as Reader;
  const located = Located.fromPartial({ sopInstanceUid, transferSyntaxUid: DEFLATED, dataSetOffset: PREFIX });
  const head = skim(stored, DEFLATED);
  return { reader, located, head, read, size: stored.length };
}
const frame = (head: { pixel?: { offset: number } }, from: number, to: number) => [
  { offset: head.pixel!.offset + from, length: to - from },
];
async function all(source: AsyncIterable<Buffer>): Promise<{ bytes: Buffer; largest: number }> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return { bytes: Buffer.concat(chunks), largest: Math.max(0, ...chunks.map(({ length }) => length)) };
}
const call = systemCall('main', 'values');
const answer = () => ({ raw: new EventEmitter() as ServerResponse });

describe('values of a deflated data set', () => {
  test('a small one is inflated once for a request, whatever is asked of it', async () => {
    const { reader, located, head, read } = kept(deflateRawSync(plain));
    const values = createValueReader(reader, call, answer())(located, head);
    for (const [from, to] of [
      [0, 100],
      [150_000, 150_001],
      [10, pixels.length],
    ] as const)
      assert.deepEqual((await all(values.ranges(frame(head, from, to)))).bytes, pixels.subarray(from, to));
    assert.equal(read.times, 1);
  });

  test('of one that is longer than may be held, only what is before the end of a value is inflated, piece by piece', async () => {
    const { reader, located, head, read, size } = kept(deflateRawSync(plain));
    const values = createValueReader(reader, call, answer(), head.length - 1)(located, head);
    const early = await all(values.ranges(frame(head, 1_000, 2_000)));
    assert.deepEqual(early.bytes, pixels.subarray(1_000, 2_000));
    assert.ok(read.bytes < size / 2, `${read.bytes} of ${size} bytes were read for a value near the beginning`);
    const whole = await all(values.ranges(frame(head, 0, pixels.length)));
    assert.deepEqual(whole.bytes, pixels);
    assert.ok(whole.largest < pixels.length / 2, 'never all of it at once');
    assert.deepEqual((await all(values.ranges(frame(head, 5, 5)))).bytes, Buffer.alloc(0));
  });

  test('of such a one, values in order are one walk, and a step back begins another; whoever leaves ends it', async () => {
    const { reader, located, head, read, size } = kept(deflateRawSync(plain));
    const reply = answer();
    const values = createValueReader(reader, call, reply, head.length - 1)(located, head);
    const frames = 30;
    const each = pixels.length / frames;
    for (let n = 0; n < frames; n++)
      assert.deepEqual(
        (await all(values.ranges(frame(head, n * each, (n + 1) * each)))).bytes,
        pixels.subarray(n * each, (n + 1) * each),
      );
    assert.equal(read.times, 1);
    assert.ok(read.bytes <= size, `${read.bytes} of ${size} bytes were read for all values in their order`);
    const two = [...frame(head, 5, 10), ...frame(head, 9, 30)];
    assert.deepEqual(
      (await all(values.ranges(two))).bytes,
      Buffer.concat([pixels.subarray(5, 10), pixels.subarray(9, 30)]),
    );
    assert.equal(read.times, 3);
    assert.equal(read.open, 1, 'where the last value ended');
    reply.raw.emit('close');
    await new Promise(setImmediate);
    assert.equal(read.open, 0);
  });

  test('a request that walks through many holds one of them', async () => {
    const instances = [kept(deflateRawSync(plain), '1.2.1'), kept(deflateRawSync(plain), '1.2.2')];
    const reads: string[] = [];
    const reader = {
      fileLength: instances[0]!.reader.fileLength,
      read: (at: never, located: Located, range: never) => {
        reads.push(located.sopInstanceUid);
        return instances[0]!.reader.read(at, located as never, range);
      },
    } as unknown as Reader;
    const valuesOf = createValueReader(reader, call, answer());
    const [one, two] = instances.map(({ located, head }) => valuesOf(located, head));
    for (const values of [one, two, one]) await all(values!.ranges(frame(instances[0]!.head, 0, 10)));
    assert.deepEqual(reads, ['1.2.1', '1.2.2', '1.2.1'], 'the first was let go when the second was asked for');
  });

  test('a data set that its file calls deflated and is not: its bytes as they are', async () => {
    const { reader, located, head } = kept(plain);
    assert.equal(head.deflated, false);
    const values = createValueReader(reader, call, answer())(located, head);
    assert.deepEqual((await all(values.ranges(frame(head, 7, 70)))).bytes, pixels.subarray(7, 70));
  });
});
