import type { estypes } from '@elastic/elasticsearch';
import { hexOf, Tag } from '#dicom/tags.ts';
import type { CountsResponse } from '#proto/index/v1/index.ts';
import type { EntryId } from '#proto/storage/v1/log.ts';
import type { Correction, Merge } from '../../fold/correct.ts';
import { compareInstances, viewSeries } from '../../fold/instance.ts';
import { idKey } from '../../fold/order.ts';
import type { EntryRecord, InstanceView, JsonAttributes, VersionPolicy } from '../../fold/types.ts';
import { MetadataObject } from '../../metadata/object.ts';
import type { MetadataReader } from '../../metadata/read.ts';
import { type Asked, sharedUids } from '../../questions/queries.ts';
import type { Reader, Scope, SeriesRow, StudyRow } from '../../questions/reader.ts';
import { type Reading, waitFor } from '../../questions/reading.ts';
import { numberPlace } from '../../search/order.ts';
import type { RecentHeads } from '../../state/heads.ts';
import { keyText } from '../../state/keys.ts';
import { sopHash } from '../../state/sop-hash.ts';
import { asked } from './client.ts';
import { correctionsIn, type StudySource, type StudyState } from './documents.ts';
import { type Documents, documentsOf, type Found } from './documents-store.ts';
import type { HeadsCache } from './heads-cache.ts';
import { mergesIn } from './merges.ts';
import { Positions } from './positions.ts';
import { cut, type IndexName, seriesId, studyId } from './schema.ts';
import { type ElasticSeries, loadSeries } from './series.ts';

/** Rows of one search request. */
const PAGE = 1_000;

/** What questions read of one generation. What is asked by UID is real-time; what is looked for is as fresh as the last refresh. */
export class ElasticReader implements Reader {
  readonly policy: VersionPolicy;
  readonly documents: Documents;
  readonly kept: MetadataReader;
  readonly #heads: HeadsCache;
  readonly #metadata: string;
  readonly #readHeads: (tenant: string, entries: EntryId[]) => Promise<void>;
  /** Of this one question: a series is read once. */
  readonly #series = new Map<string, ElasticSeries>();
  readonly #states = new Map<string, StudyState>();
  #merges: { tenant: string; last: Map<string, Merge>; version: string } | undefined;

  constructor(parts: {
    documents: Documents;
    policy: VersionPolicy;
    kept: MetadataReader;
    heads: HeadsCache;
    metadata: string;
    readHeads: (tenant: string, entries: EntryId[]) => Promise<void>;
  }) {
    this.documents = parts.documents;
    this.policy = parts.policy;
    this.kept = parts.kept;
    this.#heads = parts.heads;
    this.#metadata = parts.metadata;
    this.#readHeads = parts.readHeads;
  }
  get asked(): Asked {
    return { reader: this, kept: this.kept };
  }

  async search<T>(index: IndexName | IndexName[], body: estypes.SearchRequest): Promise<estypes.SearchResponse<T>> {
    const names = [index].flat().map((one) => this.documents.name(one));
    return asked('searching', () =>
      this.documents.client.search<T>({
        index: names,
        track_total_hits: false,
        allow_partial_search_results: false,
        ...body,
      }),
    );
  }

  /** Everything that a query finds, page by page, in the order of `sort`, which must be total. */
  async all<T>(index: IndexName, body: estypes.SearchRequest): Promise<estypes.SearchHit<T>[]> {
    const found: estypes.SearchHit<T>[] = [];
    for (;;) {
      const after = found.at(-1)?.sort;
      const { hits } = await this.search<T>(index, { size: PAGE, ...body, ...(after ? { search_after: after } : {}) });
      found.push(...hits.hits);
      if (hits.hits.length < PAGE) return found;
    }
  }

  state(id: string, found: { source: StudySource }): StudyState {
    let state = this.#states.get(id);
    if (!state) this.#states.set(id, (state = JSON.parse(found.source.state) as StudyState));
    return state;
  }

  #rows(id: string, found: Found<StudySource>): SeriesRow[] {
    const { tenant, uid } = found.source;
    return Object.entries(this.state(id, found).series)
      .map(([seriesInstanceUid, summary]) => ({
        place: numberPlace(summary.number),
        row: {
          id: seriesId(tenant, uid, seriesInstanceUid),
          study: id,
          tenant,
          studyInstanceUid: uid,
          seriesInstanceUid,
          revision: summary.revision,
          metadata: summary.metadata,
        },
      }))
      .sort((a, b) =>
        a.place !== b.place ? a.place - b.place : a.row.seriesInstanceUid < b.row.seriesInstanceUid ? -1 : 1,
      )
      .map((one) => one.row);
  }

  *studies(ids: Iterable<string>): Reading<Map<string, Found<StudySource>>> {
    return yield* waitFor(this.documents.get<StudySource>('studies', ids));
  }

  /** The series of these studies, as they are now. */
  *seriesOf(ids: readonly string[]): Reading<SeriesRow[]> {
    return [...(yield* this.studies(ids))].flatMap(([id, found]) => this.#rows(id, found));
  }

  async #studyIdsWhere(tenant: string, filter: estypes.QueryDslQueryContainer): Promise<string[]> {
    const hits = await this.all('studies', {
      _source: false,
      query: { bool: { filter: [{ term: { tenant } }, filter] } },
      sort: [{ uid: 'asc' }],
    });
    return hits.map((hit) => hit._id!);
  }

  /** Candidates: series with one of these SOP instances, or one whose UID has the same 48 bits. */
  async seriesOfSops(tenant: string, hashes: readonly number[]): Promise<{ study: string; series: string }[]> {
    const places = new Map<string, { study: string; series: string }>();
    for (let from = 0; from < hashes.length; from += PAGE) {
      const { hits } = await this.search<{ study: string; series?: string; uid?: string }>(['series', 'blocks'], {
        size: 10_000,
        _source: ['study', 'series', 'uid'],
        query: { bool: { filter: [{ term: { tenant } }, { terms: { sops: hashes.slice(from, from + PAGE) } }] } },
      });
      for (const { _source } of hits.hits) {
        const place = { study: _source!.study, series: _source!.series ?? _source!.uid! };
        places.set(`${place.study}\u0000${place.series}`, place);
      }
    }
    return [...places.values()];
  }
  async studiesOfSeries(tenant: string, uids: readonly string[]): Promise<string[]> {
    const { hits } = await this.search<{ study: string }>('series', {
      size: 10_000,
      _source: ['study'],
      query: { bool: { filter: [{ term: { tenant } }, { terms: { uid: [...uids] } }] } },
    });
    return [...new Set(hits.hits.map((hit) => hit._source!.study))];
  }
  studiesOfPatientId(tenant: string, patientId: string): Promise<string[]> {
    return this.#studyIdsWhere(tenant, { term: { [`k${hexOf(Tag.PatientID)}`]: cut(keyText('LO', patientId)) } });
  }

  *seriesInScope(tenant: string, scope: Scope): Reading<SeriesRow[]> {
    const { patientId = '' } = scope;
    const studies = new Set(scope.studyInstanceUids);
    const series = new Set(scope.seriesInstanceUids);
    let ids: string[];
    let holding: Set<string> | undefined;
    const ofPatient =
      patientId === '' ? undefined : new Set(yield* waitFor(this.studiesOfPatientId(tenant, patientId)));
    if (studies.size > 0) ids = [...studies].map((uid) => studyId(tenant, uid));
    else if (series.size > 0)
      ids = (yield* waitFor(this.studiesOfSeries(tenant, [...series]))).map((uid) => studyId(tenant, uid));
    else if (scope.sopInstanceUids.length > 0) {
      const hashes = scope.sopInstanceUids.map((uid) => sopHash(tenant, uid));
      const places = yield* waitFor(this.seriesOfSops(tenant, hashes));
      ids = places.map((one) => studyId(tenant, one.study));
      holding = new Set(places.map((one) => seriesId(tenant, one.study, one.series)));
    } else ids = [...ofPatient!];
    const found = [...(yield* this.studies(ids))]
      .filter(([id]) => !ofPatient || ofPatient.has(id))
      .sort((a, b) => (a[1].source.uid < b[1].source.uid ? -1 : 1));
    return found
      .flatMap(([id, one]) => this.#rows(id, one))
      .filter(
        (row) => (series.size === 0 || series.has(row.seriesInstanceUid)) && (!holding || holding.has(String(row.id))),
      );
  }

  *seriesOfStudy(study: StudyRow): Reading<SeriesRow[]> {
    return yield* this.seriesOf([String(study.id)]);
  }

  #studyRow = (id: string, source: StudySource): StudyRow => ({
    id,
    studyInstanceUid: source.uid,
    settled: source.settled,
    hold: source.hold,
    disagrees: source.disagrees > 0,
    conflicts: source.conflicts,
    trashInstances: source.trashInstances,
    trashBytes: source.trashBytes,
    doc: source.doc,
  });

  *studiesWith(what: 'trash' | 'conflict', tenant: string, studyInstanceUid: string): Reading<StudyRow[]> {
    const having = (source: StudySource): boolean =>
      what === 'trash' ? source.trashInstances > 0 : source.conflicts > 0 || source.disagrees > 0;
    if (studyInstanceUid !== '') {
      const id = studyId(tenant, studyInstanceUid);
      const found = (yield* this.studies([id])).get(id);
      return found && having(found.source) ? [this.#studyRow(id, found.source)] : [];
    }
    const filter: estypes.QueryDslQueryContainer =
      what === 'trash'
        ? { range: { trashInstances: { gt: 0 } } }
        : { bool: { should: [{ range: { conflicts: { gt: 0 } } }, { range: { disagrees: { gt: 0 } } }] } };
    yield* waitFor(this.documents.refresh('studies'));
    const hits = yield* waitFor(
      this.all<StudySource>('studies', {
        query: { bool: { filter: [{ term: { tenant } }, filter] } },
        sort: [{ uid: 'asc' }],
      }),
    );
    return hits.map((hit) => this.#studyRow(hit._id!, hit._source!));
  }

  *compactable(tenant: string, limit: number): Reading<StudyRow[]> {
    yield* waitFor(this.documents.refresh('studies'));
    const { hits } = yield* waitFor(
      this.search<StudySource>('studies', {
        size: Math.min(limit, PAGE),
        query: {
          bool: {
            filter: [{ term: { tenant } }, { range: { compactable: { gt: 0 } } }, { range: { settled: { gt: 0 } } }],
          },
        },
        sort: [{ changedMs: 'asc' }],
      }),
    );
    return hits.hits.map((hit) => this.#studyRow(hit._id!, hit._source!));
  }

  *study(tenant: string, studyInstanceUid: string): Reading<StudyRow | undefined> {
    const id = studyId(tenant, studyInstanceUid);
    const found = (yield* this.studies([id])).get(id);
    return found && Object.keys(this.state(id, found).series).length > 0 ? this.#studyRow(id, found.source) : undefined;
  }

  *deletion(_tenant: string, study: StudyRow, order: string): Reading<{ actor?: string; reason?: string }> {
    const state = yield* this.#stateOf(String(study.id));
    const kept = state?.controls.find((one) => one.kind === 'delete' && one.sort === order);
    return (kept?.body ?? {}) as { actor?: string; reason?: string };
  }

  *#stateOf(id: string): Reading<StudyState | undefined> {
    const known = this.#states.get(id);
    if (known) return known;
    const found = (yield* this.studies([id])).get(id);
    return found && this.state(id, found);
  }

  *sharedSops(tenant: string): Reading<{ hash: number; series: SeriesRow[] }[]> {
    const { hits } = yield* waitFor(
      this.search<{ body: string }>('state', {
        size: 10_000,
        query: { bool: { filter: [{ term: { tenant } }, { term: { kind: 'shared' } }] } },
      }),
    );
    const shared: { hash: number; series: SeriesRow[] }[] = [];
    for (const hit of hits.hits) {
      const hash = Number(hit._source!.body);
      const places = yield* waitFor(this.seriesOfSops(tenant, [hash]));
      const holding = new Set(places.map((one) => seriesId(tenant, one.study, one.series)));
      const found = yield* this.studies(places.map((one) => studyId(tenant, one.study)));
      const rows = [...found].flatMap(([id, one]) => this.#rows(id, one)).filter((row) => holding.has(String(row.id)));
      shared.push({ hash, series: rows.sort((a, b) => (a.studyInstanceUid < b.studyInstanceUid ? -1 : 1)) });
    }
    return shared.sort((a, b) => a.hash - b.hash);
  }

  *counts(tenant: string): Reading<Omit<CountsResponse, 'lagCommits' | 'alarms'>> {
    yield* waitFor(this.documents.refresh('studies', 'patients', 'state'));
    const sum = (field: string) => ({ sum: { field } });
    const { aggregations } = yield* waitFor(
      this.search<never>('studies', {
        size: 0,
        query: { bool: { filter: [{ term: { tenant } }] } },
        aggs: {
          live: { filter: { range: { instances: { gt: 0 } } } },
          series: sum('series'),
          instances: sum('instances'),
          bytes: sum('bytes'),
          trash: sum('trashInstances'),
          conflicts: sum('conflicts'),
          disagrees: sum('disagrees'),
        },
      }),
    );
    const patients = yield* waitFor(
      asked('counting patients', () =>
        this.documents.client.count({
          index: this.documents.name('patients'),
          query: { bool: { filter: [{ term: { tenant } }, { term: { live: 1 } }] } },
        }),
      ),
    );
    const positions = yield* waitFor(new Positions(this.documents).of(tenant));
    const shared = (yield* sharedUids(this.asked, tenant)).length;
    const of = (name: string): number => (aggregations?.[name] as { value?: number } | undefined)?.value ?? 0;
    return {
      patients: patients.count,
      studies: (aggregations?.live as { doc_count?: number } | undefined)?.doc_count ?? 0,
      series: of('series'),
      instances: of('instances'),
      bytes: of('bytes'),
      inTrash: of('trash'),
      conflicts: of('conflicts') + of('disagrees') + shared,
      positions: [...positions].sort(([a], [b]) => (a < b ? -1 : 1)).map(([lane, sequence]) => ({ lane, sequence })),
    };
  }

  *#load(ids: readonly string[]): Reading<void> {
    const lacking = ids.filter((id) => !this.#series.has(id));
    if (lacking.length === 0) return;
    for (const [id, one] of yield* waitFor(loadSeries(this.documents, lacking))) this.#series.set(id, one);
  }

  *records(series: SeriesRow): Reading<EntryRecord[]> {
    yield* this.#load([String(series.id)]);
    return this.#series.get(String(series.id))?.records() ?? [];
  }

  *views(series: SeriesRow): Reading<InstanceView[]> {
    const views = viewSeries(yield* this.records(series), this.policy);
    return views.sort((a, b) =>
      a.shown && b.shown
        ? compareInstances(a.shown, b.shown)
        : a.shown
          ? -1
          : b.shown
            ? 1
            : a.sopInstanceUid < b.sopInstanceUid
              ? -1
              : 1,
    );
  }

  *rawVariants(series: SeriesRow): Reading<JsonAttributes[]> {
    yield* this.#load([String(series.id)]);
    return this.#series.get(String(series.id))?.raw ?? [];
  }

  *corrections(series: SeriesRow): Reading<Correction[]> {
    const state = yield* this.#stateOf(String(series.study));
    return state ? correctionsIn(state) : [];
  }

  *#mergesOf(tenant: string): Reading<{ last: Map<string, Merge>; version: string }> {
    if (this.#merges?.tenant === tenant) return this.#merges;
    const found = yield* waitFor(this.documents.one<{ body: string }>('state', `merges/${tenant}`));
    this.#merges = {
      tenant,
      last: found ? mergesIn(found.source.body) : new Map(),
      version: found ? `${found.at.term}/${found.at.seqNo}` : '',
    };
    return this.#merges;
  }
  *merges(series: SeriesRow): Reading<Map<string, Merge>> {
    return (yield* this.#mergesOf(String(series.tenant))).last;
  }
  *stateOfMerges(tenant: string): Reading<string> {
    return `${(yield* this.#mergesOf(tenant)).version} ${this.documents.generation}`;
  }

  *metadataObject<T>(series: SeriesRow, use: (object: MetadataObject) => T): Reading<T | undefined> {
    const [name = '', count = '0'] = series.metadata.split('#');
    const ids = Array.from({ length: Number(count) }, (_, n) => `${name}/${n}`);
    const docs = yield* waitFor(documentsOf<{ data: string }>(this.documents.client, this.#metadata, ids));
    const pieces = new Map(docs.map((doc) => [doc._id, doc._source!.data]));
    try {
      const data = Buffer.concat(ids.map((id) => Buffer.from(pieces.get(id) ?? '', 'base64')));
      return use(new MetadataObject((offset, length) => data.subarray(offset, offset + length), data.length));
    } catch {
      return undefined; // lost or damaged: its headers are read from the log, and the next settling writes it again
    }
  }

  *recentHeads(series: SeriesRow, records: readonly EntryRecord[], before?: RecentHeads): Reading<RecentHeads> {
    const recent: RecentHeads = before ?? { heads: new Map(), bytes: 0 };
    const tenant = String(series.tenant);
    const take = (): EntryId[] => {
      const lacking = records.map((one) => one.id).filter((id) => !recent.heads.has(idKey(id)));
      this.#heads.take(tenant, lacking, (id, header) => {
        recent.heads.set(idKey(id), header);
        recent.bytes += header.head.length;
      });
      return lacking.filter((id) => !recent.heads.has(idKey(id)));
    };
    // A cache holds only so many: in portions, what was read is taken before it goes.
    for (let lacking = take(), before = Infinity; lacking.length > 0 && lacking.length < before; ) {
      before = lacking.length;
      yield* waitFor(this.#readHeads(tenant, lacking.slice(0, HEADS_AT_ONCE)));
      lacking = take();
    }
    return recent;
  }
}
const HEADS_AT_ONCE = 512;
