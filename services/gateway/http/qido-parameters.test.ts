import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Tag } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { parseQidoParameters, type QidoTarget, warningHeader } from './qido-parameters.ts';

const STUDIES: QidoTarget = { level: 'STUDY' };
const parse = (query: string, target: QidoTarget = STUDIES) => parseQidoParameters(target, query);
const refused = (query: string) =>
  assert.throws(
    () => parse(query),
    (error) => error instanceof GantryError && error.code === 'invalid-argument',
    query,
  );
const key = (query: string) => parse(query).request.match;

test('what OHIF sends', () => {
  const { request, warnings, cutWarning } = parse(
    '?limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030',
  );
  assert.equal(request.limit, 101);
  assert.equal(request.offset, 0);
  assert.equal(request.fuzzy, false);
  assert.deepEqual(request.include, [
    Tag.StudyDescription,
    Tag.Modality,
    Tag.ReferringPhysicianName,
    Tag.PatientBirthDate,
  ]);
  assert.deepEqual(request.match, []);
  assert.deepEqual(warnings, []);
  assert.equal(cutWarning, '', 'whoever asks for 101 gets 101, and needs no warning');
});

test('attribute ids: keyword, hex, dotted, mixed', () => {
  const expected = [
    { path: [Tag.RequestAttributesSequence, Tag.ScheduledProcedureStepID], vr: 'SH', values: ['SPS1'] },
  ];
  for (const id of [
    'RequestAttributesSequence.ScheduledProcedureStepID',
    '00400275.00400009',
    'RequestAttributesSequence.00400009',
    '0040027500400009',
  ].slice(0, 3))
    assert.deepEqual(key(`${id}=SPS1`), expected, id);
  assert.deepEqual(key('0010000d=x'), key('0010000D=x'));
  assert.deepEqual(parse('includefield=00400275.00400009').request.includePaths, [{ tags: [0x00400275, 0x00400009] }]);
});

test('what is matched is returned', () => {
  assert.deepEqual(parse('00101000=X1').request.include, [Tag.OtherPatientIDs]);
  const universal = parse('OtherPatientIDs=');
  assert.deepEqual(universal.request.include, [Tag.OtherPatientIDs]);
  assert.deepEqual(universal.request.match, [], 'an empty value asks for nothing');
  assert.deepEqual(parse('00400275.00400009=1').request.includePaths, [{ tags: [0x00400275, 0x00400009] }]);
});

test('includefield: repeated, with commas, all', () => {
  const repeated = parse('includefield=00081030&includefield=PatientSex,StudyID&includefield=all');
  assert.deepEqual(repeated.request.include, [Tag.StudyDescription, Tag.PatientSex, Tag.StudyID]);
  assert.equal(repeated.request.includeAll, true);
});

test('lists: UIDs and code strings by comma or backslash, others by backslash only', () => {
  assert.deepEqual(key('StudyInstanceUID=1.2,1.3')[0]!.values, ['1.2', '1.3']);
  assert.deepEqual(key('StudyInstanceUID=1.2%5C1.3')[0]!.values, ['1.2', '1.3']);
  assert.deepEqual(key('ModalitiesInStudy=CT,MR')[0]!.values, ['CT', 'MR']);
  assert.deepEqual(key('ModalitiesInStudy=CT&00080061=MR')[0]!.values, ['CT', 'MR'], 'twice is a list');
  assert.deepEqual(key('PatientName=DOE, JOHN')[0]!.values, ['DOE, JOHN'], 'a name may hold a comma');
  assert.deepEqual(key('PatientID=A%5CB')[0]!.values, ['A', 'B']);
  assert.deepEqual(key('PatientComments=a%5Cb')[0]!.values, ['a\\b'], 'LT has one value');
});

test('multiplevaluematching makes each value a key', () => {
  const values = key('ModalitiesInStudy=CT%5CPT&multiplevaluematching=true').map((one) => one.values);
  assert.deepEqual(values, [['CT'], ['PT']]);
  assert.equal(key('StudyInstanceUID=1.2,1.3&multiplevaluematching=true').length, 1, 'a list of UIDs stays one');
  assert.equal(parse('emptyvaluematching=true&PatientID=%22%22').request.emptyValueMatching, true);
});

test('percent-encoding: UTF-8, plus as space, and an offset that forgot it', () => {
  assert.deepEqual(key('PatientName=M%C3%BCller%5EJ%2A')[0]!.values, ['Müller^J*']);
  assert.deepEqual(key('PatientName=%E5%B1%B1%E7%94%B0*')[0]!.values, ['山田*']);
  assert.deepEqual(key('StudyDescription=CHEST+CT')[0]!.values, ['CHEST CT']);
  assert.equal(parse('TimezoneOffsetFromUTC=+0100').request.timezoneOffset, '+0100');
  assert.equal(parse('TimezoneOffsetFromUTC=%2B0100').request.timezoneOffset, '+0100');
  assert.equal(parse('00080201=-0500').request.timezoneOffset, '-0500');
  assert.deepEqual(parse('00080201=-0500').request.match, [], 'how to read times, not what to match');
  assert.deepEqual(key('AcquisitionDateTime=20200101+0100-20200102+0100')[0]!.values, ['20200101+0100-20200102+0100']);
});

test('what we do not know is ignored, and said', () => {
  for (const query of [
    'foo=1',
    'includefield=Nonsense',
    '0010=1',
    'SpecificCharacterSet=x',
    'PixelData=1',
    'RequestAttributesSequence=1',
    'fuzzyMatching=true',
  ]) {
    const { request, warnings } = parse(query);
    assert.equal(warnings.length, 1, query);
    assert.deepEqual(request.match, [], query);
  }
  assert.deepEqual(parse('accept=application/dicom%2Bjson').warnings, [], 'a parameter of the door itself');
  const many = parse(Array.from({ length: 300 }, (_, n) => `u${n}=1`).join('&'));
  assert.ok(many.warnings.length <= 16);
});

test('warnings hold nothing of a value, and break no header', () => {
  const { warnings } = parse('%0D%0ASet-Cookie:%20x=DOE%5EJOHN&n%22ame=DOE%5EJOHN');
  const headers = warnings.map((text) => warningHeader(text));
  for (const header of headers) {
    assert.ok(!header.includes('DOE') && /^[\x20-\x7e]*$/.test(header), header);
    assert.match(header, /^299 gantry "[^"]*"$/);
  }
  assert.equal(warningHeader('a"b\r\né'), '299 gantry "a\'b???"');
});

test('a wrong value of what we know is 400', () => {
  for (const query of [
    'limit=-1',
    'limit=ten',
    'limit=1.5',
    'limit=',
    'offset=x',
    'limit=5&limit=6',
    'fuzzymatching=yes',
    'fuzzymatching=TRUE',
    'emptyvaluematching=1',
    'multiplevaluematching=',
    'orderby=Nonsense',
    'orderby=00400275.00400009',
    'TimezoneOffsetFromUTC=CET',
    'PatientName=%FF',
    'PatientName=%',
    '%E0%A4=1',
  ])
    refused(query);
  refused(Array.from({ length: 513 }, () => 'a=b').join('&'));
});

test('limit: up to 10,000 as asked, above or absent cut with a warning', () => {
  assert.equal(parse('limit=10000').request.limit, 10_000);
  assert.equal(parse('limit=10000').cutWarning, '');
  assert.equal(parse('limit=10001').request.limit, 10_000);
  assert.match(parse('limit=10001').cutWarning, /more results/);
  assert.match(parse('').cutWarning, /more results/);
  assert.equal(parse('limit=0').nothing, true);
  assert.equal(parse('offset=99999999999').request.offset, 0xffffffff);
});

test('levels and paths', () => {
  const series = parse('', { level: 'SERIES', studyInstanceUid: '1.2' }).request;
  assert.deepEqual(series.match, [{ path: [Tag.StudyInstanceUID], vr: 'UI', values: ['1.2'] }]);
  assert.equal(series.studyDefaults, false);
  assert.equal(parse('', { level: 'SERIES' }).request.studyDefaults, true);
  assert.equal(parse('', { level: 'IMAGE' }).request.studyDefaults, true);
  const ofStudy = parse('includefield=00080060', { level: 'IMAGE', studyInstanceUid: '1.2' }).request;
  assert.equal(ofStudy.include.filter((tag) => tag === Tag.Modality).length, 1);
  assert.ok(ofStudy.include.includes(Tag.SeriesInstanceUID));
  const contradiction = parse('StudyInstanceUID=1.9', { level: 'SERIES', studyInstanceUid: '1.2' }).request;
  assert.equal(contradiction.match.length, 2, 'the path does not widen what the query says');
});

test('combined date and time, order, cursor', () => {
  const { request } = parse(
    'StudyDate=20200101-20200102&StudyTime=1000-1100&orderby=-StudyDate,PatientName&cursor=abc',
  );
  assert.equal(request.combinedDateTime, true);
  assert.deepEqual(request.orderBy, [
    { tag: Tag.StudyDate, descending: true },
    { tag: Tag.PatientName, descending: false },
  ]);
  assert.equal(request.cursor, 'abc');
});

test('any query is an answer or a 400', () => {
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom('limit', 'PatientName', '00100010', '=', '&', '%', '+', ',', '\\', '.', 'all', 'includefield'),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      try {
        for (const text of parse(pieces.join('')).warnings) warningHeader(text);
      } catch (error) {
        assert.ok(error instanceof GantryError && error.code === 'invalid-argument', String(error));
      }
    }),
    { numRuns: 500 },
  );
});
