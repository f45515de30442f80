import type { DatabaseSync } from 'node:sqlite';
import { Tag } from '#dicom/tags.ts';
import type { MatchKey } from '#proto/index/v1/index.ts';
import { seriesOfSop } from '../adapters/sqlite/read.ts';
import { keyText, STUDY_KEYS, statement } from '../adapters/sqlite/schema.ts';
import { fuzzyName, hasWildcard, isUniversal, nameGroups, personName, words } from './match-text.ts';
import { DAY, dateOf, parseKey } from './match-time.ts';

/**
 * Which studies can match at all, from the tables of keys: always a superset of those that do, because the documents decide in the
 * end. Undefined: no key leaves few enough; the list is read in its order then.
 */
export interface NarrowOptions {
  fuzzy: boolean;
  timezone: boolean;
  emptyValueMatching: boolean;
  lookupMax: number;
}

/** The most telling first: the first one that leaves few enough is taken. */
const TRIED: readonly number[] = [
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
/** Above so many UIDs their look-up costs more than reading the list. */
const SOPS_MAX = 2_000;

export function narrow(
  db: DatabaseSync,
  tenantName: string,
  tenant: number,
  keys: readonly MatchKey[],
  options: NarrowOptions,
): number[] | undefined {
  for (const tag of TRIED)
    for (const key of keys) {
      // A series' Modality is one of its study's.
      const asked = key.path.length === 1 && key.path[0] === Tag.Modality ? Tag.ModalitiesInStudy : key.path[0];
      if (key.path.length !== 1 || asked !== tag) continue;
      const values = key.values.filter((value) => value.trim() !== '');
      if (values.length === 0 || values.some(isUniversal)) continue;
      if (options.emptyValueMatching && values.some((value) => value.trim() === '""')) continue;
      const ids = candidates(db, tenantName, tenant, tag, key.vr, values, options);
      if (ids && ids.size <= options.lookupMax) return [...ids];
    }
  return undefined;
}

function candidates(
  db: DatabaseSync,
  tenantName: string,
  tenant: number,
  tag: number,
  vr: string,
  values: readonly string[],
  options: NarrowOptions,
): Set<number> | undefined {
  const ids = new Set<number>();
  const take = (rows: readonly Record<string, unknown>[]) => {
    for (const row of rows) ids.add(row.study as number);
  };
  const uids = () => JSON.stringify(values.map((value) => value.replace(/[ \0]+/g, '')));
  switch (tag) {
    case Tag.StudyInstanceUID:
      take(
        statement(
          db,
          'SELECT id AS study FROM studies WHERE tenant = ? AND study_instance_uid IN (SELECT value FROM json_each(?))',
        ).all(tenant, uids()),
      );
      return ids;
    case Tag.SeriesInstanceUID:
      take(
        statement(
          db,
          'SELECT study FROM series JOIN studies ON studies.id = series.study WHERE tenant = ? AND series_instance_uid IN (SELECT value FROM json_each(?))',
        ).all(tenant, uids()),
      );
      return ids;
    case Tag.SOPInstanceUID:
      if (values.length > SOPS_MAX) return undefined;
      for (const uid of JSON.parse(uids()) as string[])
        take(seriesOfSop(db, tenantName, uid) as unknown as Record<string, unknown>[]);
      return ids;
  }
  if (!STUDY_KEYS.includes(tag)) return undefined;
  const limit = options.lookupMax + 1;
  if (vr === 'PN' && options.fuzzy) return fuzzyCandidates(db, tenant, tag, values, limit);
  const exact: string[] = [];
  for (const value of values) {
    const lookup =
      vr === 'PN' ? nameLookup(value) : vr === 'DA' ? dateLookup(value, options.timezone) : textLookup(vr, value);
    if (!lookup) return undefined;
    if ('exact' in lookup) exact.push(lookup.exact);
    else
      take(
        statement(
          db,
          `SELECT study FROM study_keys WHERE tenant = ? AND tag = ? AND value >= ? AND value <= ? AND instr(value, ?) > 0 LIMIT ${limit}`,
        ).all(tenant, tag, lookup.from, lookup.to, lookup.contains),
      );
  }
  if (exact.length > 0)
    take(
      statement(
        db,
        `SELECT study FROM study_keys WHERE tenant = ? AND tag = ? AND value IN (SELECT value FROM json_each(?)) LIMIT ${limit}`,
      ).all(tenant, tag, JSON.stringify(exact)),
    );
  return ids;
}

type Lookup = { exact: string } | { from: string; to: string; contains: string };
/** Behind every text in the order of UTF-8's bytes. */
const LAST = '\u{10ffff}';

function textLookup(vr: string, value: string): Lookup | undefined {
  // Leading and trailing spaces do not count where a key of these VRs is compared, and are not kept.
  const text = keyText(vr, value.replace(/^[ \0]+|[ \0]+$/g, ''));
  return hasWildcard(text) ? wildcardLookup(text) : { exact: text };
}

function nameLookup(value: string): Lookup | undefined {
  // Every group stands alone in the table: any of those asked for will do.
  const group = nameGroups(value).find((one) => one !== '' && !isUniversal(one));
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
  return { from, to, contains: '' };
}

/** instr(x, '') is 1, so an empty `contains` asks nothing. */
function fuzzyCandidates(
  db: DatabaseSync,
  tenant: number,
  tag: number,
  values: readonly string[],
  limit: number,
): Set<number> {
  const tests = values.map((value) => {
    const [first] = words(value);
    const groups = nameGroups(value).filter((one) => one !== '' && !isUniversal(one));
    const literal = groups.map((group) => personName(group));
    const sounds = first === undefined ? () => false : fuzzyName(first);
    return (group: readonly string[]) => literal.some((test) => test(group)) || sounds(group);
  });
  const ids = new Set<number>();
  let last: string | undefined;
  let matches = false;
  const rows = db.prepare('SELECT value, study FROM study_keys WHERE tenant = ? AND tag = ?');
  for (const row of rows.iterate(tenant, tag)) {
    if (row.value !== last) {
      last = row.value as string;
      matches = tests.some((test) => test([last!]));
    }
    if (matches) ids.add(row.study as number);
    if (ids.size > limit) break;
  }
  return ids;
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
