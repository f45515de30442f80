import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BLOCK, paddedLength, paddingOf, parseTarHeader, writeTarHeader } from './tar.ts';

const part = (max: number) =>
  fc.stringMatching(/^[A-Za-z0-9._-]+$/).filter((text) => text.length >= 1 && text.length <= max);

test('a header reads as it was written, at any size, 8 GiB and beyond included', () => {
  fc.assert(
    fc.property(part(64), part(64), part(90), fc.maxSafeNat(), (study, series, file, bytes) => {
      const block = Buffer.alloc(3 * BLOCK, 0xee);
      const size = bytes % 2 ** 47;
      writeTarHeader(block, BLOCK, `${study}/${series}/${file}`, size, 1_700_000_000);
      assert.deepEqual(parseTarHeader(block, BLOCK), { name: `${study}/${series}/${file}`, bytes: size });
      assert.ok(
        block.subarray(0, BLOCK).every((byte) => byte === 0xee) &&
          block.subarray(2 * BLOCK).every((byte) => byte === 0xee),
      );
    }),
  );
});

test('any single wrong byte makes it no header', () => {
  const block = Buffer.alloc(BLOCK);
  writeTarHeader(block, 0, '1.2/1.2.3/1.2.3.4.deadbeef.dcm', 4711, 1_700_000_000);
  for (let at = 0; at < BLOCK; at++) {
    const wrong = Buffer.from(block);
    wrong[at] = wrong[at]! ^ 0x15;
    const parsed = parseTarHeader(wrong);
    // The two bytes after the checksum's digits may differ: they are its terminator, and nothing else.
    if (at < 154 || at > 155) assert.equal(parsed, undefined, `byte ${at}`);
  }
});

test('garbage is no header, and never throws', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2 * BLOCK }), (bytes) => parseTarHeader(Buffer.from(bytes)) === undefined),
  );
  assert.equal(parseTarHeader(Buffer.alloc(BLOCK)), undefined);
});

test('names that do not fit are refused, not cut', () => {
  const block = Buffer.alloc(BLOCK);
  assert.throws(() => writeTarHeader(block, 0, `a/${'b'.repeat(101)}`, 1, 0), RangeError);
  assert.throws(() => writeTarHeader(block, 0, `${'a'.repeat(156)}/b`, 1, 0), RangeError);
});

test('padding fills the block', () => {
  for (const bytes of [0, 1, 511, 512, 513, 1024]) assert.equal(bytes + paddingOf(bytes).length, paddedLength(bytes));
});
