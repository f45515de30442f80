import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeHead } from '#dicom/head.ts';
import { elementToJson } from '#dicom/json.ts';
import { skim } from '#dicom/skim.ts';
import { encodeDataSet } from '#dicom/write.ts';
import type { Instance } from '#proto/storage/v1/log.ts';
import { makeInstance } from '../instances.testing.ts';
import { dataSetOf, describe } from './describe.ts';
import { hexTag, VARIANT_TAGS } from './levels.ts';

const EXPLICIT_LE = '1.2.840.10008.1.2.1';
const { instance: template } = makeInstance({ study: '1.2', series: '1.3', sop: '1.4' });
const withHead = (attributes: object, defaultCharset = ''): Instance => ({
  ...template,
  head: encodeHead(skim(encodeDataSet(attributes as never, { transferSyntaxUid: EXPLICIT_LE }), EXPLICIT_LE)),
  source: { ...template.source!, defaultCharset },
});
/** Read element by element, whatever was read before. */
function plainly(instance: Instance): object {
  const dataSet = dataSetOf(instance.head, instance.source?.defaultCharset ?? '');
  const found: Record<string, unknown> = {};
  for (const tag of VARIANT_TAGS) {
    const element = dataSet.get(tag);
    if (element) found[hexTag(tag)] = elementToJson(element);
  }
  return found;
}

test('what is remembered of headers is what they say: any two differ where their bytes do', () => {
  const text = (vr: string, ...values: fc.Arbitrary<string>[]) =>
    fc.oneof(...values).map((value) => ({ vr, ...(value === '' ? {} : { Value: [value] }) }));
  const name = fc.constantFrom('Müller^Jörg', 'Muller^Jorg', 'Doe^Jane', 'Doe^Jane^').map((Alphabetic) => ({
    vr: 'PN',
    Value: [{ Alphabetic }],
  }));
  const code = fc.constantFrom('A', 'B', '').map((value) => ({
    vr: 'SQ',
    Value: value === '' ? [] : [{ '00080100': { vr: 'SH', Value: [value] } }],
  }));
  const header = fc.record(
    {
      '00080005': fc.constantFrom('ISO_IR 100', 'ISO_IR 192').map((value) => ({ vr: 'CS', Value: [value] })),
      '00080020': text('DA', fc.constantFrom('20200101', '20200102', '')),
      '00080060': text('CS', fc.constantFrom('CT', 'MR')),
      '00081030': text('LO', fc.constantFrom('a', 'b', 'ab', '')),
      '0008103E': text('LO', fc.constantFrom('a', 'b', 'ab', '')),
      '00081032': code,
      '00100010': name,
      '00200011': text('IS', fc.constantFrom('1', '2')),
      '00200013': text('IS', fc.constantFrom('7', '8')),
      '00280010': fc.constantFrom(1, 512).map((value) => ({ vr: 'US', Value: [value] })),
    },
    { requiredKeys: [] },
  );
  const instance = fc
    .tuple(header, fc.constantFrom('', 'ISO_IR 100', 'ISO_IR 144'))
    .map(([attributes, charset]) => withHead({ '00080016': { vr: 'UI', Value: ['1.2.3'] }, ...attributes }, charset));
  fc.assert(
    fc.property(fc.array(instance, { minLength: 1, maxLength: 20 }), (instances) => {
      for (const one of instances) assert.deepEqual(describe(one).attributes, plainly(one));
    }),
    { numRuns: 300 },
  );
});

test('the same bytes give the same object; numbers beside it are each instance’s own', () => {
  const of = (number: string, rows: number) =>
    describe(
      withHead({
        '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Same^Name' }] },
        '00200013': { vr: 'IS', Value: [number] },
        '00280010': { vr: 'US', Value: [rows] },
      }),
    );
  const [a, b] = [of('1', 512), of('2', 64)];
  assert.equal(a.attributes, b.attributes);
  assert.deepEqual([a.instanceNumber, a.rows, b.instanceNumber, b.rows], ['1', 512, '2', 64]);
});
