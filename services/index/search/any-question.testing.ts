import fc from 'fast-check';
import { tagOf } from '#dicom/tags.ts';
import { uidOf } from './matching-cases.ts';

/** Values that the matching archive knows, and some that it does not, by attribute. */
const SEEDS: [keyword: string, vr: string, values: string[]][] = [
  ['PatientName', 'PN', ['DOE^JOHN', 'Buc^Jérôme', '山田^太郎', '홍^길동', 'Strauß^Zoë', 'ROE^RICHARDA']],
  ['PatientID', 'LO', ['P1', 'P2', 'p7', 'P_3', '']],
  ['AccessionNumber', 'SH', ['ACC-1', 'a[b]%_c', 'WRONG', 'RIGHT', 'C']],
  ['StudyDate', 'DA', ['20200101', '20200101-', '-20191231', '20200102-20200301', '19930822', '20200502']],
  ['StudyTime', 'TM', ['10', '0900-1100', '-0800']],
  ['ModalitiesInStudy', 'CS', ['CT', 'MR', 'SR']],
  ['Modality', 'CS', ['CT', 'SR', 'PT']],
  ['StudyDescription', 'LO', ['CHEST CT', 'Head MR', 'BRAIN*W/O']],
  ['ImageType', 'CS', ['PRIMARY', 'DERIVED']],
  ['SOPInstanceUID', 'UI', [uidOf('A1a'), uidOf('J1a')]],
  ['SeriesInstanceUID', 'UI', [uidOf('A1'), '1.2.3']],
];

const key = fc.constantFrom(...SEEDS).chain(([keyword, vr, values]) =>
  fc.record({
    path: fc.constant<number[]>([tagOf(keyword)!]),
    vr: fc.constant(vr),
    values: fc.array(
      fc
        .tuple(fc.constantFrom(...values), fc.nat(6), fc.nat(6), fc.constantFrom('', '', '*', '?'))
        .map(([value, from, to, wild]) =>
          ['DA', 'TM', 'UI'].includes(vr) || wild === ''
            ? value
            : wild + value.slice(from % (value.length + 1), value.length - (to % 3)) + (to % 2 ? wild : ''),
        ),
      { minLength: 1, maxLength: 2 },
    ),
  }),
);

/** Any question to the matching archive: level, keys, options. */
export const anyQuestion = fc.record({
  level: fc.constantFrom('STUDY' as const, 'SERIES' as const, 'IMAGE' as const, 'PATIENT' as const),
  match: fc.array(key, { minLength: 1, maxLength: 3 }),
  fuzzy: fc.boolean(),
  combinedDateTime: fc.boolean(),
  timezoneOffset: fc.constantFrom('', '-0500'),
});
