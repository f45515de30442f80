import type { CountsResponse } from '#proto/index/v1/index.ts';
import type { Correction, Merge } from '../../fold/correct.ts';
import type { EntryRecord, InstanceView, JsonAttributes, VersionPolicy } from '../../fold/types.ts';
import { type MetadataObject, withMetadataObject } from '../../metadata/object.ts';
import { MetadataReader } from '../../metadata/read.ts';
import { type Asked, sharedUids } from '../../questions/queries.ts';
import type { Reader, RowId, Scope, SeriesRow, StudyRow } from '../../questions/reader.ts';
import { type Reading, ready } from '../../questions/reading.ts';
import type { RecentHeads } from '../../state/heads.ts';
import { keyText } from '../../state/keys.ts';
import { decodeVariants } from '../../state/variants.ts';
import { correctionsOf, mergesOf } from './controls.ts';
import { type RecentRows, recentHeads } from './heads.ts';
import { instancesOf, policyOf, readBlocks, seriesOfSop } from './read.ts';
import { type Database, statement, tenantId } from './schema.ts';

const SERIES_ROW = `SELECT series.id, series.study, studies.tenant, study_instance_uid AS studyInstanceUid,
  series_instance_uid AS seriesInstanceUid, revision, metadata FROM series JOIN studies ON studies.id = series.study`;

/** By number where there is one, then by UID: the order in which a person would lay them out. */
const bySeries = `ORDER BY study_instance_uid, CASE WHEN series_number = '' THEN 1 ELSE 0 END, CAST(series_number AS REAL), series_instance_uid`;

const STUDY_ROW = `SELECT id, study_instance_uid AS studyInstanceUid, settled, hold, disagrees, conflicts,
  trash_instances AS trashInstances, trash_bytes AS trashBytes, doc FROM studies`;

/** What questions read of one connection: whoever asks keeps a transaction open, so that it is one state. */
export class SqliteReader implements Reader {
  readonly db: Database;
  readonly kept: MetadataReader;
  readonly #directory: string;

  constructor(db: Database, directory: string, kept: MetadataReader) {
    this.db = db;
    this.#directory = directory;
    this.kept = kept;
  }

  get asked(): Asked {
    return { reader: this, kept: this.kept };
  }
  get policy(): VersionPolicy {
    return policyOf(this.db);
  }

  #series(where: string, ...values: (string | number)[]): SeriesRow[] {
    return statement(this.db, `${SERIES_ROW} WHERE ${where} ${bySeries}`).all(...values) as unknown as SeriesRow[];
  }
  seriesRow(id: RowId): SeriesRow | undefined {
    return this.#series('series.id = ?', id)[0];
  }
  #studies(where: string, ...values: (string | number)[]): StudyRow[] {
    const rows = statement(this.db, `${STUDY_ROW} WHERE ${where}`).all(...values);
    return rows.map((row) => ({ ...row, hold: row.hold === 1, disagrees: row.disagrees === 1 }) as unknown as StudyRow);
  }

  seriesInScope(tenant: string, scope: Scope): Reading<SeriesRow[]> {
    return ready(this.#inScope(tenant, scope));
  }
  #inScope(tenantName: string, scope: Scope): SeriesRow[] {
    const tenant = tenantId(this.db, tenantName);
    if (tenant === undefined) return [];
    const { patientId = '' } = scope;
    const studies = new Set(scope.studyInstanceUids);
    const series = new Set(scope.seriesInstanceUids);
    const select = (where: string, value: RowId): SeriesRow[] =>
      this.#series(`studies.tenant = ? AND ${where}`, tenant, value);
    let rows: SeriesRow[];
    if (scope.sopInstanceUids.length > 0) {
      const candidates = new Set(
        scope.sopInstanceUids.flatMap((uid) => seriesOfSop(this.db, tenantName, uid).map((one) => one.series)),
      );
      rows = [...candidates].flatMap((id) => select('series.id = ?', id));
    } else if (studies.size > 0) rows = [...studies].flatMap((uid) => select('study_instance_uid = ?', uid));
    else if (series.size > 0) rows = [...series].flatMap((uid) => select('series_instance_uid = ?', uid));
    else rows = this.#studiesOfPatient(tenant, patientId).flatMap((study) => select('studies.id = ?', study));
    const ofPatient = patientId === '' ? undefined : new Set<RowId>(this.#studiesOfPatient(tenant, patientId));
    return rows
      .filter(
        (row) =>
          (studies.size === 0 || studies.has(row.studyInstanceUid)) &&
          (series.size === 0 || series.has(row.seriesInstanceUid)) &&
          (!ofPatient || ofPatient.has(row.study)),
      )
      .sort((a, b) => (a.studyInstanceUid < b.studyInstanceUid ? -1 : a.studyInstanceUid > b.studyInstanceUid ? 1 : 0));
  }

  /** Any live instance's Patient ID counts, as it does for matching. */
  #studiesOfPatient(tenant: number, patientId: string): number[] {
    return statement(this.db, 'SELECT study FROM study_keys WHERE tenant = ? AND tag = 0x00100020 AND value = ?')
      .all(tenant, keyText('LO', patientId))
      .map((row) => row.study as number);
  }

  seriesOfStudy(study: StudyRow): Reading<SeriesRow[]> {
    return ready(this.#series('series.study = ?', study.id));
  }

  studiesWith(what: 'trash' | 'conflict', tenant: string, studyInstanceUid: string): Reading<StudyRow[]> {
    const having = what === 'trash' ? 'trash_instances > 0' : '(conflicts > 0 OR disagrees > 0)';
    return ready(
      this.#studies(
        `tenant = ? AND ${having} AND (? = '' OR study_instance_uid = ?) ORDER BY id`,
        tenantId(this.db, tenant) ?? -1,
        studyInstanceUid,
        studyInstanceUid,
      ),
    );
  }

  compactable(tenant: string, limit: number): Reading<StudyRow[]> {
    const where = 'tenant = ? AND compactable > 0 AND settled > 0 ORDER BY changed_ms LIMIT ?';
    return ready(this.#studies(where, tenantId(this.db, tenant) ?? -1, limit));
  }

  study(tenant: string, studyInstanceUid: string): Reading<StudyRow | undefined> {
    return ready(
      this.#studies('tenant = ? AND study_instance_uid = ?', tenantId(this.db, tenant) ?? -1, studyInstanceUid)[0],
    );
  }

  deletion(tenant: string, study: StudyRow, order: string): Reading<{ actor?: string; reason?: string }> {
    const row = statement(
      this.db,
      `SELECT body FROM controls WHERE tenant = ? AND kind = 'delete' AND study_instance_uid = ? AND sort = ?`,
    ).get(tenantId(this.db, tenant) ?? -1, study.studyInstanceUid, order);
    return ready(row ? (JSON.parse(row.body as string) as { actor?: string; reason?: string }) : {});
  }

  sharedSops(tenant: string): Reading<{ hash: number; series: SeriesRow[] }[]> {
    const id = tenantId(this.db, tenant) ?? -1;
    return ready(
      statement(this.db, 'SELECT hash FROM shared_sops WHERE tenant = ? ORDER BY hash')
        .all(id)
        .map((row) => ({
          hash: row.hash as number,
          series: this.#series(
            'studies.tenant = ? AND series.id IN (SELECT series FROM sops WHERE hash = ?)',
            id,
            row.hash as number,
          ),
        })),
    );
  }

  *counts(tenant: string): Reading<Omit<CountsResponse, 'lagCommits' | 'alarms'>> {
    const id = tenantId(this.db, tenant) ?? -1;
    const totals = statement(this.db, 'SELECT * FROM totals WHERE tenant = ?').get(id);
    const shared = (yield* sharedUids(this.asked, tenant)).length;
    const of = (column: string): number => (totals?.[column] as number | undefined) ?? 0;
    return {
      patients: statement(this.db, 'SELECT count(*) AS n FROM patients WHERE tenant = ?').get(id)!.n as number,
      studies: of('studies'),
      series: of('series'),
      instances: of('instances'),
      bytes: of('bytes'),
      inTrash: of('trash_instances'),
      conflicts: of('conflicts') + of('disagrees') + shared,
      positions: statement(this.db, 'SELECT lane, sequence FROM positions WHERE tenant = ? ORDER BY lane')
        .all(id)
        .map((row) => ({ lane: row.lane as string, sequence: row.sequence as number })),
    };
  }

  records(series: SeriesRow): Reading<EntryRecord[]> {
    return ready(readBlocks(this.db, series.id as number));
  }
  views(series: SeriesRow): Reading<InstanceView[]> {
    return ready(instancesOf(this.db, series.id as number));
  }
  rawVariants(series: SeriesRow): Reading<JsonAttributes[]> {
    const row = statement(this.db, 'SELECT variants FROM series WHERE id = ?').get(series.id);
    return ready(decodeVariants(row!.variants as Uint8Array).raw);
  }
  corrections(series: SeriesRow): Reading<Correction[]> {
    return ready(correctionsOf(this.db, series.tenant as number, series.studyInstanceUid));
  }
  merges(series: SeriesRow): Reading<Map<string, Merge>> {
    return ready(mergesOf(this.db, series.tenant as number));
  }
  /** Revisions count from one in each file: an ETag of the one before must not hold in the next. */
  stateOfMerges(): Reading<string> {
    const merges = statement(
      this.db,
      `SELECT count(*) AS n, max(sort) AS last FROM controls WHERE kind = 'identity'`,
    ).get();
    const created = statement(this.db, `SELECT value FROM meta WHERE key = 'created'`).get()?.value;
    return ready(JSON.stringify([merges, created]));
  }

  metadataObject<T>(series: SeriesRow, use: (object: MetadataObject) => T): Reading<T | undefined> {
    try {
      return ready(withMetadataObject(this.#directory, series.metadata, use));
    } catch {
      return ready(undefined); // damaged: its headers are looked for elsewhere, and the next settling writes it again
    }
  }
  recentHeads(series: SeriesRow, _records: readonly EntryRecord[], before?: RecentHeads): Reading<RecentRows> {
    return ready(recentHeads(this.db, series.id as number, before as RecentRows | undefined));
  }
}

const readers = new WeakMap<Database, SqliteReader>();
/** A connection's own reader; all connections of a thread know the same metadata. */
export function bindReader(db: Database, directory: string, kept = new MetadataReader(64 * 2 ** 20)): SqliteReader {
  const reader = new SqliteReader(db, directory, kept);
  readers.set(db, reader);
  return reader;
}
export function readerOf(db: Database): SqliteReader {
  const reader = readers.get(db);
  if (!reader) throw new Error('a connection without a reader');
  return reader;
}
