import type { DatabaseSync } from 'node:sqlite';
import { GantryError } from '#platform/errors.ts';
import type {
  ConflictRow,
  CountsResponse,
  EntriesRequest,
  EntryRow,
  Fate,
  FatesRequest,
  Located,
  LocateRequest,
  SettledRequest,
  SettledStudy,
  TrashRow,
} from '#proto/index/v1/index.ts';
import type { EntryId } from '#proto/storage/v1/log.ts';
import { type Correction, correct, correctionsFor, identify, type Merge } from '../../fold/correct.ts';
import { compareInstances, inTrash, isLive, placeOf } from '../../fold/instance.ts';
import { idKey, msOfStamp, stampOfOrder } from '../../fold/order.ts';
import type { EntryRecord, InstanceView, JsonAttributes, LevelDoc } from '../../fold/types.ts';
import { metadataReaderOf, SERIES_ROW, type SeriesRow } from '../../metadata/read.ts';
import { correctionsOf, mergesOf } from './controls.ts';
import { readBlocks, seriesOfSop } from './read.ts';
import { keyText, statement, tenantId } from './schema.ts';
import { decodeVariants } from './series-state.ts';
import { sopHash } from './sop-hash.ts';

interface Scope {
  studyInstanceUids: readonly string[];
  seriesInstanceUids: readonly string[];
  sopInstanceUids: readonly string[];
  patientId?: string;
}

/** By number where there is one, then by UID: the order in which a person would lay them out. */
const bySeries = `ORDER BY study_instance_uid, CASE WHEN series_number = '' THEN 1 ELSE 0 END, CAST(series_number AS REAL), series_instance_uid`;

/** The series that a request speaks of, narrowed by whatever it names. Nothing named: too broad. */
export function seriesInScope(db: DatabaseSync, tenantName: string, scope: Scope): SeriesRow[] {
  const tenant = tenantId(db, tenantName);
  const { patientId = '' } = scope;
  const named = scope.studyInstanceUids.length + scope.seriesInstanceUids.length + scope.sopInstanceUids.length;
  if (named === 0 && patientId === '')
    throw new GantryError('invalid-argument', 'the request names no patient, study, series or instance');
  if (tenant === undefined) return [];
  const studies = new Set(scope.studyInstanceUids);
  const series = new Set(scope.seriesInstanceUids);
  let rows: SeriesRow[];
  const select = (where: string, ...values: (string | number)[]): SeriesRow[] =>
    statement(db, `${SERIES_ROW} WHERE studies.tenant = ? AND ${where} ${bySeries}`).all(
      tenant,
      ...values,
    ) as unknown as SeriesRow[];
  if (scope.sopInstanceUids.length > 0) {
    const candidates = new Set(
      scope.sopInstanceUids.flatMap((uid) => seriesOfSop(db, tenantName, uid).map((one) => one.series)),
    );
    rows = [...candidates].flatMap((id) => select('series.id = ?', id));
  } else if (studies.size > 0) rows = [...studies].flatMap((uid) => select('study_instance_uid = ?', uid));
  else if (series.size > 0) rows = [...series].flatMap((uid) => select('series_instance_uid = ?', uid));
  else rows = studiesOfPatient(db, tenant, patientId).flatMap((study) => select('studies.id = ?', study));
  const ofPatient = patientId === '' ? undefined : new Set(studiesOfPatient(db, tenant, patientId));
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
const studiesOfPatient = (db: DatabaseSync, tenant: number, patientId: string): number[] =>
  statement(db, 'SELECT study FROM study_keys WHERE tenant = ? AND tag = 0x00100020 AND value = ?')
    .all(tenant, keyText('LO', patientId))
    .map((row) => row.study as number);

/** Headers are read for so many instances at a time. */
const HEADS_AT_ONCE = 128;

export function* locate(db: DatabaseSync, tenant: string, request: LocateRequest): Generator<Located> {
  const reader = metadataReaderOf(db);
  const sops = new Set(request.sopInstanceUids);
  for (const row of seriesInScope(db, tenant, request)) {
    const views = reader
      .views(db, row)
      .filter((view) => view.shown && (sops.size === 0 || sops.has(view.sopInstanceUid)));
    const listed = views.flatMap((view) => [
      { record: view.shown!, rendition: false },
      ...(request.renditions ? view.renditions.map((record) => ({ record, rendition: true })) : []),
    ]);
    const overlays = overlaysOf(db, row);
    for (let from = 0; from < listed.length; from += HEADS_AT_ONCE) {
      const some = listed.slice(from, from + HEADS_AT_ONCE);
      const heads = request.withHead
        ? reader.heads(
            db,
            row,
            some.map((one) => one.record),
          )
        : undefined;
      for (const [index, { record, rendition }] of some.entries())
        yield {
          studyInstanceUid: row.studyInstanceUid,
          seriesInstanceUid: row.seriesInstanceUid,
          sopInstanceUid: record.sopInstanceUid,
          sopClassUid: record.sopClassUid,
          transferSyntaxUid: record.transferSyntaxUid,
          place: record.place,
          dataSetOffset: record.dataSetOffset,
          version: record.version,
          digest: record.digest,
          entry: record.id,
          numberOfFrames: record.numberOfFrames,
          head: heads?.[index]?.head ?? Buffer.alloc(0),
          overlayJson: overlays(record),
          rendition,
        };
    }
  }
}

/** What goes over an instance's attributes on its way out: corrections, and the patient after merges. */
function overlaysOf(db: DatabaseSync, row: SeriesRow): (record: EntryRecord) => Buffer {
  const corrections: Correction[] = correctionsOf(db, row.tenant, row.studyInstanceUid);
  const merges: Map<string, Merge> = mergesOf(db, row.tenant);
  const none = Buffer.alloc(0);
  if (corrections.length === 0 && merges.size === 0) return () => none;
  const variants = decodeVariants(
    statement(db, 'SELECT variants FROM series WHERE id = ?').get(row.id)!.variants as Uint8Array,
  ).raw;
  return (record) => {
    const over = correct({}, correctionsFor(corrections, row.seriesInstanceUid, record.sopInstanceUid));
    const before: JsonAttributes = { ...variants[record.variant], ...over };
    const after = identify(before, merges);
    if (after !== before) {
      over['00100020'] = after['00100020']!;
      over['00100021'] = after['00100021'] ?? { vr: 'LO' };
    }
    return Object.keys(over).length === 0 ? none : Buffer.from(JSON.stringify(over));
  };
}

export function counts(db: DatabaseSync, tenant: string): Omit<CountsResponse, 'lagCommits' | 'alarms'> {
  const id = tenantId(db, tenant) ?? -1;
  const totals = statement(db, 'SELECT * FROM totals WHERE tenant = ?').get(id);
  let shared = 0;
  for (const _ of sharedSops(db, tenant, '')) shared++;
  const of = (column: string): number => (totals?.[column] as number | undefined) ?? 0;
  return {
    patients: statement(db, 'SELECT count(*) AS n FROM patients WHERE tenant = ?').get(id)!.n as number,
    studies: of('studies'),
    series: of('series'),
    instances: of('instances'),
    bytes: of('bytes'),
    inTrash: of('trash_instances'),
    conflicts: of('conflicts') + of('disagrees') + shared,
    positions: statement(db, 'SELECT lane, sequence FROM positions WHERE tenant = ? ORDER BY lane')
      .all(id)
      .map((row) => ({ lane: row.lane as string, sequence: row.sequence as number })),
  };
}

const seriesOfStudy = (db: DatabaseSync, study: number): SeriesRow[] =>
  statement(db, `${SERIES_ROW} WHERE series.study = ? ${bySeries}`).all(study) as unknown as SeriesRow[];

export function* trash(db: DatabaseSync, tenant: string, studyInstanceUid: string): Generator<TrashRow> {
  const id = tenantId(db, tenant) ?? -1;
  const rows = statement(
    db,
    `SELECT id, study_instance_uid, trash_instances, trash_bytes FROM studies
     WHERE tenant = ? AND trash_instances > 0 AND (? = '' OR study_instance_uid = ?) ORDER BY id`,
  ).all(id, studyInstanceUid, studyInstanceUid);
  for (const row of rows) {
    const entries: EntryId[] = [];
    let latest = '';
    for (const series of seriesOfStudy(db, row.id as number))
      for (const record of readBlocks(db, series.id))
        if (inTrash(record)) {
          entries.push(record.id);
          const { order } = record.control!.trash!;
          if (order > latest) latest = order;
        }
    const control = statement(
      db,
      `SELECT body FROM controls WHERE tenant = ? AND kind = 'delete' AND study_instance_uid = ? AND sort = ?`,
    ).get(id, row.study_instance_uid as string, latest);
    const { actor = '', reason = '' } = control
      ? (JSON.parse(control.body as string) as { actor?: string; reason?: string })
      : {};
    yield {
      studyInstanceUid: row.study_instance_uid as string,
      instances: row.trash_instances as number,
      bytes: row.trash_bytes as number,
      deletedAt: latest === '' ? '' : new Date(msOfStamp(stampOfOrder(latest))).toISOString(),
      actor,
      reason,
      entries,
    };
  }
}

export function* conflicts(db: DatabaseSync, tenant: string, studyInstanceUid: string): Generator<ConflictRow> {
  const id = tenantId(db, tenant) ?? -1;
  const kind = policyKind(db);
  const rows = statement(
    db,
    `SELECT id, study_instance_uid, disagrees, conflicts, doc FROM studies
     WHERE tenant = ? AND (conflicts > 0 OR disagrees > 0) AND (? = '' OR study_instance_uid = ?) ORDER BY id`,
  ).all(id, studyInstanceUid, studyInstanceUid);
  for (const row of rows) {
    const uid = row.study_instance_uid as string;
    if (row.disagrees === 1) {
      const doc = JSON.parse(row.doc as string) as LevelDoc & { patient: LevelDoc };
      const tags = [...Object.keys(doc.patient.values), ...Object.keys(doc.values)].sort();
      yield conflict('disagreement', { studyInstanceUid: uid, seriesInstanceUid: '' }, '', tags.join(' '), []);
    }
    if (row.conflicts === 0) continue;
    for (const series of seriesOfStudy(db, row.id as number))
      for (const view of metadataReaderOf(db).views(db, series)) {
        if (!view.conflict) continue;
        const versions = [view.shown!, ...view.hidden];
        yield conflict(
          kind,
          series,
          view.sopInstanceUid,
          `${versions.length} versions; the first shows: ${versions.map((one) => one.version.toString('hex').slice(0, 8)).join(' ')}`,
          versions.map((one) => one.id),
        );
      }
  }
  yield* sharedSops(db, tenant, studyInstanceUid);
}

const policyKind = (db: DatabaseSync): string =>
  statement(db, `SELECT value FROM meta WHERE key = 'policy'`).get()?.value === 'quarantine'
    ? 'quarantined'
    : 'versions';

const conflict = (
  kind: string,
  series: { studyInstanceUid: string; seriesInstanceUid: string },
  sopInstanceUid: string,
  detail: string,
  entries: EntryId[],
): ConflictRow => ({
  kind,
  studyInstanceUid: series.studyInstanceUid,
  seriesInstanceUid: series.seriesInstanceUid,
  sopInstanceUid,
  detail,
  entries,
});

/** One SOP Instance UID live in several series: both are served. One row for each place after the first. */
function* sharedSops(db: DatabaseSync, tenant: string, studyInstanceUid: string): Generator<ConflictRow> {
  const id = tenantId(db, tenant) ?? -1;
  for (const { hash } of statement(db, 'SELECT hash FROM shared_sops WHERE tenant = ? ORDER BY hash').all(id)) {
    const bySop = new Map<string, { series: SeriesRow; view: InstanceView }[]>();
    const candidates = statement(
      db,
      `${SERIES_ROW} WHERE studies.tenant = ? AND series.id IN (SELECT series FROM sops WHERE hash = ?) ${bySeries}`,
    ).all(id, hash as number) as unknown as SeriesRow[];
    const shared = hash as number;
    for (const series of candidates)
      for (const view of metadataReaderOf(db).views(db, series))
        if (view.shown && sopHash(tenant, view.sopInstanceUid) === shared)
          bySop.set(view.sopInstanceUid, [...(bySop.get(view.sopInstanceUid) ?? []), { series, view }]);
    for (const [sopInstanceUid, places] of bySop) {
      if (places.length < 2) continue;
      if (studyInstanceUid !== '' && !places.some((one) => one.series.studyInstanceUid === studyInstanceUid)) continue;
      const where = places.map((one) => `${one.series.studyInstanceUid}/${one.series.seriesInstanceUid}`).join(' ');
      yield conflict(
        'shared-uid',
        places[0]!.series,
        sopInstanceUid,
        where,
        places.map((one) => one.view.shown!.id),
      );
    }
  }
}

const entryRow = (series: SeriesRow, record: EntryRecord): EntryRow => ({
  id: record.id,
  place: placeOf(record),
  studyInstanceUid: series.studyInstanceUid,
  seriesInstanceUid: series.seriesInstanceUid,
  sopInstanceUid: record.sopInstanceUid,
  version: record.version,
  digest: record.digest,
  transferSyntaxUid: record.transferSyntaxUid,
  dataSetOffset: record.dataSetOffset,
});

/** Every entry that is live (or in the trash): copies, renditions and hidden versions too, so that nothing stays behind. */
export function* entries(db: DatabaseSync, tenant: string, request: EntriesRequest): Generator<EntryRow> {
  const one = (uid: string): string[] => (uid === '' ? [] : [uid]);
  const scope: Scope = {
    studyInstanceUids: one(request.studyInstanceUid),
    seriesInstanceUids: one(request.seriesInstanceUid),
    sopInstanceUids: one(request.sopInstanceUid),
  };
  for (const series of seriesInScope(db, tenant, scope))
    for (const record of readBlocks(db, series.id))
      if (
        (request.sopInstanceUid === '' || record.sopInstanceUid === request.sopInstanceUid) &&
        (request.inTrash ? inTrash(record) : isLive(record))
      )
        yield entryRow(series, record);
}

const SETTLED_LIMIT = 100;
/** Of one message: some 700 kB, below gRPC's limit (platform.rpcMessageMax). */
const SETTLED_ROWS_MAX = 2000;

/**
 * Live: for every version that is not purged (the trash included), the entry that holds its bytes. A study of many instances comes in several
 * rows, one after the other. Of a study on hold nothing counts as purged.
 */
export function* settled(db: DatabaseSync, tenant: string, request: SettledRequest): Generator<SettledStudy> {
  const id = tenantId(db, tenant) ?? -1;
  const rows =
    request.studyInstanceUid !== ''
      ? statement(
          db,
          'SELECT id, study_instance_uid, settled, hold FROM studies WHERE tenant = ? AND study_instance_uid = ?',
        ).all(id, request.studyInstanceUid)
      : statement(
          db,
          `SELECT id, study_instance_uid, settled, hold FROM studies
           WHERE tenant = ? AND compactable > 0 AND settled > 0 ORDER BY changed_ms LIMIT ?`,
        ).all(id, request.limit || SETTLED_LIMIT);
  for (const row of rows) {
    const begin = (): SettledStudy => ({
      studyInstanceUid: row.study_instance_uid as string,
      settled: (row.settled as number) > 0,
      live: [],
      spare: [],
      purged: [],
    });
    let study = begin();
    for (const series of seriesOfStudy(db, row.id as number)) {
      const views = [...metadataReaderOf(db).views(db, series)].sort((a, b) => compareInstances(anyOf(a), anyOf(b)));
      for (const view of views) {
        study.live.push(...view.kept.map((record) => entryRow(series, record)));
        study.spare.push(...view.spare.map((record) => entryRow(series, record)));
        if (row.hold === 0) study.purged.push(...view.purged.map((record) => entryRow(series, record)));
        if (study.live.length + study.spare.length + study.purged.length >= SETTLED_ROWS_MAX) {
          yield study;
          study = begin();
        }
      }
    }
    yield study;
  }
}
const anyOf = (view: InstanceView): EntryRecord =>
  view.shown ?? view.kept[0] ?? view.purged[0] ?? view.spare[0] ?? view.hidden[0] ?? NOTHING;
const NOTHING = { instanceNumber: '', sopInstanceUid: '' } as EntryRecord;

/** What became of entries: the word that the keeper needs before bytes go. In doubt, an entry is kept. */
export function* fates(db: DatabaseSync, tenant: string, request: FatesRequest): Generator<Fate> {
  const id = tenantId(db, tenant) ?? -1;
  const study = statement(db, 'SELECT id, hold FROM studies WHERE tenant = ? AND study_instance_uid = ?').get(
    id,
    request.studyInstanceUid,
  );
  const wanted = new Set(request.entries.map(idKey));
  const versionOf = (record: EntryRecord): string => `${record.sopInstanceUid} ${record.version.toString('latin1')}`;
  if (study)
    for (const series of seriesOfStudy(db, study.id as number)) {
      const kept = metadataReaderOf(db)
        .views(db, series)
        .flatMap((view) => view.kept);
      const holders = new Set(kept.map((record) => idKey(record.id)));
      const versions = study.hold === 1 ? new Set(kept.map(versionOf)) : undefined;
      for (const record of readBlocks(db, series.id)) {
        const key = idKey(record.id);
        if (request.entries.length > 0 && !wanted.delete(key)) continue;
        const { dropped, purged } = record.control ?? {};
        let state = dropped ? 'dropped' : purged ? 'purged' : 'kept';
        // Bytes that an equal version rests on stay, whatever was said of this entry.
        if (holders.has(key)) state = 'kept';
        else if (purged && versions && !versions.has(versionOf(record))) state = 'held';
        yield { id: record.id, state, place: placeOf(record) };
      }
    }
  for (const entry of request.entries)
    if (wanted.has(idKey(entry))) yield { id: entry, state: 'unknown', place: undefined };
}
