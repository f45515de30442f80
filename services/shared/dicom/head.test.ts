import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DataSet } from './dataset.ts';
import { DicomError } from './errors.ts';
import { decodeHead, encodeHead } from './head.ts';
import { skim } from './skim.ts';
import { EXPLICIT, EXPLICIT_LE, element, encapsulated, item, JPEG, native, sequence, sequenceEnd } from './test-kit.ts';

describe('heads as bytes', () => {
  it('come back the same', () => {
    for (const head of [
      skim(native(), EXPLICIT),
      skim(encapsulated([0, 108], 100, 50), JPEG),
      skim(Buffer.concat([native(), Buffer.alloc(20)]), EXPLICIT),
    ]) {
      assert.deepEqual(decodeHead(encodeHead(head)), head);
    }
  });
  it('written by the first release are read for ever', () => {
    const table = Buffer.alloc(8);
    table.writeUInt32LE(12, 4);
    const value = Buffer.concat([item(table), item(Buffer.alloc(4)), item(Buffer.alloc(6))]);
    const dataSet = Buffer.concat([
      element(0x00080018, 'UI', '2.25.1'),
      sequence(0x54000100, [item(element(0x54001010, 'OW', Buffer.alloc(1026)))]),
      element(0x7fe00010, 'OB', value, EXPLICIT_LE, 0xffffffff),
      sequenceEnd(),
      element(0xfffcfffc, 'OB', 'ab'),
    ]);
    const record =
      '013916312e322e3834302e31303030382e312e322e342e3530fc083a0800180055490600322e32352e31005400015351000016040000feff00e00e040000' +
      '005410104f57000002040000e07f10004f420000ffffffff022e2e82080c8e0832908080ff07bc0832cc0802000c020406ee080e';
    assert.deepEqual(decodeHead(Buffer.from(record, 'hex')), skim(dataSet, JPEG));
    assert.equal(encodeHead(skim(dataSet, JPEG)).toString('hex'), record, 'a changed format needs a new version byte');
  });
  it('refuse damage instead of believing it', () => {
    const bytes = encodeHead(skim(encapsulated([0, 108], 100, 50), JPEG));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 0, max: 255 }), fc.nat(bytes.length), (at, byte, end) => {
        const damaged = Buffer.from(bytes.subarray(0, end));
        if (at < end) damaged[at] = byte;
        try {
          new DataSet(decodeHead(damaged));
        } catch (error) {
          assert.ok(error instanceof DicomError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
    assert.throws(() => decodeHead(Buffer.from([9])), /version 9/);
  });
});
