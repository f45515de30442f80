import type { CountsResponse } from '#proto/index/v1/index.ts';
import type { Correction, Merge } from '../fold/correct.ts';
import type { EntryRecord, InstanceView, JsonAttributes, VersionPolicy } from '../fold/types.ts';
import type { MetadataObject } from '../metadata/object.ts';
import type { RecentHeads } from '../state/heads.ts';
import type { Reading } from './reading.ts';

/** A store's own name of a patient, study or series: a row number, or a document's id. */
export type RowId = number | string;

export interface SeriesRow {
  id: RowId;
  study: RowId;
  tenant: RowId;
  studyInstanceUid: string;
  seriesInstanceUid: string;
  /** Changes whenever its entries do: caches and ETags hang on it. */
  revision: number;
  /** Name of its metadata object, empty: none. */
  metadata: string;
}

export interface StudyRow {
  id: RowId;
  studyInstanceUid: string;
  settled: number;
  hold: boolean;
  disagrees: boolean;
  conflicts: number;
  trashInstances: number;
  trashBytes: number;
  doc: string; // StudyDoc
}

export interface Scope {
  studyInstanceUids: readonly string[];
  seriesInstanceUids: readonly string[];
  sopInstanceUids: readonly string[];
  patientId?: string;
}

/** What questions read, of one committed state. */
export interface Reader {
  readonly policy: VersionPolicy;
  /** The series that a request speaks of, narrowed by whatever it names, by study, series number and UID. SOP instances: candidates. */
  seriesInScope(tenant: string, scope: Scope): Reading<SeriesRow[]>;
  /** By series number, then UID. */
  seriesOfStudy(study: StudyRow): Reading<SeriesRow[]>;
  /** With instances in the trash, in conflict, or with work for the keeper; `studyInstanceUid` empty: all. */
  studiesWith(what: 'trash' | 'conflict', tenant: string, studyInstanceUid: string): Reading<StudyRow[]>;
  compactable(tenant: string, limit: number): Reading<StudyRow[]>;
  study(tenant: string, studyInstanceUid: string): Reading<StudyRow | undefined>;
  /** Who deleted, and why: the control entry of this order. */
  deletion(tenant: string, study: StudyRow, order: string): Reading<{ actor?: string; reason?: string }>;
  /** Hashes of SOP Instance UIDs that several series hold, and these series. */
  sharedSops(tenant: string): Reading<{ hash: number; series: SeriesRow[] }[]>;
  counts(tenant: string): Reading<Omit<CountsResponse, 'lagCommits' | 'alarms'>>;

  /** Every entry of a series, in the order of arrival here. */
  records(series: SeriesRow): Reading<EntryRecord[]>;
  /** By InstanceNumber, then UID; those that do not show come last. */
  views(series: SeriesRow): Reading<InstanceView[]>;
  /** The series' sets of attributes as the headers said; a record's `variant` is an index into it. */
  rawVariants(series: SeriesRow): Reading<JsonAttributes[]>;
  corrections(series: SeriesRow): Reading<Correction[]>;
  merges(series: SeriesRow): Reading<Map<string, Merge>>;
  /** Says whether merges have changed since, and which index this is: what else an ETag hangs on. */
  stateOfMerges(tenant: string): Reading<string>;
  /** undefined: there is none, or it cannot be read; headers come from elsewhere then. */
  metadataObject<T>(series: SeriesRow, use: (object: MetadataObject) => T): Reading<T | undefined>;
  /** Headers that stand in no metadata object; `before`: what was had for this series the last time. */
  recentHeads(series: SeriesRow, records: readonly EntryRecord[], before?: RecentHeads): Reading<RecentHeads>;
}
