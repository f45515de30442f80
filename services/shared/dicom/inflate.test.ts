import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constants, deflateRawSync, deflateSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { DicomError } from './errors.ts';
import { Inflater } from './inflate.ts';

function inflate(bytes: Buffer, size = bytes.length || 1, max = 2 ** 30): Buffer {
  const out: Buffer[] = [];
  const inflater = new Inflater(max);
  for (let at = 0; at < bytes.length; at += size) {
    inflater.write(Buffer.from(bytes.subarray(at, at + size)), (piece) => {
      assert.ok(piece.length <= 65536);
      out.push(Buffer.from(piece));
    });
  }
  inflater.end();
  return Buffer.concat(out);
}

/** Bytes as deflate meets them: runs, repeats at all distances, noise. */
const data = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((a) => Buffer.from(a)),
      fc.tuple(fc.integer({ min: 0, max: 255 }), fc.nat(70_000)).map(([byte, n]) => Buffer.alloc(n, byte)),
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(900))
        .map(([a, n]) => Buffer.concat(Array.from({ length: n }, () => a))),
    ),
    { maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts));

describe('inflate, with zlib as the oracle', () => {
  it('levels, strategies, chunks of any size', () => {
    fc.assert(
      fc.property(
        data,
        fc.constantFrom(0, 1, 6, 9),
        fc.constantFrom(constants.Z_DEFAULT_STRATEGY, constants.Z_HUFFMAN_ONLY, constants.Z_RLE, constants.Z_FIXED),
        fc.integer({ min: 1, max: 5000 }),
        (bytes, level, strategy, size) => {
          const packed = deflateRawSync(bytes, { level, strategy });
          assert.ok(inflate(packed, size).equals(bytes));
        },
      ),
      { numRuns: 150 },
    );
  });
  it('byte by byte, and behind a zlib header', () => {
    const bytes = Buffer.from('the quick brown fox '.repeat(500));
    assert.ok(inflate(deflateRawSync(bytes), 1).equals(bytes));
    assert.ok(inflate(deflateSync(bytes), 1).equals(bytes));
  });
  it('of damaged streams: an error or zlib’s answer, never a crash', () => {
    fc.assert(
      fc.property(data, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }), (bytes, changes) => {
        const packed = deflateRawSync(bytes);
        for (const [at, byte] of changes) packed[at % packed.length] = byte;
        let ours: Buffer | undefined;
        try {
          ours = inflate(packed, 1000, 2 ** 22);
        } catch (error) {
          assert.ok(error instanceof DicomError, String(error));
          return;
        }
        let theirs: Buffer | undefined;
        try {
          theirs = inflateRawSync(packed);
        } catch {
          return; // zlib is stricter about incomplete codes
        }
        assert.ok(ours.equals(theirs));
      }),
      { numRuns: 300 },
    );
  });
  it('ends at the limit, exactly', () => {
    const packed = deflateRawSync(Buffer.alloc(100_000));
    assert.equal(inflate(packed, 100, 100_000).length, 100_000);
    assert.throws(() => inflate(packed, 100, 99_999), { reason: 'inflates-too-far' });
  });
  it('refuses a distance that reaches before the first byte: nothing of our memory comes out', () => {
    const text = Buffer.from('the quick brown fox jumps over the lazy dog');
    assert.throws(() => inflate(deflateRawSync(text, { dictionary: text })), { reason: 'deflate' });
  });
  it('refuses a stream that ends early', () => {
    const packed = deflateRawSync(Buffer.from('abcabcabc'));
    for (let end = 0; end < packed.length; end++)
      assert.throws(() => inflate(packed.subarray(0, end)), { reason: 'deflate' });
  });
});
