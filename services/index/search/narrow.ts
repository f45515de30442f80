import { Tag } from '#dicom/tags.ts';
import { trimUid } from '#dicom/uids.ts';
import type { MatchKey } from '#proto/index/v1/index.ts';
import { seriesOfSop } from '../adapters/sqlite/read.ts';
import type { Database } from '../adapters/sqlite/schema.ts';
import { keyText, STUDY_KEYS, statement } from '../adapters/sqlite/schema.ts';
import { asksNothing, fuzzyName, hasWildcard, isUniversal, nameGroups, personName, words } from './match-text.ts';
import { DAY, dateOf, parseKey } from './match-time.ts';

/**
 * Which studies can match at all, from the tables of keys: always a superset of those that do, because the documents decide in the end.
 */
export interface Narrowing {
  /** Few enough to look at each; undefined: no key leaves so few, and the list is read in its own order. */
  ids: number[] | undefined;
  /** Conditions on a row of `studies` that cost less than reading its document. */
  filters: Filter[];
}
export interface Filter {
  sql: string;
  values: (string | number)[];
}
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
  db: Database,
  tenantName: string,
  tenant: number,
  keys: readonly MatchKey[],
  options: NarrowOptions,
): Narrowing {
  let ids: Set<number> | undefined;
  const filters: Filter[] = [];
  for (const tag of TRIED)
    for (const key of keys) {
      // A series' Modality is one of its study's.
      const asked = key.path.length === 1 && key.path[0] === Tag.Modality ? Tag.ModalitiesInStudy : key.path[0];
      if (key.path.length !== 1 || asked !== tag) continue;
      const values = key.values.filter((value) => value.trim() !== '');
      if (values.length === 0 || values.some((value) => asksNothing(key.vr, value))) continue;
      if (options.emptyValueMatching && values.some((value) => value.trim() === '""')) continue;
      const question = { db, tenantName, tenant, tag, vr: key.vr, values, options };
      // Few studies are sooner read than narrowed further.
      const found = ids && ids.size <= FEW ? undefined : (byUid(question) ?? byKey(question, filters));
      if (found) ids = ids ? intersection(ids, found) : found;
    }
  return { ids: ids && [...ids], filters };
}

const FEW = 100;
const intersection = (a: Set<number>, b: Set<number>): Set<number> => a.intersection(b);

interface Question {
  db: Database;
  tenantName: string;
  tenant: number;
  tag: number;
  vr: string;
  values: readonly string[];
  options: NarrowOptions;
}

function byUid({ db, tenantName, tenant, tag, values }: Question): Set<number> | undefined {
  const uids = values.map(trimUid);
  const select = (sql: string) => statement(db, sql).all(tenant, JSON.stringify(uids));
  const studies = (rows: readonly { study?: unknown }[]) => new Set(rows.map((row) => row.study as number));
  switch (tag) {
    case Tag.StudyInstanceUID:
      return studies(
        select(
          'SELECT id AS study FROM studies WHERE tenant = ? AND study_instance_uid IN (SELECT value FROM json_each(?))',
        ),
      );
    case Tag.SeriesInstanceUID:
      return studies(
        select(
          'SELECT study FROM series JOIN studies ON studies.id = series.study WHERE tenant = ? AND series_instance_uid IN (SELECT value FROM json_each(?))',
        ),
      );
    case Tag.SOPInstanceUID:
      return uids.length > SOPS_MAX ? undefined : studies(uids.flatMap((uid) => seriesOfSop(db, tenantName, uid)));
    default:
      return undefined;
  }
}

/** From `study_keys`. Too many: a filter instead, where there is one. */
function byKey(question: Question, filters: Filter[]): Set<number> | undefined {
  const { db, tenant, tag, vr, values, options } = question;
  if (!STUDY_KEYS.includes(tag)) return undefined;
  if (vr === 'PN' && options.fuzzy) return fuzzyCandidates(question);
  const exact: string[] = [];
  const wheres: Filter[] = [];
  for (const value of values) {
    const lookup =
      vr === 'PN' ? nameLookup(value) : vr === 'DA' ? dateLookup(value, options.timezone) : textLookup(vr, value);
    if (!lookup) return undefined;
    if ('exact' in lookup) exact.push(lookup.exact);
    else
      wheres.push({
        sql: 'value >= ? AND value <= ? AND instr(value, ?) > 0',
        values: [lookup.from, lookup.to, lookup.contains],
      });
  }
  if (exact.length > 0)
    wheres.push({ sql: 'value IN (SELECT value FROM json_each(?))', values: [JSON.stringify(exact)] });
  const ids = new Set<number>();
  let left = options.lookupMax;
  for (const where of wheres) {
    const from = `FROM study_keys WHERE tenant = ? AND tag = ? AND ${where.sql}`;
    const count = statement(db, `SELECT count(*) AS n FROM (SELECT 1 ${from} LIMIT ${options.lookupMax + 1})`);
    left -= count.get(tenant, tag, ...where.values)!.n as number;
    if (left < 0) break;
    for (const row of statement(db, `SELECT study ${from}`).all(tenant, tag, ...where.values))
      ids.add(row.study as number);
  }
  if (left >= 0) return ids;
  // One value of one study is one look-up; a range is none.
  if (exact.length === values.length)
    filters.push({
      sql: `EXISTS (SELECT 1 FROM study_keys WHERE study_keys.tenant = studies.tenant AND tag = ${tag} AND value IN (SELECT value FROM json_each(?)) AND study_keys.study = studies.id)`,
      values: [JSON.stringify(exact)],
    });
  return undefined;
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

function fuzzyCandidates({ db, tenant, tag, values, options }: Question): Set<number> | undefined {
  const tests = values.map((value) => {
    const [first] = words(value);
    const groups = nameGroups(value).filter((one) => one !== '' && !asksNothing('PN', one));
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
    if (ids.size > options.lookupMax) return undefined;
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
