import { parseAttributePath, vrOf } from '#dicom/tags.ts';
import type { MatchKey } from '#proto/index/v1/index.ts';

/**
 * Matching semantics as one table: what PS3.4 C.2.2.2 says of each kind of key, and what we say where it leaves the choice to us.
 * Run against the matchers (match.test.ts), against the index (search.test.ts), and through both doors (tools/peers).
 */

/** One instance, as DICOM JSON; `charset` is how its bytes are to be written. UIDs come from its place in the archive below. */
export interface CaseInstance {
  study: string;
  series: string;
  instance: string;
  charset: string[];
  attributes: Record<string, { vr: string; Value?: unknown[] }>;
}
export interface MatchingCase {
  name: string;
  level: 'PATIENT' | 'STUDY' | 'SERIES' | 'IMAGE';
  /** Attribute path (keywords, dotted) → value as C-FIND writes it; `\` parts values. */
  keys: Record<string, string>;
  options?: {
    fuzzy?: boolean;
    emptyValueMatching?: boolean;
    timezoneOffset?: string;
    combinedDateTime?: boolean;
    multipleValueMatching?: boolean;
  };
  /** Labels of what matches (a study's, series' or instance's; at PATIENT level the label of the patient's first study). */
  expect: string[] | 'invalid';
}

/** Every UID is 2.25.4242.<digits>: labels A–Z are 10–35, digits themselves. `A1a` → 2.25.4242.10.1.10 */
export function uidOf(label: string): string {
  const parts = Array.from(label, (letter) => Number.parseInt(letter, 36));
  return ['2.25.4242', ...parts].join('.');
}

/** A case's keys as the doors give them to the index. */
export function keysOfCase(one: MatchingCase): MatchKey[] {
  return Object.entries(one.keys).flatMap(([name, text]) => {
    const path = parseAttributePath(name)!;
    const vr = vrOf(path.at(-1)!);
    const values = ['LT', 'ST', 'UT', 'UR'].includes(vr) ? [text] : text.split('\\');
    return (one.options?.multipleValueMatching ? values.map((value) => [value]) : [values]).map((list) => ({
      path,
      vr,
      values: list,
    }));
  });
}

const VRS: Record<string, string> = {
  AccessionNumber: 'SH',
  BodyPartExamined: 'CS',
  ImageType: 'CS',
  InstanceNumber: 'IS',
  Modality: 'CS',
  OtherPatientIDs: 'LO',
  PatientBirthDate: 'DA',
  PatientID: 'LO',
  PatientName: 'PN',
  PatientSex: 'CS',
  PerformedProcedureStepStartDate: 'DA',
  PerformedProcedureStepStartTime: 'TM',
  ReferringPhysicianName: 'PN',
  SeriesDescription: 'LO',
  SeriesNumber: 'IS',
  SliceThickness: 'DS',
  SOPClassUID: 'UI',
  StudyDate: 'DA',
  StudyDescription: 'LO',
  StudyID: 'SH',
  StudyTime: 'TM',
  TimezoneOffsetFromUTC: 'SH',
  AcquisitionDateTime: 'DT',
  PatientComments: 'LT',
  Rows: 'US',
};
const CT = '1.2.840.10008.5.1.4.1.1.2';
const SR = '1.2.840.10008.5.1.4.1.1.88.11';

type Given = Record<string, string | number | unknown[]>;

function instance(label: string, given: Given, charset: string[] = []): CaseInstance {
  const attributes: CaseInstance['attributes'] = {};
  for (const [keyword, value] of Object.entries({ SOPClassUID: CT, ...given })) {
    if (keyword === 'RequestAttributesSequence') {
      attributes[keyword] = { vr: 'SQ', Value: value as unknown as unknown[] };
      continue;
    }
    const vr = VRS[keyword]!;
    const values = Array.isArray(value) ? value : [value];
    const wrapped = values.map((one) => (vr === 'PN' ? nameOf(String(one)) : one));
    attributes[keyword] = value === '' ? { vr } : { vr, Value: wrapped };
  }
  return { study: label[0]!, series: label.slice(0, 2), instance: label, charset, attributes };
}

function nameOf(text: string): Record<string, string> {
  const [alphabetic = '', ideographic = '', phonetic = ''] = text.split('=');
  return {
    ...(alphabetic && { Alphabetic: alphabetic }),
    ...(ideographic && { Ideographic: ideographic }),
    ...(phonetic && { Phonetic: phonetic }),
  };
}

/** An item of Request Attributes Sequence. */
const request = (step: string, procedure: string) => ({
  '00400009': { vr: 'SH', Value: [step] },
  '00401001': { vr: 'SH', Value: [procedure] },
});

const A: Given = {
  PatientName: 'DOE^JOHN',
  PatientID: 'P1',
  PatientBirthDate: '19700102',
  PatientSex: 'M',
  StudyDate: '20200101',
  StudyTime: '101530',
  AccessionNumber: 'ACC-1',
  StudyID: '1',
  ReferringPhysicianName: 'HOUSE^GREGORY',
  StudyDescription: 'CHEST CT',
  OtherPatientIDs: ['X1', 'X2'],
};
const B: Given = {
  PatientName: 'Doe^Jane',
  PatientID: 'P2',
  PatientSex: 'F',
  StudyDate: '20200102',
  StudyTime: '0930',
  AccessionNumber: 'ACC-2',
  StudyID: '01',
  ReferringPhysicianName: 'Wilson^James',
  StudyDescription: 'Head MR',
};
const E: Given = { PatientName: '', PatientID: '', StudyDate: '', StudyTime: '', AccessionNumber: '', StudyID: '' };
const J: Given = {
  PatientName: 'Smith^Robert^^^Jr',
  PatientID: 'P_3',
  StudyDate: '20200215',
  StudyTime: '120000.5',
  AccessionNumber: 'a[b]%_c',
  StudyID: 'S-3',
  StudyDescription: 'BRAIN*W/O',
  PatientComments: 'one\\two',
};
const K: Given = {
  PatientName: 'Sato^Ken',
  PatientID: 'P4',
  StudyDate: '20200301',
  StudyTime: '003000',
  TimezoneOffsetFromUTC: '+0900',
  AccessionNumber: 'K',
  StudyID: 'K',
};

export const INSTANCES: readonly CaseInstance[] = [
  instance('A1a', {
    ...A,
    Modality: 'CT',
    SeriesNumber: 1,
    SeriesDescription: 'Thorax  ',
    InstanceNumber: 1,
    ImageType: ['ORIGINAL', 'PRIMARY', 'AXIAL'],
    SliceThickness: 1.5,
    Rows: 512,
    AcquisitionDateTime: '20200101101600.25+0100',
  }),
  instance('A1b', {
    ...A,
    Modality: 'CT',
    SeriesNumber: 1,
    SeriesDescription: 'Thorax  ',
    InstanceNumber: 2,
    ImageType: ['DERIVED', 'SECONDARY'],
    SliceThickness: 3,
    Rows: 256,
  }),
  instance('A2a', { ...A, Modality: 'SR', SOPClassUID: SR, SeriesNumber: 2, InstanceNumber: 1 }),
  instance('B1a', {
    ...B,
    Modality: 'MR',
    SeriesNumber: 7,
    SeriesDescription: 't2_tse*tra',
    BodyPartExamined: 'HEAD',
    InstanceNumber: 10,
  }),
  instance(
    'C1a',
    {
      PatientName: 'Yamada^Tarou=山田^太郎=やまだ^たろう',
      PatientID: 'P5',
      StudyDate: '1993.08.22',
      StudyTime: '10:30:00',
      Modality: 'CR',
      AccessionNumber: 'C',
      StudyID: 'C',
      SeriesNumber: 1,
      InstanceNumber: 1,
    },
    ['', 'ISO 2022 IR 87'],
  ),
  instance(
    'D1a',
    {
      PatientName: 'Müller^Jürgen',
      PatientID: 'P6',
      StudyDate: '20200131',
      StudyTime: '235959.999999',
      Modality: 'US',
      AccessionNumber: 'D',
      StudyID: 'D',
      SeriesNumber: 1,
      InstanceNumber: 1,
    },
    ['ISO_IR 100'],
  ),
  instance('E1a', { ...E, Modality: 'MR', SeriesNumber: '', InstanceNumber: '' }),
  instance(
    'F1a',
    {
      PatientName: 'Buc^Jérôme',
      PatientID: 'P7',
      StudyDate: '20191231',
      StudyTime: '10',
      Modality: 'DX',
      AccessionNumber: 'F',
      StudyID: 'F',
      SeriesNumber: 1,
      InstanceNumber: 1,
      StudyDescription: 'Épaule',
    },
    ['ISO_IR 100'],
  ),
  instance('G1a', {
    PatientName: 'BUC^JEROME',
    PatientID: 'p7',
    StudyDate: '20191231',
    StudyTime: '',
    Modality: 'DX',
    AccessionNumber: 'G',
    StudyID: 'G',
    SeriesNumber: 1,
    InstanceNumber: 1,
  }),
  instance(
    'H1a',
    {
      PatientName: 'Hong^Gildong=洪^吉洞=홍^길동',
      PatientID: 'P8',
      StudyDate: '20200401',
      StudyTime: '080000',
      Modality: 'CT',
      AccessionNumber: 'H',
      StudyID: 'H',
      SeriesNumber: 1,
      InstanceNumber: 1,
    },
    ['', 'ISO 2022 IR 149'],
  ),
  instance(
    'I1a',
    {
      PatientName: 'Wang^XiaoDong=王^小东',
      PatientID: 'P9',
      StudyDate: '20200402',
      StudyTime: '235900',
      Modality: 'PT',
      AccessionNumber: 'I',
      StudyID: 'I',
      SeriesNumber: 1,
      InstanceNumber: 1,
    },
    ['GB18030'],
  ),
  instance(
    'I2a',
    {
      PatientName: 'Wang^XiaoDong=王^小东',
      PatientID: 'P9',
      StudyDate: '20200402',
      StudyTime: '235900',
      Modality: 'CT',
      AccessionNumber: 'I',
      StudyID: 'I',
      SeriesNumber: 2,
      InstanceNumber: 1,
    },
    ['GB18030'],
  ),
  instance('J1a', {
    ...J,
    Modality: 'MR',
    SeriesNumber: 3,
    InstanceNumber: 1,
    RequestAttributesSequence: [request('SPS1', 'RP1'), request('SPS2', 'RP2')],
  }),
  instance('J2a', {
    ...J,
    Modality: 'MR',
    SeriesNumber: 4,
    InstanceNumber: 1,
    RequestAttributesSequence: [request('SPS1', 'RP2')],
    PerformedProcedureStepStartDate: '20200215',
    PerformedProcedureStepStartTime: '1159',
  }),
  instance('K1a', { ...K, Modality: 'CT', SeriesNumber: 1, InstanceNumber: 1 }),
  // One study, two opinions: whoever keyed it in corrected the name and the accession number half-way.
  instance('L1a', {
    PatientName: 'ROE^RICHARD',
    PatientID: 'P10',
    StudyDate: '20200501',
    StudyTime: '0700',
    Modality: 'CT',
    AccessionNumber: 'WRONG',
    StudyID: 'L',
    SeriesNumber: 1,
    InstanceNumber: 1,
  }),
  instance('L1b', {
    PatientName: 'ROE^RICHARDA',
    PatientID: 'P10',
    StudyDate: '20200502',
    StudyTime: '0700',
    Modality: 'CT',
    AccessionNumber: 'RIGHT',
    StudyID: 'L',
    SeriesNumber: 1,
    InstanceNumber: 2,
  }),
  instance('M1a', {
    PatientName: "O'Brien-Smith^Meike^Maria^Dr",
    PatientID: 'P1',
    StudyDate: '20210101',
    StudyTime: '000000',
    Modality: 'OT',
    AccessionNumber: 'M',
    StudyID: 'M',
    SeriesNumber: 1,
    InstanceNumber: 1,
  }),
  instance(
    'N1a',
    {
      PatientName: 'Дое^Иван',
      PatientID: 'P11',
      StudyDate: '20000229',
      StudyTime: '1200',
      Modality: 'CT',
      AccessionNumber: 'N',
      StudyID: 'N',
      SeriesNumber: 1,
      InstanceNumber: 1,
    },
    ['ISO_IR 144'],
  ),
  instance(
    'O1a',
    {
      PatientName: 'Strauß^Zoë',
      PatientID: 'P12',
      StudyDate: '20230704',
      StudyTime: '1000',
      Modality: 'MG',
      AccessionNumber: 'O',
      StudyID: 'O',
      SeriesNumber: 1,
      InstanceNumber: 1,
    },
    ['ISO_IR 192'],
  ),
];

const ALL = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O'];
const but = (...labels: string[]) => ALL.filter((label) => !labels.includes(label));

const study = (
  name: string,
  keys: MatchingCase['keys'],
  expect: MatchingCase['expect'],
  options?: MatchingCase['options'],
): MatchingCase => ({ name, level: 'STUDY', keys, expect, ...(options && { options }) });
const at = (
  level: MatchingCase['level'],
  name: string,
  keys: MatchingCase['keys'],
  expect: MatchingCase['expect'],
  options?: MatchingCase['options'],
): MatchingCase => ({ name, level, keys, expect, ...(options && { options }) });

export const MATCHING_CASES: readonly MatchingCase[] = [
  // Universal (C.2.2.2.3)
  study('zero length is universal', { PatientName: '' }, ALL),
  study('a lone star is universal, also for an empty attribute', { PatientName: '*' }, ALL),
  study('a lone star is universal for UIDs and dates too', { StudyInstanceUID: '*', StudyDate: '*' }, ALL),
  study('several stars are one', { StudyID: '**' }, ALL),
  study('only spaces is zero length', { PatientID: '  ' }, ALL),
  study('an absent attribute matches a universal key', { OtherPatientIDs: '' }, ALL),
  study(
    'universal keys inside a sequence leave it universal',
    { 'RequestAttributesSequence.ScheduledProcedureStepID': '' },
    ALL,
  ),

  // Single value (C.2.2.2.1)
  study('LO is case-sensitive', { PatientID: 'P7' }, ['F']),
  study('LO: the other case is another value', { PatientID: 'p7' }, ['G']),
  study('padding does not count', { PatientID: ' P1 ' }, ['A', 'M']),
  study('no match is an empty answer', { PatientID: 'P99' }, []),
  study('a prefix is no match', { AccessionNumber: 'ACC' }, []),
  study('SQL wildcards are letters', { AccessionNumber: 'a[b]%_c' }, ['J']),
  study('an underscore is no wildcard', { PatientID: 'P_3' }, ['J']),
  study('a percent sign matches nothing else', { AccessionNumber: 'ACC-%' }, []),
  study('quotes do no harm', { PatientID: "P1' OR '1'='1" }, []),
  study('SH is text: 1 is not 01', { StudyID: '1' }, ['A']),
  study('two keys are AND', { PatientID: 'P1', StudyDate: '20210101' }, ['M']),
  study('two keys that no study meets together', { PatientID: 'P2', StudyDate: '20210101' }, []),
  study('an empty attribute meets no value', { StudyID: '?*' }, but('E')),

  // Person names
  study('PN without regard to case', { PatientName: 'doe^jane' }, ['B']),
  study('PN: a family name alone is no match without a wildcard', { PatientName: 'DOE' }, []),
  study('PN: empty trailing components do not count', { PatientName: 'doe^john^^^' }, ['A']),
  study('PN: components are padded', { PatientName: 'DOE ^JOHN ' }, ['A']),
  study('PN: prefix', { PatientName: 'doe^*' }, ['A', 'B']),
  study('PN: star anywhere', { PatientName: '*OHN' }, ['A']),
  study('PN: contains, as OHIF asks', { PatientName: '*mit*' }, ['J', 'M']),
  study('PN: a star after an empty component', { PatientName: "o'brien-smith^meike^maria^dr^*" }, ['M']),
  study('PN: question mark is one character', { PatientName: 'DOE^J???' }, ['A', 'B']),
  study('PN: question mark is exactly one', { PatientName: 'DOE^J??' }, []),
  study('PN: a star goes across components', { PatientName: 'smith*jr' }, ['J']),
  study('PN: accents count', { PatientName: 'BUC^JEROME' }, ['G']),
  study('PN: case of accented letters does not', { PatientName: 'BUC^JÉRÔME' }, ['F']),
  study('PN: decomposed letters are the same letters', { PatientName: 'Buc^Je\u0301ro\u0302me' }, ['F']),
  study('PN: umlauts, lower case', { PatientName: 'müller^*' }, ['D']),
  study('PN: ß and SS', { PatientName: 'STRAUSS^ZOË' }, ['O']),
  study('PN: Cyrillic case', { PatientName: 'ДОЕ^*' }, ['N']),
  study('PN: one group asks every group: alphabetic', { PatientName: 'yamada^tarou' }, ['C']),
  study('PN: one group asks every group: ideographic', { PatientName: '山田^太郎' }, ['C']),
  study('PN: one group asks every group: phonetic', { PatientName: 'やまだ*' }, ['C']),
  study('PN: Korean, in its ideographs', { PatientName: '洪*' }, ['H']),
  study('PN: Korean, in Hangul', { PatientName: '홍^길동' }, ['H']),
  study('PN: Chinese', { PatientName: '王^小?' }, ['I']),
  study('PN: groups in their places', { PatientName: 'Yamada*=山田*' }, ['C']),
  study('PN: an empty first group asks only the second', { PatientName: '=山田^太郎' }, ['C']),
  study('PN: an ideographic group asked for in the phonetic place', { PatientName: '==山田^太郎' }, []),
  study('PN: groups must all match', { PatientName: 'Yamada^Tarou=山本^太郎' }, []),
  study('PN: stars for groups are no condition', { PatientName: '*=*=*' }, ALL),
  study('PN: a star for every component is no condition', { PatientName: '*^*^' }, ALL),
  study('PN: no family name is a condition', { PatientName: '^*' }, []),
  study('PN: referring physician', { ReferringPhysicianName: 'house^*' }, ['A']),

  // Fuzzy
  study('fuzzy: accents are folded', { PatientName: 'jerome buc' }, ['F', 'G'], { fuzzy: true }),
  study('fuzzy: a word is a prefix', { PatientName: 'mull' }, ['D'], { fuzzy: true }),
  study('fuzzy: it sounds alike', { PatientName: 'Maike' }, ['M'], { fuzzy: true }),
  study('fuzzy: Schmidt finds Smith', { PatientName: 'Schmidt' }, ['J', 'M'], { fuzzy: true }),
  study('fuzzy: one slip of the finger', { PatientName: 'Yamdaa' }, ['C'], { fuzzy: true }),
  study('fuzzy: every word must be found', { PatientName: 'doe robert' }, [], { fuzzy: true }),
  study('fuzzy: order does not count', { PatientName: 'john doe' }, ['A'], { fuzzy: true }),
  study('fuzzy: apostrophes and hyphens', { PatientName: 'obrien smith' }, ['M'], { fuzzy: true }),
  study('fuzzy: what matches literally still does', { PatientName: 'DOE^J*' }, ['A', 'B'], { fuzzy: true }),
  study('fuzzy is for names only', { PatientID: 'P' }, [], { fuzzy: true }),

  // Wild cards (C.2.2.2.4)
  study('CS takes wildcards', { ModalitiesInStudy: 'C?' }, ['A', 'C', 'H', 'I', 'K', 'L', 'N']),
  study('LO wildcards are case-sensitive', { StudyDescription: '*mr' }, []),
  study('LO wildcard', { StudyDescription: '*MR' }, ['B']),
  study('a star in a stored value is found by a star', { StudyDescription: 'BRAIN*O' }, ['J']),
  study('a key with a star is always a wildcard', { StudyDescription: '*E*' }, ['A']),
  study('accents count in LO', { StudyDescription: 'É*' }, ['F']),
  study('many stars end soon', { StudyDescription: `${'*a'.repeat(200)}*b` }, []),
  study('no wildcards in a UID', { StudyInstanceUID: '2.25.4242.*' }, 'invalid'),
  study('no wildcards in a date', { StudyDate: '2020*' }, 'invalid'),
  study('no wildcards in a time', { StudyTime: '10*' }, 'invalid'),

  // UID lists (C.2.2.2.2)
  study('a UID', { StudyInstanceUID: uidOf('B') }, ['B']),
  study('a list of UIDs', { StudyInstanceUID: `${uidOf('A')}\\${uidOf('C')}\\1.2.3` }, ['A', 'C']),
  study('a UID with padding', { StudyInstanceUID: `${uidOf('B')}\0` }, ['B']),
  at('SERIES', 'a list of series UIDs', { SeriesInstanceUID: `${uidOf('A2')}\\${uidOf('I1')}` }, ['A2', 'I1']),
  at('IMAGE', 'a list of instance UIDs', { SOPInstanceUID: `${uidOf('A1b')}\\${uidOf('K1a')}` }, ['A1b', 'K1a']),
  at('IMAGE', 'SOP class', { SOPClassUID: SR }, ['A2a']),

  // Ranges (C.2.2.2.5)
  study('a date', { StudyDate: '20200101' }, ['A']),
  study('a range of dates, both ends in', { StudyDate: '20191231-20200102' }, ['A', 'B', 'F', 'G']),
  study('from a date on', { StudyDate: '20200501-' }, ['L', 'M', 'O']),
  study('up to a date', { StudyDate: '-19991231' }, ['C']),
  study('a date of ACR-NEMA is that date', { StudyDate: '19930822' }, ['C']),
  study('and a key of ACR-NEMA too', { StudyDate: '1993.08.22' }, ['C']),
  study('a range of one day', { StudyDate: '20000229-20000229' }, ['N']),
  study('a range backwards is empty', { StudyDate: '20201231-20200101' }, []),
  study('spaces around the hyphen', { StudyDate: '20200101 - 20200102' }, ['A', 'B']),
  study('a list of dates is OR', { StudyDate: '20200101\\20200215' }, ['A', 'J']),
  study('a day that does not exist', { StudyDate: '20210229' }, 'invalid'),
  study('only a hyphen', { StudyDate: '-' }, 'invalid'),
  study('a time to the second', { StudyTime: '101530' }, ['A']),
  study('a time to the minute covers its seconds', { StudyTime: '1015' }, ['A']),
  study('a time to the hour covers its minutes', { StudyTime: '10' }, ['A', 'C', 'F', 'O']),
  study('a value to the hour is where the hour begins', { StudyTime: '1000' }, ['F', 'O']),
  study('a range of times reaches to the end of its last minute', { StudyTime: '0930-1015' }, ['A', 'B', 'F', 'O']),
  study('fractions of a second', { StudyTime: '120000.4-120000.6' }, ['J']),
  study('a fraction less is outside', { StudyTime: '120000.6-120001' }, []),
  study('up to the last microsecond', { StudyTime: '235959-' }, ['D']),
  study('midnight', { StudyTime: '-0000' }, ['M']),
  study('date and time independently', { StudyDate: '20200101-20200102', StudyTime: '0900-1000' }, ['B']),
  study('date and time as one interval', { StudyDate: '20200101-20200102', StudyTime: '1000-0935' }, ['A', 'B'], {
    combinedDateTime: true,
  }),
  study('as one interval, its ends cut off', { StudyDate: '20200101-20200102', StudyTime: '1100-0929' }, [], {
    combinedDateTime: true,
  }),
  study('as one interval, open at the end', { StudyDate: '20200401-', StudyTime: '0900-' }, ['I', 'L', 'M', 'O'], {
    combinedDateTime: true,
  }),
  study(
    'as one interval, without a time the day decides',
    { StudyDate: '20191231-20200101', StudyTime: '1500-1000' },
    ['G'],
    { combinedDateTime: true },
  ),
  study('timezone: the day of whoever asks', { StudyDate: '20200229' }, ['K'], { timezoneOffset: '+0000' }),
  study('timezone: no longer the day of whoever stored', { StudyDate: '20200301' }, [], { timezoneOffset: '+0000' }),
  study('timezone: the hour of whoever asks', { StudyTime: '1530' }, ['K'], { timezoneOffset: '+0000' }),
  study('without timezone adjustment the day is as stored', { StudyDate: '20200301' }, ['K']),
  at('IMAGE', 'DT: the same moment in another offset', { AcquisitionDateTime: '20200101091600.25+0000' }, ['A1a']),
  at('IMAGE', 'DT: a range', { AcquisitionDateTime: '20200101-20200102' }, ['A1a']),
  at(
    'IMAGE',
    'DT: a range with offsets, hyphens and all',
    { AcquisitionDateTime: '20200101041600-0500-20200101041601-0500' },
    ['A1a'],
  ),
  at('IMAGE', 'DT: to the month', { AcquisitionDateTime: '202001' }, ['A1a']),
  at('IMAGE', 'DT: outside', { AcquisitionDateTime: '-20191231' }, []),

  // Numbers
  at('SERIES', 'IS as a number', { SeriesNumber: '007' }, ['B1']),
  at('SERIES', 'IS with spaces', { SeriesNumber: ' 7 ' }, ['B1']),
  at('SERIES', 'IS with a sign', { SeriesNumber: '+3' }, ['J1']),
  at('SERIES', 'IS that is no number', { SeriesNumber: 'seven' }, 'invalid'),
  at('SERIES', 'IS without wildcards', { SeriesNumber: '?' }, 'invalid'),
  at('IMAGE', 'DS as a number', { SliceThickness: '1.50' }, ['A1a']),
  at('IMAGE', 'DS with an exponent', { SliceThickness: '30e-1' }, ['A1b']),
  at('IMAGE', 'US', { Rows: '512' }, ['A1a']),

  // Several values
  study('ModalitiesInStudy matches any series', { ModalitiesInStudy: 'SR' }, ['A']),
  study('ModalitiesInStudy: several are OR', { ModalitiesInStudy: 'MR\\US' }, ['B', 'D', 'E', 'J']),
  study('multiple value matching is AND', { ModalitiesInStudy: 'CT\\PT' }, ['I'], { multipleValueMatching: true }),
  study('an attribute of several values matches by any', { OtherPatientIDs: 'X2' }, ['A']),
  at('IMAGE', 'CS of several values', { ImageType: 'PRIMARY' }, ['A1a']),
  at('IMAGE', 'CS of several values with a wildcard', { ImageType: '*ARY' }, ['A1a', 'A1b']),
  study('LT has one value, backslash and all', { PatientComments: 'one\\two' }, ['J']),

  // Empty value matching
  study('empty value: attribute without value', { PatientID: '""' }, ['E'], { emptyValueMatching: true }),
  study('empty value: attribute absent', { StudyDescription: '""' }, but('A', 'B', 'F', 'J'), {
    emptyValueMatching: true,
  }),
  study('empty value of a date', { StudyDate: '""' }, ['E'], { emptyValueMatching: true }),
  study('empty value of a name', { PatientName: '""' }, ['E'], { emptyValueMatching: true }),
  study('two quotation marks are a value when not negotiated', { PatientID: '""' }, []),

  // Sequences (C.2.2.2.6)
  at('SERIES', 'inside a sequence', { 'RequestAttributesSequence.ScheduledProcedureStepID': 'SPS2' }, ['J1']),
  at('SERIES', 'any item may match', { 'RequestAttributesSequence.RequestedProcedureID': 'RP2' }, ['J1', 'J2']),
  at(
    'SERIES',
    'one item must match all keys',
    {
      'RequestAttributesSequence.ScheduledProcedureStepID': 'SPS1',
      'RequestAttributesSequence.RequestedProcedureID': 'RP2',
    },
    ['J2'],
  ),
  at('SERIES', 'a wildcard inside', { 'RequestAttributesSequence.ScheduledProcedureStepID': 'SPS?' }, ['J1', 'J2']),
  at(
    'SERIES',
    'performed procedure step',
    { PerformedProcedureStepStartDate: '20200215', PerformedProcedureStepStartTime: '1100-1200' },
    ['J2'],
  ),

  // Levels
  at('SERIES', 'Modality', { Modality: 'CT' }, ['A1', 'H1', 'I2', 'K1', 'L1', 'N1']),
  at('SERIES', 'a study key below its level', { PatientName: 'DOE*' }, ['A1', 'A2', 'B1']),
  at('SERIES', 'LO padding at series level', { SeriesDescription: 'Thorax' }, ['A1']),
  at('IMAGE', 'keys of three levels', { PatientID: 'P1', Modality: 'CT', InstanceNumber: '2' }, ['A1b']),
  at('PATIENT', 'patients', { PatientID: 'P1' }, ['A']),
  at('PATIENT', 'patients by name', { PatientName: 'buc*' }, ['F', 'G']),
  study('an instance that disagrees is found too', { AccessionNumber: 'RIGHT' }, ['L']),
  study('and so is the first', { AccessionNumber: 'WRONG' }, ['L']),
  study('a name that one instance carries', { PatientName: 'roe^richarda' }, ['L']),
  study('a date that one instance carries', { StudyDate: '20200502' }, ['L']),
];
