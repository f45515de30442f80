import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { formOf } from '../fold/prefix.ts';
import type { EntryRecord } from '../fold/types.ts';
import { makeInstance } from '../instances.testing.ts';
import { decodeBlock, encodeBlock } from './block.ts';

const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const natural = fc.integer({ min: 0, max: 2 ** 50 });
const place = fc.record({
  object: fc.string(),
  offset: fc.integer({ min: 0, max: 2 ** 50 }),
  length: fc.integer({ min: 0, max: 2 ** 40 }),
  encoding: fc.nat(3),
});
const record: fc.Arbitrary<EntryRecord> = fc.record(
  {
    id: fc.record({ lane: fc.string(), sequence: natural, n: fc.nat(255) }, { noNullPrototype: true }),
    stamp: fc
      .tuple(fc.integer({ min: 0, max: 2 ** 48 - 1 }), fc.nat(0xffff))
      .map(([ms, counter]) => ms.toString(16).padStart(12, '0') + counter.toString(16).padStart(4, '0')),
    sopInstanceUid: fc.string({ minLength: 1, maxLength: 64, unit: 'grapheme' }),
    sopClassUid: fc.string(),
    transferSyntaxUid: fc.string(),
    version: digest,
    digest,
    place,
    dataSetOffset: fc.nat(),
    instanceNumber: fc.string({ maxLength: 12 }),
    numberOfFrames: fc.nat(),
    rows: fc.nat(65535),
    columns: fc.nat(65535),
    bitsAllocated: fc.nat(64),
    variant: fc.nat(9),
    control: fc.record(
      {
        trash: fc.record({ order: fc.string(), on: fc.boolean() }, { noNullPrototype: true }),
        purged: fc.constant<true>(true),
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
  },
  {
    noNullPrototype: true,
    requiredKeys: [
      'id',
      'stamp',
      'sopInstanceUid',
      'sopClassUid',
      'transferSyntaxUid',
      'version',
      'digest',
      'place',
      'dataSetOffset',
      'instanceNumber',
      'numberOfFrames',
      'rows',
      'columns',
      'bitsAllocated',
      'variant',
    ],
  },
);

test('what a block keeps comes back as it was', () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 40 }), (records) => {
      assert.deepEqual(
        decodeBlock(encodeBlock(records)),
        records.map((one) => ({ ...one, id: { ...one.id }, place: { ...one.place } })),
      );
    }),
    { numRuns: 300 },
  );
});

test('an ordinary series costs little more than its two digests', () => {
  const sha = (text: string) => createHash('sha256').update(text).digest();
  let offset = 0;
  const records: EntryRecord[] = Array.from({ length: 512 }, (_, i) => {
    const length = 524_000 + ((i * 7919) % 900);
    offset += length + 512;
    return {
      id: { lane: '01JD3Z5X0000000000000000AA', sequence: 100 + Math.floor(i / 16), n: i % 16 },
      stamp: (1_790_000_000_000 + Math.floor(i / 16) * 31).toString(16).padStart(12, '0') + '0000',
      sopInstanceUid: `1.2.840.113619.2.55.3.604688119.971.1790000000.${1000 + i * 3}`,
      sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
      transferSyntaxUid: '1.2.840.10008.1.2.1',
      version: sha('v' + i),
      digest: sha('d' + i),
      place: { object: 'log/main/01JD3Z5X0000000000000000AA/000000000001', offset, length, encoding: 0 },
      dataSetOffset: 350,
      instanceNumber: String(i + 1),
      numberOfFrames: 0,
      rows: 512,
      columns: 512,
      bitsAllocated: 16,
      variant: 0,
    };
  });
  const perEntry = encodeBlock(records).length / records.length;
  assert.ok(perEntry < 75, `${perEntry} bytes`);
});

test('a digest that its prefix gives is not kept, and comes back; any other is kept', () => {
  const records = Array.from({ length: 40 }, (_, n) => {
    const sop = `1.2.826.0.1.${10 ** (n % 7)}.${n}`;
    const { instance } = makeInstance({ study: '1.2', series: '1.2.1', sop, number: n, pixel: n });
    const form = formOf(instance);
    assert.ok(form !== undefined);
    const { sopInstanceUid, sopClassUid, transferSyntaxUid, version, digest, dataSetOffset } = instance;
    const entry: EntryRecord = {
      ...{ sopInstanceUid, sopClassUid, transferSyntaxUid, version, dataSetOffset, form },
      digest: n === 7 ? Buffer.alloc(32, 7) : digest, // a file that came with a meta of its own
      id: { lane: 'A', sequence: 1, n },
      stamp: '0000000000010000',
      place: { object: 'log/1', offset: n, length: 10, encoding: 0 },
      ...{ instanceNumber: '', numberOfFrames: 0, rows: 0, columns: 0, bitsAllocated: 0, variant: 0 },
    };
    if (n === 7) delete entry.form;
    return entry;
  });
  const block = encodeBlock(records);
  assert.deepEqual(decodeBlock(block), records);
  assert.deepEqual(decodeBlock(encodeBlock(decodeBlock(block))), records);
  const whole = encodeBlock(records.map(({ form: _, ...rest }) => rest));
  assert.ok(whole.length - block.length > 39 * 32 - 250, `${whole.length - block.length} bytes saved`);
  // Few are not worth a form; their digests are kept as they are.
  assert.deepEqual(
    decodeBlock(encodeBlock(records.slice(0, 3))),
    records.slice(0, 3).map(({ form: _, ...rest }) => rest),
  );
});

test('a prefix of another’s making has no form', () => {
  const { instance } = makeInstance({ study: '1.2', series: '1.2.1', sop: '1.2.3' });
  assert.equal(formOf({ ...instance, digest: Buffer.alloc(32) }), undefined);
  assert.equal(formOf({ ...instance, dataSetOffset: instance.dataSetOffset + 2 }), undefined);
  assert.equal(formOf({ ...instance, sopInstanceUid: 'ä\u4e2d' }), undefined);
});
