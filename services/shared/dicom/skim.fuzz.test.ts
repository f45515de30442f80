import { it } from 'node:test';
import fc from 'fast-check';
import { encodeHead } from './head.ts';
import { fuzzTargets } from './skim.fuzz.ts';
import { skim } from './skim.ts';
import {
  EXPLICIT,
  EXPLICIT_LE,
  element,
  identity,
  item,
  openItem,
  openSequence,
  sequence,
  sequenceEnd,
} from './test-kit.ts';

/** A minute's worth of tools/fuzz in a second: the parts of a data set, torn and shuffled. */
const parts = [
  identity(),
  openSequence(0x00400275, [openItem(element(0x00400009, 'SH', 'SPS1')), item(Buffer.alloc(0))]),
  sequence(0x00081140, [item(element(0x00081155, 'UI', '1.2'))]),
  element(0x00091010, 'UN', Buffer.concat([item(Buffer.alloc(0)), sequenceEnd()]), EXPLICIT_LE, 0xffffffff),
  element(0x7fe00010, 'OB', Buffer.concat([item(Buffer.alloc(0)), item(Buffer.alloc(40))]), EXPLICIT_LE, 0xffffffff),
  sequenceEnd(),
  element(0x7fe00010, 'OW', Buffer.alloc(50)),
  element(0x54001010, 'OW', Buffer.alloc(1100)),
  Buffer.from('feff00e0ffffffff', 'hex'),
  Buffer.from('feff0de000000000', 'hex'),
  Buffer.alloc(9),
];
const torn = fc
  .array(
    fc.oneof(
      fc.constantFrom(...parts),
      fc.tuple(fc.constantFrom(...parts), fc.nat(60)).map(([part, end]) => part.subarray(0, end)),
    ),
    { maxLength: 6 },
  )
  .chain((list) =>
    fc.tuple(
      fc.constant(Buffer.concat([Buffer.from([0]), ...list])),
      fc.nat(4),
      fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }),
    ),
  )
  .map(([bytes, syntax, changes]) => {
    const input = Buffer.from(bytes);
    for (const [at, byte] of changes) if (at < input.length) input[at] = byte;
    input[0] = syntax;
    return input;
  });

for (const name of ['skim', 'reencode', 'inflate', 'part10'] as const) {
  it(`${name}: torn data sets`, () =>
    fc.assert(
      fc.asyncProperty(torn, (input) => fuzzTargets[name]!(input)),
      { numRuns: 1500 },
    ));
}

it('head: damaged records', () =>
  fc.assert(
    fc.asyncProperty(torn, fc.nat(), fc.nat(255), async (input, at, byte) => {
      let record: Buffer;
      try {
        record = Buffer.from(encodeHead(skim(input.subarray(1), EXPLICIT)));
      } catch {
        return; // refused: nothing to damage
      }
      record[at % record.length] = byte;
      await fuzzTargets.head!(record);
    }),
    { numRuns: 1500 },
  ));

it('json: any JSON, and models with any values', () => {
  const value = fc.oneof(
    fc.constant(null),
    fc.string(),
    fc.double(),
    fc.integer(),
    fc.object(),
    fc.record({ Alphabetic: fc.string() }, { requiredKeys: [] }),
  );
  const model = fc.dictionary(
    fc.constantFrom(
      '00100010',
      '00080005',
      '00280010',
      '00400275',
      '00091001',
      '7FE00010',
      '00281053',
      '00280009',
      'PatientID',
      '00020010',
      'zz',
    ),
    fc.record(
      {
        vr: fc.constantFrom('PN', 'US', 'SQ', 'UN', 'DS', 'AT', 'UV', 'OB', 'LT', 'QQ'),
        Value: fc.array(value, { maxLength: 3 }),
        InlineBinary: fc.string(),
        BulkDataURI: fc.string(),
      },
      { requiredKeys: [] },
    ),
  );
  return fc.assert(
    fc.asyncProperty(fc.oneof(fc.jsonValue(), model), (json) => fuzzTargets.json!(Buffer.from(JSON.stringify(json)))),
    { numRuns: 2000 },
  );
});
