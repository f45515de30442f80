import { GantryError } from '#platform/errors.ts';
import type { SearchRequest, SearchRow } from '#proto/index/v1/index.ts';
import type { Database } from '../adapters/sqlite/schema.ts';
import { tenantId } from '../adapters/sqlite/schema.ts';
import { type MetadataReader, metadataReaderOf } from '../metadata/read.ts';
import { Budget, type InstanceEntity, PatientEntity, type SeriesEntity, type Source, StudyEntity } from './entities.ts';
import { DEPTH, homeOf, NEVER_MATCHED, type SearchLevel } from './levels.ts';
import { type Condition, compileKeys } from './match.ts';
import { type NarrowOptions, narrow, studyDates } from './narrow.ts';
import {
  type Cursor,
  comparePlaces,
  decodeCursor,
  encodeCursor,
  numberPlace,
  type Order,
  type OrderKey,
  orderBySql,
  orderOf,
  type Place,
} from './order.ts';
import { rememberedAnswer, rememberedRow } from './remember.ts';
import { RowBuilder, type RowEntity } from './rows.ts';
import { SEARCH_LIMITS, type SearchLimits } from './settings.ts';

/**
 * One question, answered from one committed state of the index. The walk goes from studies down: a study is looked into only when its
 * own keys match, a series only when its own do. At every level a key of a level below asks whether there is such an entity
 * (a study with a series of this modality), one of a level above whose it is (relational queries, PS3.4 C.4.1.2.2.2).
 *
 * Now and then it yields `undefined`: nothing was found for a while, and the thread may serve others or hear of a cancellation.
 */
export function* runSearch(
  db: Database,
  tenant: string,
  request: SearchRequest,
  options: { limits?: SearchLimits; reader?: MetadataReader } = {},
): Generator<SearchRow | undefined, void, undefined> {
  const limits = options.limits ?? SEARCH_LIMITS;
  const level = levelOf(request.level);
  const order = orderOf(request, level);
  const walk = new Walk(request, level, order, decodeCursor(order, request.cursor));
  const id = tenantId(db, tenant);
  if (id === undefined) return; // nothing was ever stored for it
  // One state from the first row to the last.
  const own = !db.isTransaction;
  if (own) db.exec('BEGIN');
  try {
    const kept = rememberedAnswer(db, tenant, request, limits);
    if (kept.rows) {
      yield* kept.rows;
      return;
    }
    const rows: SearchRow[] = [];
    const source: Source = { db, reader: options.reader ?? metadataReaderOf(db), budget: new Budget(limits) };
    for (const row of page(walk, source, tenant, id, limits)) {
      if (row && rows.length < REMEMBERED_ROWS_MAX) rows.push(row);
      yield row;
    }
    if (rows.length < REMEMBERED_ROWS_MAX) kept.keep(rows);
  } finally {
    if (own) db.exec('COMMIT');
  }
}

/** Cuts the page, and says on its last row whether there is more. */
function* page(
  walk: Walk,
  source: Source,
  tenantName: string,
  tenant: number,
  limits: SearchLimits,
): Generator<SearchRow | undefined> {
  const { request } = walk;
  const limit = Math.min(request.limit || limits.rowsMax, limits.rowsMax);
  const builder = new RowBuilder(request, walk.level);
  const row = ({ entity, cursor }: Hit, more: boolean): SearchRow => ({
    dataSetJson: rememberedRow(builder, entity),
    cursor: encodeCursor(walk.order, cursor),
    conflict: entity.conflict,
    more,
  });
  // A list of studies without conditions is skipped in the index itself.
  const skippedBySql = walk.level === 'STUDY' && walk.conditions.length === 0 && !walk.cursor;
  if (skippedBySql) walk.sqlOffset = request.offset;
  const hits = walk.hits(source, tenantName, tenant, limits);
  try {
    let next = hits.next();
    for (let skip = skippedBySql ? 0 : request.offset; !next.done && (skip > 0 || !next.value); next = hits.next()) {
      if (next.value) skip--;
      else yield undefined;
    }
    for (let taken = 1; !next.done; taken++) {
      const hit = next.value!;
      const last = taken === limit;
      let more = false;
      try {
        for (next = hits.next(); !next.done && !next.value; next = hits.next()) yield undefined;
        more = last && !next.done;
      } catch (error) {
        // The page is full; that looking for a row behind it would cost too much does not take it away.
        if (!last || !(error instanceof GantryError && error.code === 'too-broad')) throw error;
        more = true;
      }
      yield row(hit, more);
      if (last) return;
    }
  } finally {
    hits.return(undefined); // closes the statements that it reads from
  }
}

/** Larger answers are not kept in the first place. */
const REMEMBERED_ROWS_MAX = 2_000;

/** Studies looked at without a pause: five milliseconds at the most. */
const PAUSE = 256;

interface Hit {
  entity: RowEntity;
  cursor: Cursor;
}

function levelOf(level: string): SearchLevel {
  if (level === 'PATIENT' || level === 'STUDY' || level === 'SERIES' || level === 'IMAGE') return level;
  throw new GantryError('invalid-argument', 'the level of a search is PATIENT, STUDY, SERIES or IMAGE');
}

class Walk {
  readonly request: SearchRequest;
  readonly level: SearchLevel;
  readonly order: Order;
  readonly cursor: Cursor | undefined;
  readonly conditions: readonly Condition[];
  readonly #at: Record<SearchLevel, Condition[]> = { PATIENT: [], STUDY: [], SERIES: [], IMAGE: [] };
  readonly #instancesNeedHeaders: boolean;
  sqlOffset = 0;

  constructor(request: SearchRequest, level: SearchLevel, order: Order, cursor: Cursor | undefined) {
    this.request = request;
    this.level = level;
    this.order = order;
    this.cursor = cursor;
    this.conditions = compileKeys(
      request.match.filter((key) => !NEVER_MATCHED.has(key.path[0] ?? -1)),
      {
        fuzzy: request.fuzzy,
        emptyValueMatching: request.emptyValueMatching,
        timezoneOffset: request.timezoneOffset,
        combinedDateTime: request.combinedDateTime,
      },
    );
    for (const condition of this.conditions) {
      const homes = condition.tags.map(homeOf);
      this.#at[homes.reduce((deepest, home) => (DEPTH[home] > DEPTH[deepest] ? home : deepest))].push(condition);
    }
    this.#instancesNeedHeaders = this.#at.IMAGE.some(({ tags }) => tags.some((tag) => !RECORD_TAGS.has(tag)));
  }

  hits(
    source: Source,
    tenantName: string,
    tenant: number,
    limits: SearchLimits,
  ): Generator<Hit | undefined, void, undefined> {
    return this.level === 'PATIENT'
      ? this.#patients(source, tenantName, tenant, limits)
      : this.#belowPatients(source, tenantName, tenant, limits);
  }

  #holds(level: SearchLevel, entity: { attributes(tag: number): readonly object[] }): boolean {
    return this.#at[level].every((condition) => condition.test(entity));
  }

  *#belowPatients(
    source: Source,
    tenantName: string,
    tenant: number,
    limits: SearchLimits,
  ): Generator<Hit | undefined> {
    const { cursor, level } = this;
    let looked = 0;
    for (const { id, place } of this.#studies(source.db, tenantName, tenant, limits)) {
      if (++looked % PAUSE === 0) yield undefined;
      const where = cursor ? comparePlaces(place, cursor.row, this.order.rows) : 1;
      if (where < 0 || (where === 0 && !cursor?.series)) continue;
      const study = new StudyEntity(source, id);
      if (this.conditions.length > 0) {
        source.budget.study();
        if (!this.#holds('PATIENT', study) || !this.#holds('STUDY', study)) continue;
      }
      if (level === 'STUDY') {
        if (this.#hasSeries(study)) yield { entity: study, cursor: { row: place } };
      } else yield* this.#series(study, place, where === 0 ? cursor : undefined);
    }
  }

  *#series(study: StudyEntity, row: Place, cursor: Cursor | undefined): Generator<Hit> {
    for (const { entity, place } of this.#sorted(study.series(), this.order.series, seriesPlace)) {
      const where = cursor?.series ? comparePlaces(place, cursor.series, this.order.series) : 1;
      if (where < 0 || (where === 0 && !cursor?.instance)) continue;
      if (!this.#holds('SERIES', entity)) continue;
      if (this.level === 'IMAGE')
        yield* this.#instances(entity, row, place, where === 0 ? cursor?.instance : undefined);
      else if (this.#at.IMAGE.length === 0 || this.#matching(entity).length > 0)
        yield { entity, cursor: { row, series: place } };
    }
  }

  *#instances(series: SeriesEntity, row: Place, seriesAt: Place, after: Place | undefined): Generator<Hit> {
    const sorted = [...this.#sorted(this.#matching(series), this.order.instances, instancePlace)].filter(
      ({ place }) => !after || comparePlaces(place, after, this.order.instances) > 0,
    );
    series.readTogether(sorted.map((one) => one.entity));
    for (const { entity, place } of sorted) yield { entity, cursor: { row, series: seriesAt, instance: place } };
  }

  #matching(series: SeriesEntity): InstanceEntity[] {
    const instances = series.instances();
    if (this.#at.IMAGE.length === 0) return instances;
    if (this.#instancesNeedHeaders) series.readAllHeaders(instances);
    return instances.filter((one) => this.#holds('IMAGE', one));
  }

  /** A study with a series that meets the keys of its level, and in it an instance that meets those of its own. */
  #hasSeries(study: StudyEntity): boolean {
    if (this.#at.SERIES.length === 0 && this.#at.IMAGE.length === 0) return true;
    for (const series of study.series())
      if (this.#holds('SERIES', series) && (this.#at.IMAGE.length === 0 || this.#matching(series).length > 0))
        return true;
    return false;
  }

  *#sorted<E>(
    entities: Iterable<E>,
    keys: readonly OrderKey[],
    placeOf: (entity: E, key: OrderKey) => string | number,
  ): Generator<{ entity: E; place: Place }> {
    const placed = Array.from(entities, (entity) => ({ entity, place: keys.map((key) => placeOf(entity, key)) }));
    yield* placed.sort((a, b) => comparePlaces(a.place, b.place, keys));
  }

  *#patients(source: Source, tenantName: string, tenant: number, limits: SearchLimits): Generator<Hit | undefined> {
    const { cursor } = this;
    const { db } = source;
    const { ids } = narrow(db, tenantName, tenant, this.request.match, this.#narrowing(limits));
    const where = ids ? 'id IN (SELECT patient FROM studies WHERE id IN (SELECT value FROM json_each(?)))' : 'true';
    const keys = this.order.rows;
    const rows = db.prepare(
      `SELECT id, ${keys.map((key, n) => `${key.sql} AS k${n}`).join(', ')} FROM patients WHERE tenant = ? AND live = 1 AND ${where} ORDER BY ${orderBySql(keys)}`,
    );
    let looked = 0;
    for (const row of rows.iterate(tenant, ...(ids ? [JSON.stringify(ids)] : []))) {
      if (++looked % PAUSE === 0) yield undefined;
      const place = placeOfRow(row, keys);
      if (cursor && comparePlaces(place, cursor.row, keys) <= 0) continue;
      const entity = new PatientEntity(source, row.id as number);
      if (this.conditions.length > 0 && !this.#patientMatches(entity, source)) continue;
      yield { entity, cursor: { row: place } };
    }
  }

  #patientMatches(patient: PatientEntity, source: Source): boolean {
    source.budget.study();
    const own = this.#holds('PATIENT', patient);
    if (!own && patient.doc.partial !== true) return false;
    if (own && this.conditions.length === this.#at.PATIENT.length) return true;
    for (const study of patient.studies()) {
      source.budget.study();
      if ((own || this.#holds('PATIENT', study)) && this.#holds('STUDY', study) && this.#hasSeries(study)) return true;
    }
    return false;
  }

  #narrowing(limits: SearchLimits): NarrowOptions {
    const { fuzzy, emptyValueMatching, timezoneOffset } = this.request;
    return { fuzzy, emptyValueMatching, timezone: timezoneOffset !== '', lookupMax: limits.lookupMax };
  }

  /** Studies in the order of the rows, narrowed as far as an index can; the documents decide. */
  *#studies(
    db: Database,
    tenantName: string,
    tenant: number,
    limits: SearchLimits,
  ): Generator<{ id: number; place: Place }> {
    const keys = this.order.rows;
    const options = this.#narrowing(limits);
    const columns = keys.map((key, n) => `${key.sql} AS k${n}`).join(', ');
    const { ids, filters } = narrow(db, tenantName, tenant, this.request.match, options);
    const read = (from: string, where: string, values: (string | number)[], first: string[] = []) =>
      db
        .prepare(
          `SELECT id, ${columns} FROM ${from} WHERE ${['tenant = ?', 'instances > 0', where, ...filters.map((one) => one.sql)].join(' AND ')}
           ORDER BY ${orderBySql(keys)} LIMIT -1 OFFSET ${this.sqlOffset}`,
        )
        .iterate(...first, tenant, ...values, ...filters.flatMap((one) => one.values)) as NodeJS.Iterator<
        Record<string, unknown>
      >;
    const found = (row: Record<string, unknown>) => ({ id: row.id as number, place: placeOfRow(row, keys) });

    const dates = studyDates(this.request.match, options);
    if (ids) {
      // CROSS JOIN: SQLite would rather read the whole list in its order than look up a few rows and sort them.
      const given = '(SELECT value FROM json_each(?)) CROSS JOIN studies ON studies.id = value';
      const where = dates ? '(disagrees = 1 OR study_date >= ? AND study_date <= ?)' : 'true';
      const range = dates ? [dates.from, dates.to] : [];
      for (const row of read(given, where, range, [JSON.stringify(ids)])) yield found(row);
      return;
    }
    const start = this.order.indexed && this.cursor ? String(this.cursor.row[0]) : undefined;
    const after = start === undefined ? 'true' : 'study_date <= ?';
    const bounds = start === undefined ? [] : [start];
    if (!dates) {
      for (const row of read('studies', after, bounds)) yield found(row);
      return;
    }
    // The row shows one date, but every date that an instance carries counts: studies that disagree are looked at, whatever they show.
    const range = [dates.from, dates.to, ...bounds];
    const inside = read('studies', `study_date >= ? AND study_date <= ? AND ${after}`, range);
    const outside = read(
      'studies INDEXED BY studies_conflict',
      `disagrees = 1 AND (conflicts > 0 OR disagrees > 0) AND NOT (study_date >= ? AND study_date <= ?) AND ${after}`,
      range,
    );
    let [left, right] = [inside.next(), outside.next()];
    while (!left.done || !right.done) {
      const first =
        !left.done && (right.done || comparePlaces(found(left.value).place, found(right.value).place, keys) <= 0);
      if (first) {
        yield found(left.value!);
        left = inside.next();
      } else {
        yield found(right.value!);
        right = outside.next();
      }
    }
  }
}

const RECORD_TAGS: ReadonlySet<number> = new Set([
  0x00080016, 0x00080018, 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
]);

const placeOfRow = (row: Record<string, unknown>, keys: readonly OrderKey[]): Place =>
  keys.map((_, n) => (row[`k${n}`] ?? '') as string | number);

function seriesPlace(series: SeriesEntity, key: OrderKey): string | number {
  if (key.tag === 0x0020000e) return series.uid;
  if (key.tag === 0x00200011) return numberPlace(series.row.series_number as string);
  return shownPlace(series, key.tag);
}

function instancePlace(instance: InstanceEntity, key: OrderKey): string | number {
  if (key.tag === 0x00080018) return instance.record.sopInstanceUid;
  if (key.tag === 0x00200013) return numberPlace(instance.record.instanceNumber);
  return shownPlace(instance, key.tag);
}

function shownPlace(entity: SeriesEntity | InstanceEntity, tag: number): string | number {
  const value = entity.shown(tag)?.Value?.[0];
  if (typeof value === 'number') return value;
  if (typeof value === 'string') return value;
  return value && typeof value === 'object' ? Object.values(value).join('=').toUpperCase() : '';
}
