import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hexOf, parseAttributePath } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { MatchKey } from '#proto/index/v1/index.ts';
import { type Attribute, type Condition, compileKeys, type Entity, MATCH_LIMITS } from './match.ts';
import { fuzzyName, nameGroups, oneSlip, personName, soundOf, wildcard } from './match-text.ts';
import { dateTimeInterval, parseKey, timeInterval } from './match-time.ts';
import {
  type CaseInstance,
  INSTANCES,
  keysOfCase,
  MATCHING_CASES,
  type MatchingCase,
  uidOf,
} from './matching-cases.ts';

const LABEL = { PATIENT: 'study', STUDY: 'study', SERIES: 'series', IMAGE: 'instance' } as const;

function entity(instances: readonly CaseInstance[]): Entity {
  const byHex = new Map<string, Attribute[]>();
  const add = (tag: number, attribute: Attribute) =>
    byHex.set(hexOf(tag), [...(byHex.get(hexOf(tag)) ?? []), attribute]);
  for (const one of instances) {
    for (const [keyword, attribute] of Object.entries(one.attributes)) add(parseAttributePath(keyword)![0]!, attribute);
    add(0x0020000d, { vr: 'UI', Value: [uidOf(one.study)] });
    add(0x0020000e, { vr: 'UI', Value: [uidOf(one.series)] });
    add(0x00080018, { vr: 'UI', Value: [uidOf(one.instance)] });
  }
  const modalities = instances.map((one) => one.attributes.Modality?.Value?.[0]);
  add(0x00080061, { vr: 'CS', Value: [...new Set(modalities)] });
  return { attributes: (tag) => byHex.get(hexOf(tag)) ?? [] };
}

function run(one: MatchingCase): string[] {
  const conditions: Condition[] = compileKeys(keysOfCase(one), one.options);
  const groups = new Map<string, CaseInstance[]>();
  for (const instance of INSTANCES) {
    const label = instance[LABEL[one.level]];
    groups.set(label, [...(groups.get(label) ?? []), instance]);
  }
  const found = [...groups].filter(([, group]) => conditions.every((condition) => condition.test(entity(group))));
  if (one.level !== 'PATIENT') return found.map(([label]) => label);
  const patients = new Map(
    found
      .map(([label, group]) => [JSON.stringify(group[0]!.attributes.PatientID?.Value ?? label), label] as const)
      .reverse(),
  );
  return [...patients.values()].sort();
}

for (const one of MATCHING_CASES)
  test(`${one.level}: ${one.name}`, () => {
    if (one.expect === 'invalid') {
      assert.throws(
        () => run(one),
        (error) =>
          error instanceof GantryError && error.code === 'invalid-argument' && error.offendingElements.length === 1,
      );
      return;
    }
    assert.deepEqual(run(one).sort(), [...one.expect].sort());
  });

test('the table is worth its name', () => {
  assert.ok(MATCHING_CASES.length >= 80, String(MATCHING_CASES.length));
  assert.equal(
    new Set(MATCHING_CASES.map((one) => one.level + one.name)).size,
    MATCHING_CASES.length,
    'names are unique',
  );
});

test('wildcards agree with a regular expression', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', 'é', '😀'), maxLength: 12 });
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '😀'), maxLength: 12 });
  fc.assert(
    fc.property(letters, text, (pattern, value) => {
      const model = new RegExp(`^${pattern.replaceAll('*', '.*').replaceAll('?', '.')}$`, 'us');
      assert.equal(wildcard(pattern)(value), model.test(value));
    }),
  );
});

test('fuzzy finds whatever literal matching finds', () => {
  const name = fc.string({ unit: fc.constantFrom('A', 'b', '^', '=', ' ', 'é', '山'), maxLength: 16 });
  const key = fc.string({ unit: fc.constantFrom('A', 'b', '^', '=', '*', '?', 'é', '山'), maxLength: 10 });
  fc.assert(
    fc.property(key, name, (asked, value) => {
      const groups = nameGroups(value);
      if (personName(asked)(groups)) assert.ok(fuzzyName(asked)(groups));
    }),
  );
});

test('any key is a set of conditions or an invalid argument, never anything else', () => {
  const vr = fc.constantFrom(
    'AE',
    'AS',
    'AT',
    'CS',
    'DA',
    'DS',
    'DT',
    'FD',
    'IS',
    'LO',
    'LT',
    'OB',
    'PN',
    'SH',
    'SQ',
    'SV',
    'TM',
    'UI',
    'UN',
    'US',
    'UT',
    'XX',
    '',
  );
  const key = fc.record({
    path: fc.array(fc.constantFrom(0x00080020, 0x00080030, 0x00100010, 0x00400275), { maxLength: 20 }),
    vr,
    values: fc.array(fc.string({ unit: 'binary', maxLength: 24 }), { maxLength: 3 }),
  });
  const value = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.constant(null),
    fc.record({ Alphabetic: fc.string() }),
    fc.record({ '00080020': fc.record({ vr: fc.constant('DA'), Value: fc.array(fc.string()) }) }),
  );
  const attribute = fc.record({ vr, Value: fc.array(value, { maxLength: 3 }) });
  fc.assert(
    fc.property(
      fc.array(key, { maxLength: 4 }),
      fc.array(attribute, { maxLength: 2 }),
      fc.boolean(),
      (keys, attributes, flag) => {
        try {
          const conditions = compileKeys(keys, {
            fuzzy: flag,
            combinedDateTime: flag,
            emptyValueMatching: flag,
            timezoneOffset: flag ? '+0100' : '',
          });
          for (const condition of conditions) condition.test({ attributes: () => attributes });
        } catch (error) {
          assert.ok(error instanceof GantryError && error.code === 'invalid-argument', String(error));
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('limits on keys', () => {
  const key = (values: string[], path = [0x00080050]) => MatchKey.fromPartial({ path, vr: 'SH', values });
  const refused = (keys: MatchKey[]) => assert.throws(() => compileKeys(keys), { code: 'invalid-argument' });
  refused(Array.from({ length: MATCH_LIMITS.keys + 1 }, () => key(['x'])));
  refused([key(Array.from({ length: MATCH_LIMITS.valuesPerKey + 1 }, (_, n) => `x${n}`))]);
  refused([key([`*${'x'.repeat(MATCH_LIMITS.valueLength)}`])]);
  refused([
    key(
      ['x'],
      Array.from({ length: MATCH_LIMITS.depth + 1 }, () => 0x00400275),
    ),
  ]);
});

test('no message carries the value of a key', () => {
  for (const [vr, path] of [
    ['DA', 0x00100030],
    ['UI', 0x0020000d],
    ['IS', 0x00200011],
  ] as const)
    assert.throws(
      () => compileKeys([MatchKey.fromPartial({ path: [path], vr, values: ['SECRET*'] })]),
      (error: Error) => !error.message.includes('SECRET'),
    );
});

test('times and date-times', () => {
  assert.deepEqual(timeInterval('10'), { from: 36_000_000_000, to: 39_599_999_999 });
  assert.equal(timeInterval('24'), undefined);
  assert.equal(timeInterval('1060'), undefined);
  assert.ok(timeInterval('235960'), 'a leap second');
  assert.equal(dateTimeInterval('2020')!.to + 1, dateTimeInterval('2021')!.from);
  assert.equal(dateTimeInterval('202012')!.to + 1, dateTimeInterval('2021')!.from);
  assert.equal(parseKey('DT', '2020-0500')!.range, false, 'an offset, not the year 500');
  assert.equal(parseKey('DT', '2019-2020')!.range, true);
  assert.equal(parseKey('DT', '0050')!.from < 0, true, 'the year 50, not 1950');
  assert.equal(parseKey('DA', '20200101--20200102'), undefined);
});

test('sounds and slips', () => {
  for (const [a, b] of [
    ['MEYER', 'MAIER'],
    ['PHILIP', 'FILIP'],
    ['SCHMIDT', 'SCHMITT'],
    ['KNIGHT', 'NIGHT'],
    ['CATHERINE', 'KATHERINE'],
  ] as const)
    assert.equal(soundOf(a), soundOf(b), `${a} ${b}`);
  assert.notEqual(soundOf('DOE'), soundOf('ROE'));
  assert.equal(soundOf('山田'), '');
  for (const [a, b, close] of [
    ['SMITH', 'SMYTH', true],
    ['SMITH', 'SMIHT', true],
    ['SMITH', 'SMITHS', true],
    ['SMITH', 'SMTIHS', false],
    ['', 'A', true],
  ] as const)
    assert.equal(oneSlip(a, b), close, `${a} ${b}`);
});
