import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { within } from './frames.ts';
import { byteSwapped, shifted } from './pixels.ts';

async function* inChunks(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = Math.max(1, sizes[i % Math.max(1, sizes.length)] ?? 1);
    yield Buffer.from(bytes.subarray(at, at + size)); // of its own: swapping is in place
    at += size;
  }
}
const joined = async (source: AsyncIterable<Buffer>): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
};
const chunkSizes = fc.array(fc.integer({ min: 1, max: 13 }), { minLength: 1, maxLength: 5 });

describe('big endian words (PS3.5 §7.3)', () => {
  for (const word of [2, 4, 8]) {
    test(`of ${word} bytes, across chunk borders; twice is once more the same`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), chunkSizes, async (array, sizes) => {
          const bytes = Buffer.from(array);
          const swapped = await joined(byteSwapped(inChunks(bytes, sizes), word));
          const whole = bytes.length - (bytes.length % word);
          for (let i = 0; i < whole; i++) assert.equal(swapped[i], bytes[i - (i % word) + word - 1 - (i % word)]);
          assert.deepEqual(swapped.subarray(whole), bytes.subarray(whole)); // half a word is left as it is
          assert.deepEqual(await joined(byteSwapped(inChunks(swapped, [7]), word)), bytes);
        }),
        { numRuns: 50 },
      );
    });
  }
});

test('1-bit frames that begin inside a byte: bit for bit, and zeros behind the last (PS3.5 §8.1.1)', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 100 }),
      fc.integer({ min: 0, max: 7 }),
      fc.boolean(),
      chunkSizes,
      async (bits, shift, ones, sizes) => {
        // What stands around the frame is of its neighbours.
        const packed = Buffer.alloc(Math.ceil((bits.length + shift) / 8), ones ? 0xff : 0);
        bits.forEach((bit, i) => {
          const at = i + shift;
          packed[at >> 3] = bit ? packed[at >> 3]! | (1 << (at & 7)) : packed[at >> 3]! & ~(1 << (at & 7));
        });
        const frame = await joined(shifted(inChunks(packed, sizes), shift, bits.length));
        assert.equal(frame.length, Math.ceil(bits.length / 8));
        for (let i = 0; i < frame.length * 8; i++)
          assert.equal(((frame[i >> 3]! >> (i & 7)) & 1) === 1, bits[i] ?? false, `bit ${i}`);
      },
    ),
  );
});

test('a part of a frame that lies in several fragments is that part', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ gap: fc.nat({ max: 9 }), length: fc.nat({ max: 9 }) }), { maxLength: 6 }),
      fc.nat({ max: 60 }),
      fc.nat({ max: 60 }),
      (shape, a, b) => {
        let offset = 0;
        const ranges = shape.map(({ gap, length }) => {
          const range = { offset: offset + gap, length };
          offset += gap + length;
          return range;
        });
        const bytesOf = (list: typeof ranges) =>
          list.flatMap((one) => Array.from({ length: one.length }, (_, i) => one.offset + i));
        const [start, end] = a < b ? [a, b] : [b, a];
        assert.deepEqual(bytesOf(within(ranges, start, end)), bytesOf(ranges).slice(start, end));
      },
    ),
  );
});
