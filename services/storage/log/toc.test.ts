import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { BLOCK } from './tar.ts';
import { decodeTable, decodeTocFrame, encodeTocFrame, FORMAT_VERSION, frameLengthFromFoot } from './toc.ts';

const frameOf = (table: Buffer) =>
  encodeTocFrame({ sequence: 3, commitOffset: 1024, previousToc: 512, crc: 0xdeadbeef, table });

/** The frame with a change in it and a digest that holds: as a later release, or a clever stranger, would write it. */
function resealed(frame: Buffer, change: (frame: Buffer) => void): Buffer {
  const copy = Buffer.from(frame);
  change(copy);
  hash('sha256', copy.subarray(0, copy.length - 32), 'buffer').copy(copy, copy.length - 32);
  return copy;
}

test('a frame reads as it was written, in whole blocks, and is found from its foot', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => {
      const table = Buffer.from(bytes);
      const frame = frameOf(table);
      assert.equal(frame.length % BLOCK, 0);
      assert.equal(frameLengthFromFoot(frame.subarray(-BLOCK)), frame.length);
      assert.deepEqual(decodeTocFrame(frame), {
        version: 1,
        sequence: 3,
        commitOffset: 1024,
        previousToc: 512,
        crc: 0xdeadbeef,
        table,
      });
    }),
  );
});

test('every flipped bit is seen', () => {
  const frame = frameOf(Buffer.from('a table of contents'));
  for (let bit = 0; bit < frame.length * 8; bit++) {
    const wrong = Buffer.from(frame);
    wrong[bit >> 3] = wrong[bit >> 3]! ^ (1 << (bit & 7));
    assert.equal(decodeTocFrame(wrong), 'damaged', `bit ${bit}`);
  }
});

test('garbage, cut frames and lying lengths are damage, and never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3 * BLOCK }), (bytes) => decodeTocFrame(Buffer.from(bytes)) === 'damaged'),
  );
  const frame = frameOf(Buffer.alloc(5000, 7));
  for (let length = 0; length < frame.length; length += 7)
    assert.equal(decodeTocFrame(frame.subarray(0, length)), 'damaged');
  const lie = (at: number, value: number) => resealed(frame, (copy) => copy.writeUInt32BE(value, at));
  assert.equal(decodeTocFrame(lie(40, 4999)), 'damaged', 'longer than it says');
  assert.equal(decodeTocFrame(lie(40, 5001)), 'damaged', 'shorter than it says');
  assert.equal(decodeTocFrame(lie(40, 0xffffffff)), 'damaged', 'a bomb');
  assert.equal(decodeTocFrame(lie(44, 0xffffffff)), 'damaged');
  assert.equal(decodeTocFrame(lie(44, 3)), 'damaged');
  assert.equal(decodeTocFrame(resealed(frame, (copy) => copy.fill(0xff, 8, 16))), 'damaged');
});

test('a frame of a later release is told from damage', () => {
  const frame = frameOf(Buffer.from('x'));
  assert.equal(decodeTocFrame(resealed(frame, (copy) => copy.writeUInt16BE(2, 4))), 'newer-format');
  assert.equal(decodeTocFrame(resealed(frame, (copy) => copy.writeUInt16BE(9, 6))), 'newer-format');
});

test('a table is of its lane, its sequence and this format, and holds no entry of an unknown kind', () => {
  const table = (over: Partial<TableOfContents>) =>
    Buffer.from(
      TableOfContents.encode({
        formatVersion: FORMAT_VERSION,
        tenant: 't',
        lane: 'L',
        sequence: 1,
        entries: [],
        ...over,
      }).finish(),
    );
  assert.equal(typeof decodeTable(table({}), 't', 'L', 1), 'object');
  assert.equal(decodeTable(table({ tenant: 'u' }), 't', 'L', 1), 'damaged');
  assert.equal(decodeTable(table({ lane: 'M' }), 't', 'L', 1), 'damaged');
  assert.equal(decodeTable(table({ sequence: 2 }), 't', 'L', 1), 'damaged');
  assert.equal(decodeTable(Buffer.from([0xff, 0xff, 0xff]), 't', 'L', 1), 'damaged');
  assert.equal(decodeTable(table({ formatVersion: 2 }), 't', 'L', 1), 'newer-format');
  // Entry { n: 0, stamp: '', field 99: {} }: what a later release may write
  const unknown = Buffer.concat([table({}), Buffer.from([0x2a, 0x03, 0x9a, 0x06, 0x00])]);
  assert.equal(decodeTable(unknown, 't', 'L', 1), 'unknown-entry');
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      (bytes) => decodeTable(Buffer.from(bytes), 't', 'L', 1) !== undefined,
    ),
  );
});
