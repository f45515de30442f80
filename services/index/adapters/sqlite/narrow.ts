import { Tag } from '#dicom/tags.ts';
import { trimUid } from '#dicom/uids.ts';
import type { MatchKey } from '#proto/index/v1/index.ts';
import { fuzzyTests, lookupOf, type NarrowOptions, tellingKeys } from '../../search/lookups.ts';
import { STUDY_KEYS } from '../../state/keys.ts';
import { seriesOfSop } from './read.ts';
import { type Database, statement } from './schema.ts';

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
  for (const key of tellingKeys(keys, options)) {
    const question = { db, tenantName, tenant, ...key, options };
    // Few studies are sooner read than narrowed further.
    const found = ids && ids.size <= FEW ? undefined : (byUid(question) ?? byKey(question, filters));
    if (found) ids = ids ? ids.intersection(found) : found;
  }
  return { ids: ids && [...ids], filters };
}

const FEW = 100;

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
    const lookup = lookupOf(question, value, options);
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

function fuzzyCandidates({ db, tenant, tag, values, options }: Question): Set<number> | undefined {
  const test = fuzzyTests(values);
  const ids = new Set<number>();
  let last: string | undefined;
  let matches = false;
  const rows = db.prepare('SELECT value, study FROM study_keys WHERE tenant = ? AND tag = ?');
  for (const row of rows.iterate(tenant, tag)) {
    if (row.value !== last) {
      last = row.value as string;
      matches = test(last);
    }
    if (matches) ids.add(row.study as number);
    if (ids.size > options.lookupMax) return undefined;
  }
  return ids;
}
