import { Tag } from '#dicom/tags.ts';
import type { MatchKey } from '#proto/index/v1/index.ts';
import { keyText } from '../state/keys.ts';
import { asksNothing, fuzzyName, hasWildcard, isUniversal, nameGroups, personName, words } from './match-text.ts';
import { DAY, dateOf, parseKey } from './match-time.ts';

/**
 * Which values of a key's table can match at all (state/keys.ts): always a superset of those that do, because the documents decide.
 */
export interface NarrowOptions {
  fuzzy: boolean;
  timezone: boolean;
  emptyValueMatching: boolean;
  lookupMax: number;
}

/** The most telling first: the first one that leaves few enough is taken. */
export const TRIED: readonly number[] = [
  Tag.StudyInstanceUID,
  Tag.SOPInstanceUID,
  Tag.SeriesInstanceUID,
  Tag.AccessionNumber,
  Tag.PatientID,
  Tag.StudyID,
  Tag.PatientName,
  Tag.PatientBirthDate,
  Tag.StudyDate,
  Tag.StudyDescription,
  Tag.ReferringPhysicianName,
  Tag.IssuerOfPatientID,
  Tag.ModalitiesInStudy,
];
/** A key that narrows: one of `TRIED`, with values that ask for something. */
export interface TellingKey {
  tag: number;
  vr: string;
  values: readonly string[];
}

/** In the order of `TRIED`. */
export function* tellingKeys(keys: readonly MatchKey[], options: NarrowOptions): Generator<TellingKey> {
  for (const tag of TRIED)
    for (const key of keys) {
      // A series' Modality is one of its study's.
      const asked = key.path.length === 1 && key.path[0] === Tag.Modality ? Tag.ModalitiesInStudy : key.path[0];
      if (key.path.length !== 1 || asked !== tag) continue;
      const values = key.values.filter((value) => value.trim() !== '');
      if (values.length === 0 || values.some((value) => asksNothing(key.vr, value))) continue;
      if (options.emptyValueMatching && values.some((value) => value.trim() === '""')) continue;
      yield { tag, vr: key.vr, values };
    }
}

export type Lookup = { exact: string } | { from: string; to: string; contains: string };

/** undefined: this value does not narrow. Not for fuzzy matching of names. */
export function lookupOf({ vr }: TellingKey, value: string, options: NarrowOptions): Lookup | undefined {
  return vr === 'PN' ? nameLookup(value) : vr === 'DA' ? dateLookup(value, options.timezone) : textLookup(vr, value);
}

/** Behind every text in the order of UTF-8's bytes. */
export const LAST = '\u{10ffff}';

function textLookup(vr: string, value: string): Lookup | undefined {
  // Leading and trailing spaces do not count where a key of these VRs is compared, and are not kept.
  const text = keyText(vr, value.replace(/^[ \0]+|[ \0]+$/g, ''));
  return hasWildcard(text) ? wildcardLookup(text) : { exact: text };
}

function nameLookup(value: string): Lookup | undefined {
  // Every group stands alone in the table: any of those asked for will do.
  const group = nameGroups(value).find((one) => one !== '' && !asksNothing('PN', one));
  if (group === undefined) return undefined;
  return hasWildcard(group) ? wildcardLookup(group, true) : { exact: group };
}

function wildcardLookup(pattern: string, name = false): Lookup | undefined {
  const chunks = pattern.split(/[*?]/).map((chunk) => (name ? chunk.replace(/\^+$/, '') : chunk)); // `DOE^*` also finds DOE
  const prefix = chunks[0]!;
  const contains = chunks.reduce((longest, chunk) => (chunk.length > longest.length ? chunk : longest), '');
  if (contains === '') return undefined;
  return { from: prefix, to: prefix + LAST, contains };
}

function dateLookup(value: string, timezone: boolean): Lookup | undefined {
  const asked = parseKey('DA', value);
  if (!asked) return undefined;
  // Where whoever asks lives elsewhere, their day begins or ends in the day before or behind.
  const slack = timezone ? DAY : 0;
  const from = Number.isFinite(asked.from) ? dateOf(asked.from - slack) : '';
  const to = Number.isFinite(asked.to) ? dateOf(asked.to + slack) : LAST;
  return { from, to, contains: '' }; // instr(x, '') is 1
}

/** What a name group must be, for any of the values to match a name that has it. */
export function fuzzyTests(values: readonly string[]): (group: string) => boolean {
  const tests = values.map((value) => {
    const [first] = words(value);
    const groups = nameGroups(value).filter((one) => one !== '' && !asksNothing('PN', one));
    const literal = groups.map((group) => personName(group));
    const sounds = first === undefined ? () => false : fuzzyName(first);
    return (group: readonly string[]) => literal.some((test) => test(group)) || sounds(group);
  });
  return (group) => tests.some((test) => test([group]));
}

/** A single range of study dates, for reading the list only where it can match. */
export function studyDates(
  keys: readonly MatchKey[],
  options: NarrowOptions,
): { from: string; to: string } | undefined {
  const key = keys.find((one) => one.path.length === 1 && one.path[0] === Tag.StudyDate && one.values.length === 1);
  if (!key || isUniversal(key.values[0]!) || (options.emptyValueMatching && key.values[0]!.trim() === '""'))
    return undefined;
  const lookup = dateLookup(key.values[0]!, options.timezone);
  return lookup && 'from' in lookup ? { from: lookup.from, to: lookup.to } : undefined;
}
