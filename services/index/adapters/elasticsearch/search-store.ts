import type { estypes } from '@elastic/elasticsearch';
import { hexOf, Tag } from '#dicom/tags.ts';
import type { EntryRecord, InstanceView } from '../../fold/types.ts';
import type { RowId, SeriesRow } from '../../questions/reader.ts';
import { type Reading, type Rows, waitFor } from '../../questions/reading.ts';
import type { InstanceEntity, PatientEntity, SeriesEntity, StudyEntity } from '../../search/entities.ts';
import { type OrderKey, PATIENT_KEY, type Place } from '../../search/order.ts';
import type { Ahead, Question, Related, SearchStore, SeriesFields, StudyFields } from '../../search/source.ts';
import { asked } from './client.ts';
import type { PatientSource, SeriesSource, StudySource } from './documents.ts';
import { documentsOf } from './documents-store.ts';
import { filtersOf } from './narrow.ts';
import type { ElasticReader } from './reader.ts';
import { patientId } from './schema.ts';

/** The first page is as long as most answers; whoever reads on reads long pages of one point in time. */
const FIRST_PAGE = 128;
const PAGE = 1_000;
const SKIP_PAGE = 10_000;
const KEEP_ALIVE = '1m';
/** Series of so many studies are read together, more each time. */
const SERIES_AHEAD_MAX = 64;

/** What only the fold reads of a series' document. */
const NOT_SHOWN = ['tail', 'variants', 'sops', 'blocks'];

/** What a row is made of: a tenth of a document. What is below it is read when it is asked for. */
const SHOWN = {
  studies: ['tenant', 'uid', 'patient', 'firstOrder', 'series', 'instances', 'conflicts', 'disagrees', 'doc'],
  patients: ['tenant', 'key', 'doc'],
};

interface Held {
  fields: StudyFields;
  tenant: string;
}

/** What a search reads of Elasticsearch. Candidates come page by page; what is below them is read for several at once. */
export class ElasticSearchStore implements SearchStore {
  readonly #reader: ElasticReader;
  readonly #studies = new Map<RowId, Held>();
  readonly #patients = new Map<RowId, { doc: string; key: string; tenant: string }>();
  readonly #series = new Map<RowId, SeriesFields[]>();
  readonly #rows = new Map<RowId, SeriesRow>();
  readonly #ofPatient = new Map<RowId, RowId[]>();
  readonly #related = new Map<RowId, Related>();
  readonly #views = new Map<RowId, InstanceView[]>();
  readonly #texts = new Map<RowId, Map<EntryRecord, Buffer>>();
  #seriesAhead = 1;

  constructor(reader: ElasticReader) {
    this.#reader = reader;
  }

  knows(): boolean {
    return true; // a tenant of whom nothing is stored has no documents
  }

  *studies(question: Question): Rows<{ id: RowId; place: Place }> {
    const filters = yield* filtersOf(this.#reader, question, 'studies');
    filters.push({ range: { instances: { gt: 0 } } });
    const fields = question.order.rows.map((key) => (key.tag === Tag.StudyInstanceUID ? 'uid' : `o${hexOf(key.tag)}`));
    for (const hit of this.#pages<StudySource>('studies', question, filters, fields)) {
      if (hit instanceof Promise) yield hit;
      else {
        this.#keepStudy(hit._id!, hit._source!);
        yield { id: hit._id!, place: placeOf(hit) };
      }
    }
  }

  *patients(question: Question): Rows<{ id: RowId; place: Place }> {
    const filters = yield* filtersOf(this.#reader, question, 'patients');
    filters.push({ term: { live: 1 } });
    const fields = question.order.rows.map((key) => (key.tag === PATIENT_KEY ? 'key' : `o${hexOf(key.tag)}`));
    for (const hit of this.#pages<PatientSource>('patients', question, filters, fields)) {
      if (hit instanceof Promise) yield hit;
      else {
        this.#patients.set(hit._id!, { doc: hit._source!.doc, key: hit._source!.key, tenant: hit._source!.tenant });
        yield { id: hit._id!, place: placeOf(hit) };
      }
    }
  }

  /** In the order of the rows, from behind the cursor on: with the row of the cursor itself where series or instances follow in it. */
  *#pages<T>(
    index: 'studies' | 'patients',
    question: Question,
    filter: estypes.QueryDslQueryContainer[],
    fields: readonly string[],
  ): Generator<Promise<unknown> | estypes.SearchHit<T>> {
    const { order, cursor, request, limits } = question;
    const sort = order.rows.map((key, n) => ({ [fields[n]!]: { order: direction(key) } }));
    const query = { bool: { filter } };
    let after = cursor?.row as estypes.SortResults | undefined;
    if (cursor?.series && cursor.row) yield* this.#cursorRow<T>(index, cursor.row, fields, sort, query);
    const wanted = Math.min(request.limit || limits.rowsMax, limits.rowsMax) + 1;
    let pit: string | undefined;
    let size = Math.min(PAGE, Math.max(FIRST_PAGE, wanted));
    let skip = question.skip;
    try {
      for (;;) {
        const skipping = skip > 0;
        const body: estypes.SearchRequest = {
          query,
          sort,
          size: skipping ? Math.min(skip, SKIP_PAGE) : size,
          track_total_hits: false,
          allow_partial_search_results: false,
          _source: skipping ? false : SHOWN[index],
          ...(after ? { search_after: after } : {}),
        };
        const { hits } = yield* waitFor(
          pit === undefined
            ? this.#reader.search<T>(index, body)
            : asked('searching', () =>
                this.#reader.documents.client.search<T>({ ...body, pit: { id: pit!, keep_alive: KEEP_ALIVE } }),
              ),
        );
        // Over a point in time a last key is added, which a cursor does not have.
        const found = hits.hits.map((hit) => ({ ...hit, sort: (hit.sort ?? []).slice(0, fields.length) }));
        if (skipping) skip -= found.length;
        else yield* found;
        if (found.length < body.size!) return;
        after = found.at(-1)!.sort;
        if (skipping) continue;
        size = PAGE;
        if (pit === undefined) {
          const opened = yield* waitFor(
            asked('opening a point in time', () =>
              this.#reader.documents.client.openPointInTime({
                index: this.#reader.documents.name(index),
                keep_alive: KEEP_ALIVE,
              }),
            ),
          );
          pit = opened.id;
        }
        if (pit !== undefined) after = [...found.at(-1)!.sort];
      }
    } finally {
      // Nobody waits for it: forgotten, it goes by itself.
      if (pit !== undefined) this.#reader.documents.client.closePointInTime({ id: pit }).catch(() => {});
    }
  }

  *#cursorRow<T>(
    index: 'studies' | 'patients',
    row: Place,
    fields: readonly string[],
    sort: estypes.SortCombinations[],
    query: estypes.QueryDslQueryContainer,
  ): Generator<Promise<unknown> | estypes.SearchHit<T>> {
    const uid = row.at(-1)!;
    const { hits } = yield* waitFor(
      this.#reader.search<T>(index, {
        query: { bool: { filter: [query, { term: { [fields.at(-1)!]: uid } }] } },
        _source: SHOWN[index],
        sort,
        size: 1,
      }),
    );
    const [hit] = hits.hits;
    // Where it stands elsewhere now, its time has come or will come.
    if (hit && JSON.stringify(hit.sort) === JSON.stringify(row)) yield hit;
  }

  #keepStudy(id: RowId, source: StudySource): void {
    const { tenant, uid, patient, firstOrder, series, instances, conflicts, disagrees, doc } = source;
    this.#studies.set(id, {
      tenant,
      fields: {
        study_instance_uid: uid,
        patient: patientId(tenant, patient),
        first_order: firstOrder,
        series,
        instances,
        conflicts,
        disagrees,
        doc,
      },
    });
  }

  study(id: RowId): StudyFields {
    return this.#studies.get(id)!.fields;
  }
  patient(id: RowId): { doc: string } {
    return this.#patients.get(id)!;
  }
  series(study: RowId): SeriesFields[] {
    return this.#series.get(study)!;
  }
  studiesOf(patient: RowId): RowId[] {
    return this.#ofPatient.get(patient)!;
  }
  related(patient: RowId): Related {
    return this.#related.get(patient)!;
  }
  instances(series: SeriesEntity): InstanceView[] {
    return this.#views.get(series.id)!;
  }
  texts(series: SeriesEntity, records: readonly EntryRecord[]): Buffer[] {
    const texts = this.#texts.get(series.id)!;
    return records.map((record) => texts.get(record)!);
  }

  readonly ahead: Ahead = {
    series: (study) => this.#readSeries(study),
    studiesOf: (patient) => this.#readStudiesOf(patient),
    related: (patient) => this.#readRelated(patient),
    instances: (series) => this.#readInstances(series),
    texts: (series, instances) => this.#readTexts(series, instances),
  };

  /** Of this study and of some that come behind it. */
  *#readSeries(study: StudyEntity): Reading<void> {
    if (this.#series.has(study.id)) return;
    const together: RowId[] = [study.id];
    let behind = false;
    for (const id of this.#studies.keys()) {
      if (together.length >= this.#seriesAhead) break;
      if (behind && !this.#series.has(id)) together.push(id);
      behind ||= id === study.id;
    }
    this.#seriesAhead = Math.min(SERIES_AHEAD_MAX, this.#seriesAhead * 4);
    const ids: RowId[] = [];
    for (const row of yield* this.#reader.seriesOf(together.map(String))) {
      this.#rows.set(row.id, row);
      ids.push(row.id);
    }
    const found: Map<string, SeriesSource> = new Map();
    for (let from = 0; from < ids.length; from += PAGE) {
      const { documents } = this.#reader;
      const some = ids.slice(from, from + PAGE).map(String);
      const docs = yield* waitFor(
        documentsOf<SeriesSource>(documents.client, documents.name('series'), some, NOT_SHOWN),
      );
      for (const doc of docs) found.set(doc._id, doc._source!);
    }
    for (const id of together) this.#series.set(id, []);
    for (const [id, source] of found) {
      if (source.instances === 0) continue;
      const row = this.#rows.get(id)!;
      this.#series.get(row.study)!.push({
        id,
        series_instance_uid: source.uid,
        first_order: source.firstOrder,
        series_number: source.number,
        instances: source.instances,
        conflicts: source.conflicts,
        doc: source.doc,
      });
    }
  }

  *#readStudiesOf(patient: PatientEntity): Reading<void> {
    if (this.#ofPatient.has(patient.id)) return;
    const { tenant, key } = this.#patients.get(patient.id)!;
    const hits = yield* waitFor(
      this.#reader.all<StudySource>('studies', {
        _source: SHOWN.studies,
        query: {
          bool: { filter: [{ term: { tenant } }, { term: { patient: key } }, { range: { instances: { gt: 0 } } }] },
        },
        sort: [{ firstOrder: 'asc' }, { uid: 'asc' }],
      }),
    );
    for (const hit of hits) this.#keepStudy(hit._id!, hit._source!);
    this.#ofPatient.set(
      patient.id,
      hits.map((hit) => hit._id!),
    );
  }

  *#readRelated(patient: RowId): Reading<void> {
    if (this.#related.has(patient)) return;
    const { source } = (yield* waitFor(this.#reader.documents.one<PatientSource>('patients', String(patient)))) ?? {};
    const none = { studies: 0, series: 0, instances: 0 };
    if (!source) return void this.#related.set(patient, none);
    const { tenant, key } = source;
    const { aggregations } = yield* waitFor(
      this.#reader.search<never>('studies', {
        size: 0,
        query: {
          bool: { filter: [{ term: { tenant } }, { term: { patient: key } }, { range: { instances: { gt: 0 } } }] },
        },
        aggs: {
          studies: { value_count: { field: 'instances' } },
          series: { sum: { field: 'series' } },
          instances: { sum: { field: 'instances' } },
        },
      }),
    );
    const of = (name: string): number => (aggregations?.[name] as { value?: number } | undefined)?.value ?? 0;
    this.#related.set(patient, { studies: of('studies'), series: of('series'), instances: of('instances') });
  }

  *#readInstances(series: SeriesEntity): Reading<void> {
    if (this.#views.has(series.id)) return;
    const row = this.#rows.get(series.id)!;
    this.#views.set(series.id, yield* this.#reader.kept.views(this.#reader, row));
  }

  *#readTexts(series: SeriesEntity, instances: readonly InstanceEntity[]): Reading<void> {
    let texts = this.#texts.get(series.id);
    if (!texts) this.#texts.set(series.id, (texts = new Map()));
    const records = instances.map((one) => one.record).filter((record) => !texts.has(record));
    if (records.length === 0) return;
    const read = yield* this.#reader.kept.texts(this.#reader, this.#rows.get(series.id)!, records);
    for (const [at, record] of records.entries()) texts.set(record, read[at]!);
  }
}

const direction = (key: OrderKey): 'asc' | 'desc' => (key.descending ? 'desc' : 'asc');
const placeOf = (hit: estypes.SearchHit<unknown>): Place => (hit.sort ?? []).map((one) => one as string | number);
