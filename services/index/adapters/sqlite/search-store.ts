import type { SearchRow } from '#proto/index/v1/index.ts';
import type { EntryRecord, InstanceView } from '../../fold/types.ts';
import type { RowId } from '../../questions/reader.ts';
import { now, type Rows } from '../../questions/reading.ts';
import type { SeriesEntity } from '../../search/entities.ts';
import { type NarrowOptions, studyDates } from '../../search/lookups.ts';
import { comparePlaces, type OrderKey, type Place } from '../../search/order.ts';
import type { Question, Related, SearchStore, SeriesFields, StudyFields } from '../../search/source.ts';
import { rememberedAnswer } from './answers.ts';
import { narrow } from './narrow.ts';
import { orderBySql, patientSql, studySql } from './order-sql.ts';
import type { SqliteReader } from './reader.ts';
import { type Database, statement, tenantId } from './schema.ts';

type Row = Record<string, unknown>;
const placeOfRow = (row: Row, keys: readonly OrderKey[]): Place =>
  keys.map((_, n) => (row[`k${n}`] ?? '') as string | number);

/** What a search reads of one connection, one state from the first row to the last: whoever asks keeps a transaction open. */
export class SqliteSearchStore implements SearchStore {
  readonly #reader: SqliteReader;
  readonly #db: Database;

  constructor(reader: SqliteReader) {
    this.#reader = reader;
    this.#db = reader.db;
  }

  knows(tenant: string): boolean {
    return tenantId(this.#db, tenant) !== undefined;
  }
  remembered(question: Question): { rows: readonly SearchRow[] | undefined; keep(rows: SearchRow[]): void } {
    return rememberedAnswer(this.#db, question);
  }

  study(id: RowId): StudyFields {
    return statement(
      this.#db,
      'SELECT study_instance_uid, patient, first_order, series, instances, conflicts, disagrees, doc FROM studies WHERE id = ?',
    ).get(id) as unknown as StudyFields;
  }
  patient(id: RowId): { doc: string } {
    return statement(this.#db, 'SELECT doc FROM patients WHERE id = ?').get(id) as unknown as { doc: string };
  }
  series(study: RowId): SeriesFields[] {
    return statement(
      this.#db,
      'SELECT id, series_instance_uid, first_order, series_number, instances, conflicts, doc FROM series WHERE study = ? AND instances > 0',
    ).all(study) as unknown as SeriesFields[];
  }
  studiesOf(patient: RowId): RowId[] {
    return statement(this.#db, 'SELECT id FROM studies WHERE patient = ? AND instances > 0 ORDER BY first_order')
      .all(patient)
      .map((row) => row.id as number);
  }
  related(patient: RowId): Related {
    return statement(
      this.#db,
      'SELECT count(*) AS studies, coalesce(sum(series), 0) AS series, coalesce(sum(instances), 0) AS instances FROM studies WHERE patient = ? AND instances > 0',
    ).get(patient) as unknown as Related;
  }
  instances(series: SeriesEntity): InstanceView[] {
    return now(this.#reader.kept.views(this.#reader, this.#reader.seriesRow(series.id)!));
  }
  texts(series: SeriesEntity, records: readonly EntryRecord[]): Buffer[] {
    return now(this.#reader.kept.texts(this.#reader, this.#reader.seriesRow(series.id)!, records));
  }

  *patients(question: Question): Rows<{ id: RowId; place: Place }> {
    const { tenant, request, order } = question;
    const db = this.#db;
    const id = tenantId(db, tenant)!;
    const { ids } = narrow(db, tenant, id, request.match, narrowing(question));
    const where = ids ? 'id IN (SELECT patient FROM studies WHERE id IN (SELECT value FROM json_each(?)))' : 'true';
    const keys = order.rows;
    const expressions = keys.map((key) => patientSql(key, keys));
    const rows = db.prepare(
      `SELECT id, ${expressions.map((sql, n) => `${sql} AS k${n}`).join(', ')} FROM patients WHERE tenant = ? AND live = 1 AND ${where} ORDER BY ${orderBySql(expressions, keys)}`,
    );
    for (const row of rows.iterate(id, ...(ids ? [JSON.stringify(ids)] : [])))
      yield { id: row.id as number, place: placeOfRow(row, keys) };
  }

  /** Narrowed as far as an index can. */
  *studies(question: Question): Rows<{ id: RowId; place: Place }> {
    const { tenant, request, order, cursor, skip } = question;
    const db = this.#db;
    const id = tenantId(db, tenant)!;
    const keys = order.rows;
    const expressions = keys.map(studySql);
    const options = narrowing(question);
    const columns = expressions.map((sql, n) => `${sql} AS k${n}`).join(', ');
    const { ids, filters } = narrow(db, tenant, id, request.match, options);
    const read = (from: string, where: string, values: (string | number)[], first: string[] = []) =>
      db
        .prepare(
          `SELECT id, ${columns} FROM ${from} WHERE ${['tenant = ?', 'instances > 0', where, ...filters.map((one) => one.sql)].join(' AND ')}
           ORDER BY ${orderBySql(expressions, keys)} LIMIT -1 OFFSET ${skip}`,
        )
        .iterate(...first, id, ...values, ...filters.flatMap((one) => one.values)) as NodeJS.Iterator<Row>;
    const found = (row: Row) => ({ id: row.id as number, place: placeOfRow(row, keys) });

    const dates = studyDates(request.match, options);
    if (ids) {
      // CROSS JOIN: SQLite would rather read the whole list in its order than look up a few rows and sort them.
      const given = '(SELECT value FROM json_each(?)) CROSS JOIN studies ON studies.id = value';
      const where = dates ? '(disagrees = 1 OR study_date >= ? AND study_date <= ?)' : 'true';
      const range = dates ? [dates.from, dates.to] : [];
      for (const row of read(given, where, range, [JSON.stringify(ids)])) yield found(row);
      return;
    }
    const start = order.indexed && cursor ? String(cursor.row[0]) : undefined;
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

const narrowing = ({ request, limits }: Question): NarrowOptions => {
  const { fuzzy, emptyValueMatching, timezoneOffset } = request;
  return { fuzzy, emptyValueMatching, timezone: timezoneOffset !== '', lookupMax: limits.lookupMax };
};
