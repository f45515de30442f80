import assert from 'node:assert/strict';
import { test } from 'node:test';
import { charsetOf } from '#dicom/charset.ts';
import { DataSet } from '#dicom/dataset.ts';
import { hexOf, Tag, tagOf, vrOf } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { type FindContext, parseFindIdentifier } from './find-identifier.ts';

const EXPLICIT = '1.2.840.10008.1.2.1';
const STUDY_ROOT: FindContext = {
  model: 'study-root',
  relational: false,
  dateTime: false,
  fuzzy: false,
  timezone: false,
  aeTitle: 'GANTRY',
};
const PATIENT_ROOT: FindContext = { ...STUDY_ROOT, model: 'patient-root' };
const PATIENT_STUDY: FindContext = { ...STUDY_ROOT, model: 'patient-study-only' };

/** An identifier in Explicit VR Little Endian, text in `charset`; a list is a sequence of items. */
type Given = { [keyword: string]: string | Given[] };
function bytesOf(given: Given, charset = ''): Buffer {
  const parts = Object.entries(given)
    .map(([keyword, value]) => ({ tag: tagOf(keyword) ?? Number.parseInt(keyword, 16), value }))
    .sort((a, b) => a.tag - b.tag)
    .map(({ tag, value }) => {
      const vr = vrOf(tag) === 'UN' ? 'LO' : vrOf(tag);
      const head = Buffer.alloc(vr === 'SQ' || vr === 'OW' ? 12 : 8);
      head.writeUInt16LE(tag >>> 16, 0);
      head.writeUInt16LE(tag & 0xffff, 2);
      head.write(vr, 4, 'latin1');
      let body: Buffer;
      if (typeof value === 'string') {
        body = charsetOf(charset).encode(value, vr === 'PN' ? 'name' : 'multi');
        if (body.length % 2) body = Buffer.concat([body, Buffer.from(vr === 'UI' ? '\0' : ' ')]);
      } else
        body = Buffer.concat(
          value.flatMap((item) => {
            const inner = bytesOf(item, charset);
            const start = Buffer.from([0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0]);
            start.writeUInt32LE(inner.length, 4);
            return [start, inner];
          }),
        );
      if (head.length === 12) head.writeUInt32LE(body.length, 8);
      else head.writeUInt16LE(body.length, 6);
      return Buffer.concat([head, body]);
    });
  return Buffer.concat(parts);
}
const identifier = (given: Given, charset = '') =>
  new DataSet({
    buffer: bytesOf(charset ? { SpecificCharacterSet: charset, ...given } : given, charset),
    transferSyntaxUid: EXPLICIT,
  });
const parse = (given: Given, context: FindContext = STUDY_ROOT, charset = '') =>
  parseFindIdentifier(identifier(given, charset), context);
const refused = (given: Given, context: FindContext, tag: number) =>
  assert.throws(
    () => parse(given, context),
    (error) => error instanceof GantryError && error.code === 'invalid-argument' && error.offendingElements[0] === tag,
    JSON.stringify(given),
  );
const row = (model: Record<string, [string, ...unknown[]]>): Buffer =>
  Buffer.from(
    JSON.stringify(
      Object.fromEntries(
        Object.entries(model).map(([keyword, [vr, ...Value]]) => [
          hexOf(tagOf(keyword)!),
          Value.length ? { vr, Value } : { vr },
        ]),
      ),
    ),
  );

test('keys become matches and includes; empty ones only includes', () => {
  const { request, level, pendingStatus } = parse({
    QueryRetrieveLevel: 'STUDY ',
    PatientName: 'DOE*',
    PatientID: '',
    StudyInstanceUID: '1.2\\1.3',
    ModalitiesInStudy: 'CT\\MR',
  });
  assert.equal(level, 'STUDY');
  assert.equal(pendingStatus, 0xff00);
  assert.deepEqual(request.match, [
    { path: [Tag.ModalitiesInStudy], vr: 'CS', values: ['CT', 'MR'] },
    { path: [Tag.PatientName], vr: 'PN', values: ['DOE*'] },
    { path: [Tag.StudyInstanceUID], vr: 'UI', values: ['1.2', '1.3'] },
  ]);
  assert.deepEqual(request.include, [Tag.ModalitiesInStudy, Tag.PatientName, Tag.PatientID, Tag.StudyInstanceUID]);
});

test('level: stated, in odd writing, missing, and not of the model', () => {
  assert.equal(parse({ QueryRetrieveLevel: 'image', StudyInstanceUID: '1', SeriesInstanceUID: '2' }).level, 'IMAGE');
  assert.equal(parse({ PatientName: '' }).level, 'STUDY');
  assert.equal(parse({ PatientName: '' }, PATIENT_ROOT).level, 'PATIENT');
  assert.equal(parse({ StudyInstanceUID: '1', SeriesInstanceUID: '' }).level, 'SERIES');
  assert.equal(parse({ PatientID: '1', StudyInstanceUID: '' }, PATIENT_STUDY).level, 'STUDY');
  refused({ QueryRetrieveLevel: 'PATIENT' }, STUDY_ROOT, Tag.QueryRetrieveLevel);
  refused(
    { QueryRetrieveLevel: 'SERIES', PatientID: '1', StudyInstanceUID: '1' },
    PATIENT_STUDY,
    Tag.QueryRetrieveLevel,
  );
  refused({ QueryRetrieveLevel: 'FRAME' }, PATIENT_ROOT, Tag.QueryRetrieveLevel);
});

test('unique keys above the level: one value each, unless relational', () => {
  const relational = { ...PATIENT_ROOT, relational: true };
  for (const [given, tag] of [
    [{ QueryRetrieveLevel: 'STUDY' }, Tag.PatientID],
    [{ QueryRetrieveLevel: 'STUDY', PatientID: '' }, Tag.PatientID],
    [{ QueryRetrieveLevel: 'STUDY', PatientID: 'P*' }, Tag.PatientID],
    [{ QueryRetrieveLevel: 'SERIES', PatientID: 'P1' }, Tag.StudyInstanceUID],
    [{ QueryRetrieveLevel: 'SERIES', PatientID: 'P1', StudyInstanceUID: '1\\2' }, Tag.StudyInstanceUID],
    [
      { QueryRetrieveLevel: 'IMAGE', PatientID: 'P1', StudyInstanceUID: '1', SeriesInstanceUID: '*' },
      Tag.SeriesInstanceUID,
    ],
  ] as const) {
    refused(given, PATIENT_ROOT, tag);
    assert.doesNotThrow(() => parse(given, relational));
  }
  assert.doesNotThrow(
    () => parse({ QueryRetrieveLevel: 'SERIES', StudyInstanceUID: '1' }),
    'Study Root has no key above the study',
  );
  assert.doesNotThrow(
    () => parse({ QueryRetrieveLevel: 'PATIENT', PatientID: 'P*' }, PATIENT_ROOT),
    'at the level itself',
  );
});

test('what was negotiated, and only that', () => {
  const given = { QueryRetrieveLevel: 'STUDY', TimezoneOffsetFromUTC: '+0100', StudyDate: '20200101-' };
  const plain = parse(given).request;
  assert.deepEqual(
    [plain.fuzzy, plain.combinedDateTime, plain.timezoneOffset, plain.emptyValueMatching],
    [false, false, '', false],
  );
  const all = parse(given, { ...STUDY_ROOT, fuzzy: true, dateTime: true, timezone: true, emptyValue: true }).request;
  assert.deepEqual(
    [all.fuzzy, all.combinedDateTime, all.timezoneOffset, all.emptyValueMatching],
    [true, true, '+0100', true],
  );
  assert.ok(!plain.match.some((key) => key.path[0] === Tag.TimezoneOffsetFromUTC), 'the offset is never matched');
  const several = { QueryRetrieveLevel: 'STUDY', ModalitiesInStudy: 'CT\\PT', StudyInstanceUID: '1\\2' };
  assert.equal(parse(several).request.match.length, 2);
  assert.equal(
    parse(several, { ...STUDY_ROOT, multipleValue: true }).request.match.length,
    3,
    'each modality a key, the UIDs one list',
  );
});

test('sequences: one item, nested keys, and the whole sequence', () => {
  const { request, answer } = parse({
    QueryRetrieveLevel: 'SERIES',
    StudyInstanceUID: '1',
    RequestAttributesSequence: [{ ScheduledProcedureStepID: 'S1', RequestedProcedureID: '' }],
  });
  assert.deepEqual(request.match[1] ?? request.match[0], {
    path: [Tag.RequestAttributesSequence, Tag.ScheduledProcedureStepID],
    vr: 'SH',
    values: ['S1'],
  });
  assert.deepEqual(
    request.includePaths.map((path) => path.tags[1]),
    [Tag.ScheduledProcedureStepID, Tag.RequestedProcedureID],
  );
  const items = [{ '00400007': { vr: 'LO', Value: ['not asked for'] }, '00400009': { vr: 'SH', Value: ['S1'] } }];
  const { model } = answer(row({ StudyInstanceUID: ['UI', '1'], RequestAttributesSequence: ['SQ', ...items] }));
  assert.deepEqual(model['00400275'], {
    vr: 'SQ',
    Value: [{ '00400009': { vr: 'SH', Value: ['S1'] }, '00401001': { vr: 'SH' } }],
  });
  assert.deepEqual(answer(row({})).model['00400275'], { vr: 'SQ' }, 'unknown: an empty sequence');

  const whole = parse({ QueryRetrieveLevel: 'SERIES', StudyInstanceUID: '1', RequestAttributesSequence: [{}] });
  assert.ok(whole.request.include.includes(Tag.RequestAttributesSequence));
  assert.deepEqual(whole.answer(row({ RequestAttributesSequence: ['SQ', ...items] })).model['00400275']!.Value, items);
  refused(
    { QueryRetrieveLevel: 'STUDY', RequestAttributesSequence: [{}, {}] },
    STUDY_ROOT,
    Tag.RequestAttributesSequence,
  );
});

test('an answer holds every requested key, the unique keys, level, Retrieve AE Title and availability, and no more', () => {
  const { answer } = parse({
    QueryRetrieveLevel: 'SERIES',
    StudyInstanceUID: '1',
    SeriesDescription: '',
    BodyPartExamined: '',
  });
  const { model, charset } = answer(
    row({
      StudyInstanceUID: ['UI', '1'],
      SeriesInstanceUID: ['UI', '1.2'],
      SeriesDescription: ['LO', 'Thorax'],
      Modality: ['CS', 'CT'],
      InstanceAvailability: ['CS', 'ONLINE'],
    }),
  );
  assert.equal(charset, '');
  assert.deepEqual(model, {
    '00080052': { vr: 'CS', Value: ['SERIES'] },
    '00080054': { vr: 'AE', Value: ['GANTRY'] },
    '00080056': { vr: 'CS', Value: ['ONLINE'] },
    '0008103E': { vr: 'LO', Value: ['Thorax'] },
    '00180015': { vr: 'CS' },
    '0020000D': { vr: 'UI', Value: ['1'] },
    '0020000E': { vr: 'UI', Value: ['1.2'] },
  });
  assert.deepEqual(Object.keys(model), Object.keys(model).sort(), 'in tag order: it becomes a data set');
  const patient = parse({ QueryRetrieveLevel: 'STUDY', PatientID: 'P1' }, PATIENT_ROOT).answer(
    row({ StudyInstanceUID: ['UI', '1'] }),
  ).model;
  assert.deepEqual(patient['00100020'], { vr: 'LO' }, 'the unique key above the level, though it is empty');
});

test('Specific Character Set is true: the set of the query, else UTF-8', () => {
  const name = (group: Record<string, string>) => row({ PatientName: ['PN', group] });
  const given = { QueryRetrieveLevel: 'STUDY', PatientName: '' };
  const set = (charset: string, answered: Buffer, responseCharset?: string) => {
    const { model, charset: own } = parse(
      given,
      { ...STUDY_ROOT, ...(responseCharset && { responseCharset }) },
      charset,
    ).answer(answered);
    assert.equal(((model['00080005']?.Value as (string | null)[]) ?? []).map((term) => term ?? '').join('\\'), own);
    for (const text of Object.values(model['00100010']!.Value![0] as object)) charsetOf(own).encode(text, 'name');
    return own;
  };
  assert.equal(set('', name({ Alphabetic: 'DOE^JOHN' })), '');
  assert.equal(set('', name({ Alphabetic: 'Müller^J' })), 'ISO_IR 192', 'the default repertoire has no ü');
  assert.equal(set('ISO_IR 100', name({ Alphabetic: 'Müller^J' })), 'ISO_IR 100');
  assert.equal(set('ISO_IR 100', name({ Alphabetic: 'DOE^JOHN' })), 'ISO_IR 100');
  assert.equal(set('ISO_IR 100', name({ Alphabetic: 'Дое^Иван' })), 'ISO_IR 192');
  assert.equal(
    set('\\ISO 2022 IR 87', name({ Alphabetic: 'Yamada^Tarou', Ideographic: '山田^太郎' })),
    '\\ISO 2022 IR 87',
  );
  assert.equal(set('ISO_IR 192', name({ Alphabetic: 'Müller^J' })), 'ISO_IR 192');
  assert.equal(set('', name({ Alphabetic: 'Müller^J' }), 'ISO_IR 100'), 'ISO_IR 100', 'the setting of the peer');
  assert.equal(
    set('ISO_IR 100', name({ Alphabetic: 'Müller^J' }), 'ISO_IR 144'),
    'ISO_IR 100',
    'a setting that cannot carry it gives way',
  );
  const unknown = parseFindIdentifier(identifier({ ...given, SpecificCharacterSet: 'ISO_IR 9999' }), STUDY_ROOT);
  assert.equal(unknown.answer(name({ Alphabetic: 'DOE' })).charset, '');
  assert.equal(unknown.answer(name({ Alphabetic: 'Müller' })).charset, 'ISO_IR 192');
});

test('a key is read in the set of the query', () => {
  const names = parse({ QueryRetrieveLevel: 'STUDY', PatientName: '山田^*' }, STUDY_ROOT, '\\ISO 2022 IR 87').request
    .match;
  assert.deepEqual(names[0]!.values, ['山田^*']);
  const comments = parse({ QueryRetrieveLevel: 'STUDY', PatientComments: 'a\\b' }).request.match;
  assert.deepEqual(comments[0]!.values, ['a\\b'], 'LT has one value');
});

test('FF01 where a key is not supported, FF00 otherwise', () => {
  const status = (given: Given, context = STUDY_ROOT) =>
    parse({ QueryRetrieveLevel: 'STUDY', ...given }, context).pendingStatus;
  assert.equal(status({ PatientName: 'X', StudyDescription: '', InstitutionName: 'Y' }), 0xff00);
  assert.equal(status({ SeriesInstanceUID: '' }), 0xff01, 'a key of a level below');
  assert.equal(status({ PixelData: '' }), 0xff00, 'returned empty');
  assert.equal(status({ PixelData: 'ab' }), 0xff01, 'never matched');
});

test('what is no key is left alone', () => {
  const { request } = parse({
    '00080000': '',
    '00100000': '',
    QueryRetrieveLevel: 'STUDY',
    SpecificCharacterSet: 'ISO_IR 100',
    RetrieveAETitle: 'OTHER',
    InstanceAvailability: 'OFFLINE',
    FFFCFFFC: '',
    StudyDate: '20200101',
  });
  assert.deepEqual(
    request.match.map((key) => key.path[0]),
    [Tag.StudyDate],
  );
  assert.deepEqual(request.include, [Tag.StudyDate]);
});

test('an empty identifier asks for everything', () => {
  const { request, level } = parseFindIdentifier(
    new DataSet({ buffer: Buffer.alloc(0), transferSyntaxUid: EXPLICIT }),
    STUDY_ROOT,
  );
  assert.equal(level, 'STUDY');
  assert.deepEqual(request.match, []);
});
