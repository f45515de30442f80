import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hexOf, Tag, tagOf } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import { SearchRequest, type SearchRow } from '#proto/index/v1/index.ts';
import { anyQuestion } from './any-question.testing.ts';
import { dataSetOfCase, TestArchive } from './matching-archive.testing.ts';
import { INSTANCES, keysOfCase, MATCHING_CASES, uidOf } from './matching-cases.ts';
import { runSearch } from './search.ts';
import { SEARCH_LIMITS, type SearchLimits } from './settings.ts';

const archive = new TestArchive();
archive.store(INSTANCES);
const { db } = archive;

type Given = Parameters<typeof SearchRequest.fromPartial>[0];
const rowsIn = (own: TestArchive, given: Given, tenant = 'main', limits?: Partial<SearchLimits>): SearchRow[] => {
  return own.ask(SearchRequest.fromPartial(given), tenant, { ...SEARCH_LIMITS, ...limits });
};
const ask = (given: Given, limits?: Partial<SearchLimits>): SearchRow[] => rowsIn(archive, given, 'main', limits);
const model = (row: SearchRow) =>
  JSON.parse(row.dataSetJson.toString()) as Record<string, { vr: string; Value?: unknown[] }>;
const get = (row: SearchRow, keyword: string) => model(row)[hexOf(tagOf(keyword)!)];
const first = (row: SearchRow, keyword: string) => get(row, keyword)?.Value?.[0];
const labels = new Map(
  INSTANCES.flatMap((one) => [one.study, one.series, one.instance].map((label) => [uidOf(label), label] as const)),
);
const UID = {
  PATIENT: 'PatientID',
  STUDY: 'StudyInstanceUID',
  SERIES: 'SeriesInstanceUID',
  IMAGE: 'SOPInstanceUID',
} as const;
const found = (level: keyof typeof UID, rows: SearchRow[]): string[] =>
  rows.map((row) => labels.get(String(first(row, UID[level]))) ?? '?');
const key = (keyword: string, ...values: string[]) => ({
  path: [tagOf(keyword)!],
  vr: keyword.endsWith('Name') ? 'PN' : keyword.endsWith('UID') ? 'UI' : keyword.endsWith('Date') ? 'DA' : 'LO',
  values,
});
const fails = (given: Given, code: string, limits?: Partial<SearchLimits>) =>
  assert.throws(
    () => ask(given, limits),
    (error) => error instanceof GantryError && error.code === code,
    JSON.stringify(given),
  );

// Every case three times: narrowed by the tables of keys, with no look-up allowed, and with an order that no index has.
for (const one of MATCHING_CASES) {
  const request = { level: one.level, match: keysOfCase(one), ...one.options };
  for (const [how, limits, orderBy] of [
    ['', {}, []],
    [' (scanned)', { lookupMax: -1 }, []],
    [' (ordered)', {}, [{ tag: Tag.PatientName, descending: true }]],
  ] as const)
    test(`${one.level}: ${one.name}${how}`, () => {
      if (one.expect === 'invalid') return fails({ ...request, orderBy: [...orderBy] }, 'invalid-argument', limits);
      const rows = ask({ ...request, orderBy: [...orderBy] }, limits);
      if (one.level === 'PATIENT') {
        const ids = one.expect.map(
          (label) => INSTANCES.find((two) => two.study === label)!.attributes.PatientID!.Value![0],
        );
        assert.deepEqual(rows.map((row) => first(row, 'PatientID')).sort(), ids.sort());
      } else assert.deepEqual(found(one.level, rows).sort(), [...one.expect].sort());
    });
}

test('a study row has what PS3.18 Table 10.6.3-3 wants, in the order of tags', () => {
  const [row] = ask({
    level: 'STUDY',
    match: [key('StudyInstanceUID', uidOf('A'))],
    retrieveUrlRoot: 'http://x/dicom-web',
  });
  assert.deepEqual(model(row!), {
    '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
    '00080020': { vr: 'DA', Value: ['20200101'] },
    '00080030': { vr: 'TM', Value: ['101530'] },
    '00080050': { vr: 'SH', Value: ['ACC-1'] },
    '00080056': { vr: 'CS', Value: ['ONLINE'] },
    '00080061': { vr: 'CS', Value: ['CT', 'SR'] },
    '00080090': { vr: 'PN', Value: [{ Alphabetic: 'HOUSE^GREGORY' }] },
    '00081190': { vr: 'UR', Value: [`http://x/dicom-web/studies/${uidOf('A')}`] },
    '00100010': { vr: 'PN', Value: [{ Alphabetic: 'DOE^JOHN' }] },
    '00100020': { vr: 'LO', Value: ['P1'] },
    '00100030': { vr: 'DA', Value: ['19700102'] },
    '00100040': { vr: 'CS', Value: ['M'] },
    '0020000D': { vr: 'UI', Value: [uidOf('A')] },
    '00200010': { vr: 'SH', Value: ['1'] },
    '00201206': { vr: 'IS', Value: [2] },
    '00201208': { vr: 'IS', Value: [3] },
  });
  for (const one of ask({ level: 'STUDY' })) {
    const keys = [...one.dataSetJson.toString().matchAll(/"([0-9A-F]{8})":/g)].map((match) => match[1]!);
    assert.deepEqual(keys, [...keys].sort());
    assert.ok(((model(one)['00080061']?.Value as string[]) ?? []).length > 0, 'ModalitiesInStudy is never empty');
  }
});

test('an empty attribute carries only its vr; TimezoneOffsetFromUTC where it is known', () => {
  const [row] = ask({ level: 'STUDY', match: [key('StudyInstanceUID', uidOf('E'))] });
  assert.deepEqual(get(row!, 'PatientName'), { vr: 'PN' });
  assert.deepEqual(get(row!, 'StudyDate'), { vr: 'DA' });
  assert.deepEqual(get(row!, 'ReferringPhysicianName'), { vr: 'PN' });
  assert.equal(get(row!, 'TimezoneOffsetFromUTC'), undefined);
  assert.equal(
    first(ask({ level: 'STUDY', match: [key('StudyInstanceUID', uidOf('K'))] })[0]!, 'TimezoneOffsetFromUTC'),
    '+0900',
  );
});

test('series and instance rows', () => {
  const [series] = ask({ level: 'SERIES', match: [key('SeriesInstanceUID', uidOf('J1'))], retrieveUrlRoot: '/w' });
  assert.equal(first(series!, 'Modality'), 'MR');
  assert.equal(first(series!, 'SeriesNumber'), 3);
  assert.equal(first(series!, 'NumberOfSeriesRelatedInstances'), 1);
  assert.equal(first(series!, 'StudyInstanceUID'), uidOf('J'));
  assert.equal(first(series!, 'RetrieveURL'), `/w/studies/${uidOf('J')}/series/${uidOf('J1')}`);
  assert.equal(get(series!, 'PatientName'), undefined, 'of the study only when asked for');
  assert.deepEqual(get(series!, 'RequestAttributesSequence')!.Value, [
    { '00400009': { vr: 'SH', Value: ['SPS1'] }, '00401001': { vr: 'SH', Value: ['RP1'] } },
    { '00400009': { vr: 'SH', Value: ['SPS2'] }, '00401001': { vr: 'SH', Value: ['RP2'] } },
  ]);
  const [image] = ask({ level: 'IMAGE', match: [key('SOPInstanceUID', uidOf('A1b'))], retrieveUrlRoot: '/w' });
  assert.equal(first(image!, 'InstanceNumber'), 2);
  assert.equal(first(image!, 'Rows'), 256);
  assert.equal(first(image!, 'SOPClassUID'), '1.2.840.10008.5.1.4.1.1.2');
  assert.equal(
    first(image!, 'RetrieveURL'),
    `/w/studies/${uidOf('A')}/series/${uidOf('A1')}/instances/${uidOf('A1b')}`,
  );
  const [relational] = ask({ level: 'IMAGE', match: [key('SOPInstanceUID', uidOf('A1b'))], studyDefaults: true });
  assert.equal(first(relational!, 'AccessionNumber'), 'ACC-1');
  assert.equal(first(relational!, 'Modality'), 'CT');
});

test('includes: of the document, of headers, of levels below, of sequences, all', () => {
  const study = (given: Given) => ask({ level: 'STUDY', match: [key('StudyInstanceUID', uidOf('A'))], ...given })[0]!;
  assert.equal(first(study({ include: [Tag.StudyDescription] }), 'StudyDescription'), 'CHEST CT');
  assert.equal(
    first(study({ include: [tagOf('SliceThickness')!] }), 'SliceThickness'),
    1.5,
    'from the header of the first instance',
  );
  assert.equal(
    get(study({ include: [Tag.Modality, Tag.SeriesInstanceUID, Tag.Rows] }), 'Modality'),
    undefined,
    'no one value at study level',
  );
  assert.equal(first(study({ include: [Tag.NumberOfPatientRelatedStudies] }), 'NumberOfPatientRelatedStudies'), 2);
  const all = study({ includeAll: true });
  assert.deepEqual(get(all, 'OtherPatientIDs')!.Value, ['X1', 'X2']);
  assert.equal(get(all, 'NumberOfPatientRelatedStudies'), undefined);
  assert.deepEqual(get(study({ include: [Tag.OtherPatientIDs] }), 'OtherPatientIDs')!.Value, ['X1', 'X2']);
  const series = ask({
    level: 'SERIES',
    match: [key('SeriesInstanceUID', uidOf('A1'))],
    include: [Tag.PatientName, Tag.SeriesDescription],
  })[0]!;
  assert.deepEqual(first(series, 'PatientName'), { Alphabetic: 'DOE^JOHN' });
  assert.equal(first(series, 'SeriesDescription'), 'Thorax');
  const images = ask({
    level: 'IMAGE',
    match: [key('SeriesInstanceUID', uidOf('A1'))],
    include: [tagOf('ImageType')!],
  });
  assert.deepEqual(
    images.map((row) => get(row, 'ImageType')!.Value),
    [
      ['ORIGINAL', 'PRIMARY', 'AXIAL'],
      ['DERIVED', 'SECONDARY'],
    ],
  );
  const whole = ask({ level: 'IMAGE', match: [key('SOPInstanceUID', uidOf('J1a'))], includeAll: true })[0]!;
  assert.equal(first(whole, 'PatientComments'), 'one\\two');
  assert.equal(first(whole, 'InstanceAvailability'), 'ONLINE');
  const nested = ask({
    level: 'IMAGE',
    match: [key('SOPInstanceUID', uidOf('J1a'))],
    includePaths: [{ tags: [0x00400275, 0x00401001] }],
  })[0]!;
  assert.deepEqual(get(nested, 'RequestAttributesSequence')!.Value, [
    { '00401001': { vr: 'SH', Value: ['RP1'] } },
    { '00401001': { vr: 'SH', Value: ['RP2'] } },
  ]);
});

test('names are Unicode, whatever they were written in', () => {
  const name = (label: string) =>
    first(ask({ level: 'STUDY', match: [key('StudyInstanceUID', uidOf(label))] })[0]!, 'PatientName');
  assert.deepEqual(name('C'), { Alphabetic: 'Yamada^Tarou', Ideographic: '山田^太郎', Phonetic: 'やまだ^たろう' });
  assert.deepEqual(name('H'), { Alphabetic: 'Hong^Gildong', Ideographic: '洪^吉洞', Phonetic: '홍^길동' });
  assert.deepEqual(name('N'), { Alphabetic: 'Дое^Иван' });
});

test('a study that disagrees shows the first, and says that it disagrees', () => {
  const rows = ask({ level: 'STUDY' });
  const odd = rows.find((row) => first(row, 'StudyInstanceUID') === uidOf('L'))!;
  assert.equal(first(odd, 'AccessionNumber'), 'WRONG');
  assert.deepEqual(
    rows.filter((row) => row.conflict),
    [odd],
  );
});

test('patients: one for each identity, an empty Patient ID never joins', () => {
  const rows = ask({
    level: 'PATIENT',
    include: [Tag.NumberOfPatientRelatedStudies, Tag.NumberOfPatientRelatedSeries, Tag.NumberOfPatientRelatedInstances],
  });
  assert.equal(rows.length, 14);
  const p1 = rows.find((row) => first(row, 'PatientID') === 'P1')!;
  assert.deepEqual(
    ['NumberOfPatientRelatedStudies', 'NumberOfPatientRelatedSeries', 'NumberOfPatientRelatedInstances'].map((one) =>
      first(p1, one),
    ),
    [2, 3, 4],
  );
  assert.deepEqual(
    ask({ level: 'PATIENT', match: [key('Modality', 'PT')] }).map((row) => first(row, 'PatientID')),
    ['P9'],
    'a key of a level below: there is such a series',
  );
});

test('keys of a level below ask whether there is one', () => {
  const studies = (...match: ReturnType<typeof key>[]) => found('STUDY', ask({ level: 'STUDY', match })).sort();
  assert.deepEqual(studies(key('Modality', 'SR')), ['A'], 'OHIF asks for Modality at study level');
  assert.deepEqual(studies({ ...key('SOPClassUID', '1.2.840.10008.5.1.4.1.1.88.11'), vr: 'UI' }), ['A']);
  assert.deepEqual(studies({ ...key('ImageType', 'DERIVED'), vr: 'CS' }), ['A']);
  assert.deepEqual(studies({ ...key('BodyPartExamined', 'HEAD'), vr: 'CS' }), ['B']);
  const both = [key('Modality', 'SR'), { ...key('ImageType', 'DERIVED'), vr: 'CS' }];
  assert.deepEqual(studies(...both), [], 'one series must meet both');
});

test('where an entity is, is never matched', () => {
  const everything = ask({ level: 'STUDY' }).length;
  for (const keyword of ['RetrieveAETitle', 'InstanceAvailability', 'SpecificCharacterSet', 'RetrieveURL'])
    assert.equal(ask({ level: 'STUDY', match: [key(keyword, 'OTHER')] }).length, everything, keyword);
});

const pageThrough = (level: keyof typeof UID, limit: number, given: Given = {}) => {
  const pages: string[][] = [];
  for (let cursor = ''; ; ) {
    const rows = ask({ level, limit, cursor, ...given });
    pages.push(found(level, rows));
    const last = rows.at(-1);
    if (!last?.more) return pages;
    assert.equal(rows.length, limit);
    assert.ok(
      rows.slice(0, -1).every((row) => !row.more),
      'only the last row of a cut page says so',
    );
    cursor = last.cursor;
  }
};

test('paging: by cursor and by offset, the same rows in the same order, at every level', () => {
  const orders: Given[] = [
    {},
    { orderBy: [{ tag: Tag.PatientName, descending: false }] },
    { match: [key('PatientName', '*')] },
    { match: [key('StudyDate', '20200101-20200430')] },
  ];
  for (const level of ['STUDY', 'SERIES', 'IMAGE'] as const)
    for (const order of orders)
      for (const limit of [1, 2, 7]) {
        const whole = found(level, ask({ level, ...order }));
        assert.deepEqual(pageThrough(level, limit, order).flat(), whole);
        const byOffset = [];
        for (let offset = 0; offset < whole.length; offset += limit)
          byOffset.push(...found(level, ask({ level, limit, offset, ...order })));
        assert.deepEqual(byOffset, whole);
        assert.equal(new Set(whole).size, whole.length);
      }
  assert.equal(pageThrough('PATIENT', 3).flat().length, 14);
});

test('studies come newest first, series and instances by number', () => {
  assert.deepEqual(found('STUDY', ask({ level: 'STUDY' })), [
    'O',
    'M',
    'L',
    'I',
    'H',
    'K',
    'J',
    'D',
    'B',
    'A',
    'F',
    'G',
    'N',
    'C',
    'E',
  ]);
  assert.deepEqual(found('IMAGE', ask({ level: 'IMAGE', match: [key('StudyInstanceUID', uidOf('A'))] })), [
    'A1a',
    'A1b',
    'A2a',
  ]);
  const descending = ask({
    level: 'IMAGE',
    match: [key('SeriesInstanceUID', uidOf('A1'))],
    orderBy: [{ tag: Tag.InstanceNumber, descending: true }],
  });
  assert.deepEqual(found('IMAGE', descending), ['A1b', 'A1a']);
  const byPatient = ask({
    level: 'STUDY',
    orderBy: [
      { tag: Tag.PatientID, descending: false },
      { tag: Tag.StudyDate, descending: true },
    ],
    match: [key('PatientID', 'P1', 'P2')],
  });
  assert.deepEqual(found('STUDY', byPatient), ['M', 'A', 'B']);
});

test('a page goes on behind its cursor, whatever came meanwhile', () => {
  const own = new TestArchive();
  own.store(INSTANCES.filter((one) => 'ABD'.includes(one.study)));
  const page = (cursor: string) => rowsIn(own, { level: 'STUDY', limit: 1, cursor });
  const [one] = page('');
  assert.equal(labels.get(String(first(one!, 'StudyInstanceUID'))), 'D');
  own.store(INSTANCES.filter((two) => 'MO'.includes(two.study)));
  assert.deepEqual(found('STUDY', page(one!.cursor)), ['B'], 'newer studies do not push rows into the next page');
  own.db.close();
});

test('a cursor of another order, or none of ours, is refused', () => {
  const { cursor } = ask({ level: 'STUDY', limit: 1 })[0]!;
  fails({ level: 'SERIES', cursor }, 'invalid-argument');
  fails({ level: 'STUDY', cursor, orderBy: [{ tag: Tag.PatientName, descending: false }] }, 'invalid-argument');
  for (const bad of [
    'x',
    'W10',
    Buffer.from('["S"]').toString('base64url'),
    Buffer.from('["S",[{}]]').toString('base64url'),
    'a'.repeat(5000),
  ])
    fails({ level: 'STUDY', cursor: bad }, 'invalid-argument');
  fails({ level: 'STUDY', orderBy: [{ tag: tagOf('SliceThickness')!, descending: false }] }, 'invalid-argument');
  fails({ level: 'FRAME' }, 'invalid-argument');
});

test('limits: rows of an answer, studies and headers read', () => {
  const cut = ask({ level: 'STUDY' }, { rowsMax: 3 });
  assert.equal(cut.length, 3);
  assert.equal(cut.at(-1)!.more, true);
  assert.equal(ask({ level: 'STUDY', limit: 100 }, { rowsMax: 3 }).length, 3);
  fails({ level: 'STUDY', match: [key('PatientComments', 'x')] }, 'too-broad', { studiesScannedMax: 5 });
  fails({ level: 'IMAGE', match: [{ ...key('ImageType', 'NOWHERE'), vr: 'CS' }] }, 'too-broad', {
    headersScannedMax: 5,
  });
  const full = ask(
    { level: 'STUDY', limit: 1, match: [key('StudyDescription', '*E*')] },
    { lookupMax: -1, studiesScannedMax: 10 },
  );
  assert.deepEqual(
    [found('STUDY', full), full[0]!.more],
    [['A'], true],
    'the page was full before it became too broad',
  );
});

test('tenants see their own', () => {
  const own = new TestArchive();
  own.store(INSTANCES.slice(0, 3), 'one');
  own.store(INSTANCES.slice(3, 5), 'two');
  const of = (tenant: string, given: Given = {}) => found('STUDY', rowsIn(own, { level: 'STUDY', ...given }, tenant));
  assert.deepEqual(of('one'), ['A']);
  assert.deepEqual(of('two'), ['B', 'C']);
  assert.deepEqual(of('nobody'), []);
  for (const match of [
    key('StudyInstanceUID', uidOf('A')),
    key('SeriesInstanceUID', uidOf('A1')),
    key('SOPInstanceUID', uidOf('A1a')),
    key('PatientID', 'P1'),
    key('PatientName', 'DOE^*'),
  ])
    assert.deepEqual(of('two', { match: [match] }).includes('A'), false);
  own.db.close();
});

test('what is remembered is forgotten when it is no longer true', () => {
  const own = new TestArchive();
  own.store(INSTANCES.filter((one) => one.instance === 'A1a'));
  const count = () => first(rowsIn(own, { level: 'STUDY' })[0]!, 'NumberOfStudyRelatedInstances');
  assert.equal(count(), 1);
  assert.equal(count(), 1);
  own.store(INSTANCES.filter((one) => one.instance === 'A1b'));
  assert.equal(count(), 2);
  own.db.close();
});

test('an answer that nobody reads to its end leaves nothing open', () => {
  for (const level of ['PATIENT', 'STUDY', 'SERIES', 'IMAGE']) {
    for (const _ of runSearch(
      archive.search,
      'main',
      SearchRequest.fromPartial({ level, limit: 5, match: [key('StudyDate', '19000101-')] }),
    ))
      break;
    assert.equal(db.isTransaction, false);
  }
  assert.throws(() => ask({ level: 'STUDY', match: [key('PatientComments', 'x')] }, { studiesScannedMax: 1 }));
  assert.equal(db.isTransaction, false);
});

test('a search that finds nothing for long lets others have their turn', () => {
  const own = new TestArchive();
  const one = INSTANCES[0]!;
  own.fold(
    Array.from({ length: 600 }, (_, n) => ({
      ...own.instance(one.study, one.series, one.instance, '1.2.840.10008.5.1.4.1.1.2', dataSetOfCase(one)),
      studyInstanceUid: `1.2.${n}`,
    })),
  );
  for (const level of ['STUDY', 'PATIENT', 'IMAGE']) {
    const request = SearchRequest.fromPartial({ level, match: [key('PatientComments', 'nobody')] });
    const all = [...runSearch(own.search, 'main', request)];
    assert.ok(all.every((row) => row === undefined));
    if (level === 'PATIENT') continue; // one patient
    assert.equal(all.length, 2, level);
  }
  own.db.close();
});

test('odd UIDs are found as they are, and linked so that the link resolves', () => {
  const own = new TestArchive();
  const one = INSTANCES[0]!;
  const instance = own.instance(one.study, one.series, one.instance, '1.2.840.10008.5.1.4.1.1.2', dataSetOfCase(one));
  own.fold([{ ...instance, studyInstanceUid: '01.2 x/3"é' }]);
  for (const level of ['STUDY', 'SERIES', 'IMAGE']) {
    const rows = rowsIn(own, { level, match: [key('StudyInstanceUID', ' 01.2 x/3"é\0')], retrieveUrlRoot: '/w' });
    assert.equal(rows.length, 1, level);
    assert.equal(first(rows[0]!, 'StudyInstanceUID'), '01.2 x/3"é');
    assert.ok(String(first(rows[0]!, 'RetrieveURL')).startsWith('/w/studies/01.2%20x%2F3%22%C3%A9'));
  }
  own.db.close();
});

test('however a question is answered, the answer is the same', () => {
  fc.assert(
    fc.property(anyQuestion, fc.integer({ min: 1, max: 4 }), (request, limit) => {
      const { level } = request;
      const narrowed = found(level, ask(request));
      assert.deepEqual(found(level, ask(request, { lookupMax: -1 })), narrowed, 'read in order');
      if (level !== 'PATIENT') assert.deepEqual(pageThrough(level, limit, request).flat(), narrowed, 'by cursor');
    }),
    { numRuns: 300 },
  );
});

test('asked for joined rows, a search gives the same objects, and again when its answer was kept', () => {
  for (const given of [{ level: 'STUDY' }, { level: 'IMAGE', limit: 2, offset: 1 }, { level: 'SERIES', limit: 1 }]) {
    const rows = ask(given);
    for (const _ of ['fresh', 'kept']) {
      const together = ask({ ...given, joined: true });
      assert.equal(together.length, 1);
      assert.equal(together[0]!.rows, rows.length);
      assert.equal(`${together[0]!.dataSetJson}`, rows.map((row) => `${row.dataSetJson}`).join());
      assert.deepEqual([together[0]!.cursor, together[0]!.more], [rows.at(-1)!.cursor, rows.at(-1)!.more]);
    }
  }
});
