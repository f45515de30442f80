import { GantryError } from '#platform/errors.ts';
import type {
  ConflictRow,
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
import { correct, correctionsFor, identify } from '../fold/correct.ts';
import { compareInstances, inTrash, isLive, placeOf } from '../fold/instance.ts';
import { idKey, msOfStamp, stampOfOrder } from '../fold/order.ts';
import type { EntryRecord, InstanceView, JsonAttributes, LevelDoc } from '../fold/types.ts';
import type { MetadataReader } from '../metadata/read.ts';
import { sopHash } from '../state/sop-hash.ts';
import type { Reader, Scope, SeriesRow, StudyRow } from './reader.ts';
import type { Reading, Rows } from './reading.ts';

/** What questions are asked of: a store's state, and what is kept between them. */
export interface Asked {
  reader: Reader;
  kept: MetadataReader;
}

export function refuseNothing(scope: Scope): void {
  const named = scope.studyInstanceUids.length + scope.seriesInstanceUids.length + scope.sopInstanceUids.length;
  if (named === 0 && (scope.patientId ?? '') === '')
    throw new GantryError('invalid-argument', 'the request names no patient, study, series or instance');
}

/** Headers are read for so many instances at a time. */
const HEADS_AT_ONCE = 128;

export function* locate({ reader, kept }: Asked, tenant: string, request: LocateRequest): Rows<Located> {
  const sops = new Set(request.sopInstanceUids);
  refuseNothing(request);
  for (const row of yield* reader.seriesInScope(tenant, request)) {
    const views = (yield* kept.views(reader, row)).filter(
      (view) => view.shown && (sops.size === 0 || sops.has(view.sopInstanceUid)),
    );
    const listed = views.flatMap((view) => [
      { record: view.shown!, rendition: false },
      ...(request.renditions ? view.renditions.map((record) => ({ record, rendition: true })) : []),
    ]);
    const overlays = yield* overlaysOf(reader, row);
    for (let from = 0; from < listed.length; from += HEADS_AT_ONCE) {
      const some = listed.slice(from, from + HEADS_AT_ONCE);
      const heads = request.withHead
        ? yield* kept.heads(
            reader,
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
function* overlaysOf(reader: Reader, row: SeriesRow): Reading<(record: EntryRecord) => Buffer> {
  const corrections = yield* reader.corrections(row);
  const merges = yield* reader.merges(row);
  const none = Buffer.alloc(0);
  if (corrections.length === 0 && merges.size === 0) return () => none;
  const variants = yield* reader.rawVariants(row);
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

export function* trash({ reader }: Asked, tenant: string, studyInstanceUid: string): Rows<TrashRow> {
  for (const study of yield* reader.studiesWith('trash', tenant, studyInstanceUid)) {
    const entries: EntryId[] = [];
    let latest = '';
    for (const series of yield* reader.seriesOfStudy(study))
      for (const record of yield* reader.records(series))
        if (inTrash(record)) {
          entries.push(record.id);
          const { order } = record.control!.trash!;
          if (order > latest) latest = order;
        }
    const { actor = '', reason = '' } = yield* reader.deletion(tenant, study, latest);
    yield {
      studyInstanceUid: study.studyInstanceUid,
      instances: study.trashInstances,
      bytes: study.trashBytes,
      deletedAt: latest === '' ? '' : new Date(msOfStamp(stampOfOrder(latest))).toISOString(),
      actor,
      reason,
      entries,
      onHold: study.hold,
    };
  }
}

export function* conflicts(asked: Asked, tenant: string, studyInstanceUid: string): Rows<ConflictRow> {
  const { reader, kept } = asked;
  const kind = reader.policy === 'quarantine' ? 'quarantined' : 'versions';
  for (const study of yield* reader.studiesWith('conflict', tenant, studyInstanceUid)) {
    const uid = study.studyInstanceUid;
    if (study.disagrees) {
      const doc = JSON.parse(study.doc) as LevelDoc & { patient: LevelDoc };
      const tags = [...Object.keys(doc.patient.values), ...Object.keys(doc.values)].sort();
      yield conflict('disagreement', { studyInstanceUid: uid, seriesInstanceUid: '' }, '', tags.join(' '), []);
    }
    if (study.conflicts === 0) continue;
    for (const series of yield* reader.seriesOfStudy(study))
      for (const view of yield* kept.views(reader, series)) {
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
  for (const { row, studies } of yield* sharedUids(asked, tenant))
    if (studyInstanceUid === '' || studies.includes(studyInstanceUid)) yield row;
}

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

/** One SOP Instance UID live in several series: both are served. One row for each such UID. */
export function* sharedUids(
  { reader, kept }: Asked,
  tenant: string,
): Reading<{ row: ConflictRow; studies: string[] }[]> {
  const rows: { row: ConflictRow; studies: string[] }[] = [];
  for (const { hash, series: candidates } of yield* reader.sharedSops(tenant)) {
    const bySop = new Map<string, { series: SeriesRow; view: InstanceView }[]>();
    for (const series of candidates)
      for (const view of yield* kept.views(reader, series))
        if (view.shown && sopHash(tenant, view.sopInstanceUid) === hash)
          bySop.set(view.sopInstanceUid, [...(bySop.get(view.sopInstanceUid) ?? []), { series, view }]);
    for (const [sopInstanceUid, places] of bySop) {
      if (places.length < 2) continue;
      const where = places.map((one) => `${one.series.studyInstanceUid}/${one.series.seriesInstanceUid}`).join(' ');
      const ids = places.map((one) => one.view.shown!.id);
      rows.push({
        row: conflict('shared-uid', places[0]!.series, sopInstanceUid, where, ids),
        studies: places.map((one) => one.series.studyInstanceUid),
      });
    }
  }
  return rows;
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
export function* entries({ reader }: Asked, tenant: string, request: EntriesRequest): Rows<EntryRow> {
  const one = (uid: string): string[] => (uid === '' ? [] : [uid]);
  const scope: Scope = {
    studyInstanceUids: one(request.studyInstanceUid),
    seriesInstanceUids: one(request.seriesInstanceUid),
    sopInstanceUids: one(request.sopInstanceUid),
  };
  refuseNothing(scope);
  for (const series of yield* reader.seriesInScope(tenant, scope))
    for (const record of yield* reader.records(series))
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
export function* settled({ reader, kept }: Asked, tenant: string, request: SettledRequest): Rows<SettledStudy> {
  let studies: StudyRow[];
  if (request.studyInstanceUid === '') studies = yield* reader.compactable(tenant, request.limit || SETTLED_LIMIT);
  else {
    const study = yield* reader.study(tenant, request.studyInstanceUid);
    studies = study ? [study] : [];
  }
  for (const row of studies) {
    const begin = (): SettledStudy => ({
      studyInstanceUid: row.studyInstanceUid,
      settled: row.settled > 0,
      live: [],
      spare: [],
      purged: [],
    });
    let study = begin();
    for (const series of yield* reader.seriesOfStudy(row)) {
      const views = [...(yield* kept.views(reader, series))].sort((a, b) => compareInstances(anyOf(a), anyOf(b)));
      for (const view of views) {
        study.live.push(...view.kept.map((record) => entryRow(series, record)));
        study.spare.push(...view.spare.map((record) => entryRow(series, record)));
        if (!row.hold) study.purged.push(...view.purged.map((record) => entryRow(series, record)));
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
export function* fates({ reader, kept: cache }: Asked, tenant: string, request: FatesRequest): Rows<Fate> {
  const study = yield* reader.study(tenant, request.studyInstanceUid);
  const wanted = new Set(request.entries.map(idKey));
  const versionOf = (record: EntryRecord): string => `${record.sopInstanceUid} ${record.version.toString('latin1')}`;
  if (study)
    for (const series of yield* reader.seriesOfStudy(study)) {
      const kept = (yield* cache.views(reader, series)).flatMap((view) => view.kept);
      const holders = new Set(kept.map((record) => idKey(record.id)));
      const versions = study.hold ? new Set(kept.map(versionOf)) : undefined;
      for (const record of yield* reader.records(series)) {
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
