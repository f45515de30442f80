import { GantryError } from '#platform/errors.ts';
import type { SearchRequest, SearchRow } from '#proto/index/v1/index.ts';
import type { Reading, Rows } from '../questions/reading.ts';
import { type InstanceEntity, PatientEntity, type SeriesEntity, StudyEntity } from './entities.ts';
import { joined } from './joined.ts';
import { DEPTH, homeOf, NEVER_MATCHED, type SearchLevel } from './levels.ts';
import { type Condition, compileKeys } from './match.ts';
import {
  type Cursor,
  comparePlaces,
  decodeCursor,
  encodeCursor,
  numberPlace,
  type OrderKey,
  orderOf,
  type Place,
} from './order.ts';
import { prepareRow, rememberedRow } from './remember.ts';
import { RowBuilder, type RowEntity } from './rows.ts';
import { SEARCH_LIMITS, type SearchLimits } from './settings.ts';
import { Budget, type Question, type SearchStore, type Source } from './source.ts';

/**
 * One question, answered from one committed state of the index. The walk goes from studies down: a study is looked into only when its
 * own keys match, a series only when its own do. At every level a key of a level below asks whether there is such an entity
 * (a study with a series of this modality), one of a level above whose it is (relational queries, PS3.4 C.4.1.2.2.2).
 *
 * Now and then it yields `undefined`: nothing was found for a while, and the thread may serve others or hear of a cancellation.
 */
export function* runSearch(
  store: SearchStore,
  tenant: string,
  request: SearchRequest,
  limits: SearchLimits = SEARCH_LIMITS,
): Rows<SearchRow> {
  const level = levelOf(request.level);
  const order = orderOf(request, level);
  const cursor = decodeCursor(order, request.cursor);
  const question: Question = { tenant, request, order, cursor, limits, skip: 0 };
  const walk = new Walk(question, level);
  if (!store.knows(tenant)) return;
  const kept = store.remembered?.(question);
  if (kept?.rows) {
    yield* kept.rows;
    return;
  }
  const rows: SearchRow[] = [];
  let count = 0;
  const given = page(walk, { store, budget: new Budget(limits) });
  for (const row of request.joined ? joined(given) : given) {
    if (kept && row && !(row instanceof Promise)) {
      count += Math.max(1, row.rows);
      if (count < REMEMBERED_ROWS_MAX) rows.push(row);
      else rows.length = 0; // not kept, so not held either
    }
    yield row;
  }
  if (count < REMEMBERED_ROWS_MAX) kept?.keep(rows);
}

/** Cuts the page, and says on its last row whether there is more. */
function* page(walk: Walk, source: Source): Rows<SearchRow> {
  const { question, level } = walk;
  const { request, limits, order } = question;
  const limit = Math.min(request.limit || limits.rowsMax, limits.rowsMax);
  const builder = new RowBuilder(request, level);
  // A list of studies without conditions is skipped in the index itself.
  const skippedByStore = level === 'STUDY' && walk.conditions.length === 0 && !question.cursor;
  if (skippedByStore) question.skip = request.offset;
  const hits = walk.hits(source);
  const isHit = (value: Hit | Promise<unknown> | undefined): value is Hit =>
    value !== undefined && !(value instanceof Promise);
  try {
    let next = hits.next();
    let skip = skippedByStore ? 0 : request.offset;
    while (!next.done && (skip > 0 || !isHit(next.value))) {
      if (isHit(next.value)) skip--;
      else yield* passOn(next.value);
      next = hits.next();
    }
    for (let taken = 1; !next.done; taken++) {
      const { entity, cursor } = next.value as Hit;
      const last = taken === limit;
      let more = false;
      yield* prepareRow(builder, entity);
      const dataSetJson = rememberedRow(builder, entity);
      try {
        for (next = hits.next(); !next.done && !isHit(next.value); next = hits.next()) yield* passOn(next.value);
        more = last && !next.done;
      } catch (error) {
        // The page is full; that looking for a row behind it would cost too much does not take it away.
        if (!last || !(error instanceof GantryError && error.code === 'too-broad')) throw error;
        more = true;
      }
      yield { dataSetJson, cursor: encodeCursor(order, cursor), conflict: entity.conflict, more, rows: 0 };
      if (last) return;
    }
  } finally {
    hits.return(undefined); // closes the statements that it reads from
  }
}

function* passOn(value: Promise<unknown> | undefined): Generator<Promise<unknown> | undefined> {
  yield value;
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
  readonly question: Question;
  readonly level: SearchLevel;
  readonly conditions: readonly Condition[];
  readonly #at: Record<SearchLevel, Condition[]> = { PATIENT: [], STUDY: [], SERIES: [], IMAGE: [] };
  readonly #instancesNeedHeaders: boolean;

  constructor(question: Question, level: SearchLevel) {
    this.question = question;
    this.level = level;
    const { request } = question;
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

  hits(source: Source): Rows<Hit> {
    return this.level === 'PATIENT' ? this.#patients(source) : this.#belowPatients(source);
  }

  #holds(level: SearchLevel, entity: { attributes(tag: number): readonly object[] }): boolean {
    return this.#at[level].every((condition) => condition.test(entity));
  }

  *#belowPatients(source: Source): Rows<Hit> {
    const { level } = this;
    const { cursor, order } = this.question;
    let looked = 0;
    for (const candidate of source.store.studies(this.question)) {
      if (candidate === undefined || candidate instanceof Promise) {
        yield candidate;
        continue;
      }
      const { id, place } = candidate;
      if (++looked % PAUSE === 0) yield undefined;
      const where = cursor ? comparePlaces(place, cursor.row, order.rows) : 1;
      if (where < 0 || (where === 0 && !cursor?.series)) continue;
      const study = new StudyEntity(source, id);
      if (this.conditions.length > 0) {
        source.budget.study();
        if (!this.#holds('PATIENT', study) || !this.#holds('STUDY', study)) continue;
      }
      if (level === 'STUDY') {
        if (yield* this.#hasSeries(study)) yield { entity: study, cursor: { row: place } };
      } else yield* this.#series(study, place, where === 0 ? cursor : undefined);
    }
  }

  *#series(study: StudyEntity, row: Place, cursor: Cursor | undefined): Rows<Hit> {
    const { order } = this.question;
    const { ahead } = study.source.store;
    if (ahead) yield* ahead.series(study);
    for (const { entity, place } of sorted(study.series(), order.series, seriesPlace)) {
      const where = cursor?.series ? comparePlaces(place, cursor.series, order.series) : 1;
      if (where < 0 || (where === 0 && !cursor?.instance)) continue;
      if (!this.#holds('SERIES', entity)) continue;
      if (this.level === 'IMAGE')
        yield* this.#instances(entity, row, place, where === 0 ? cursor?.instance : undefined);
      else if (this.#at.IMAGE.length === 0 || (yield* this.#matching(entity)).length > 0)
        yield { entity, cursor: { row, series: place } };
    }
  }

  *#instances(series: SeriesEntity, row: Place, seriesAt: Place, after: Place | undefined): Rows<Hit> {
    const keys = this.question.order.instances;
    const placed = [...sorted(yield* this.#matching(series), keys, instancePlace)].filter(
      ({ place }) => !after || comparePlaces(place, after, keys) > 0,
    );
    series.readTogether(placed.map((one) => one.entity));
    for (const { entity, place } of placed) yield { entity, cursor: { row, series: seriesAt, instance: place } };
  }

  *#matching(series: SeriesEntity): Reading<InstanceEntity[]> {
    const { ahead } = series.source.store;
    if (ahead) yield* ahead.instances(series);
    const instances = series.instances();
    if (this.#at.IMAGE.length === 0) return instances;
    if (this.#instancesNeedHeaders)
      for (const some of series.portions(instances)) {
        if (ahead) yield* ahead.texts(series, some);
        series.readHeaders(some);
      }
    return instances.filter((one) => this.#holds('IMAGE', one));
  }

  /** A study with a series that meets the keys of its level, and in it an instance that meets those of its own. */
  *#hasSeries(study: StudyEntity): Reading<boolean> {
    if (this.#at.SERIES.length === 0 && this.#at.IMAGE.length === 0) return true;
    const { ahead } = study.source.store;
    if (ahead) yield* ahead.series(study);
    for (const series of study.series())
      if (this.#holds('SERIES', series) && (this.#at.IMAGE.length === 0 || (yield* this.#matching(series)).length > 0))
        return true;
    return false;
  }

  *#patients(source: Source): Rows<Hit> {
    const { cursor, order } = this.question;
    let looked = 0;
    for (const candidate of source.store.patients(this.question)) {
      if (candidate === undefined || candidate instanceof Promise) {
        yield candidate;
        continue;
      }
      const { id, place } = candidate;
      if (++looked % PAUSE === 0) yield undefined;
      if (cursor && comparePlaces(place, cursor.row, order.rows) <= 0) continue;
      const entity = new PatientEntity(source, id);
      if (this.conditions.length > 0 && !(yield* this.#patientMatches(entity, source))) continue;
      yield { entity, cursor: { row: place } };
    }
  }

  *#patientMatches(patient: PatientEntity, source: Source): Reading<boolean> {
    source.budget.study();
    const own = this.#holds('PATIENT', patient);
    if (!own && patient.doc.partial !== true) return false;
    if (own && this.conditions.length === this.#at.PATIENT.length) return true;
    if (source.store.ahead) yield* source.store.ahead.studiesOf(patient);
    for (const study of patient.studies()) {
      source.budget.study();
      if (!(own || this.#holds('PATIENT', study)) || !this.#holds('STUDY', study)) continue;
      if (yield* this.#hasSeries(study)) return true;
    }
    return false;
  }
}

function* sorted<E>(
  entities: Iterable<E>,
  keys: readonly OrderKey[],
  placeOf: (entity: E, key: OrderKey) => string | number,
): Generator<{ entity: E; place: Place }> {
  const placed = Array.from(entities, (entity) => ({ entity, place: keys.map((key) => placeOf(entity, key)) }));
  yield* placed.sort((a, b) => comparePlaces(a.place, b.place, keys));
}

const RECORD_TAGS: ReadonlySet<number> = new Set([
  0x00080016, 0x00080018, 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
]);

function seriesPlace(series: SeriesEntity, key: OrderKey): string | number {
  if (key.tag === 0x0020000e) return series.uid;
  if (key.tag === 0x00200011) return numberPlace(series.row.series_number);
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
