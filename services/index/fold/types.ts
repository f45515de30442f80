import type { EntryId, Place } from '#proto/storage/v1/log.ts';

/** One attribute of the DICOM JSON model (PS3.18 Annex F). */
export interface JsonElement {
  vr: string;
  Value?: unknown[];
  InlineBinary?: string;
  BulkDataURI?: string;
}
/** Keys are eight hex digits, upper case. */
export type JsonAttributes = Record<string, JsonElement>;

/**
 * What a patient, study or series row says. `attributes` are the winner's: those of the first live instance (by stamp, lane, sequence,
 * n), corrections laid over. `values` holds, only for attributes on which the live instances disagree, every other distinct element: a
 * key matches when it matches the winner's or any of these.
 */
export interface LevelDoc {
  attributes: JsonAttributes;
  values: Record<string, JsonElement[]>;
  /** Of a patient with more than a hundred different sets of attributes: `values` is incomplete, match by the studies' documents. */
  partial?: true;
}
export interface StudyDoc extends LevelDoc {
  /** The patient attributes of this study's instances, the winner's and the others. */
  patient: LevelDoc;
  modalities: string[]; // of every series with a live instance, sorted; an instance without one counts as OT
  sopClasses: string[];
}
export interface SeriesDoc extends LevelDoc {
  sopClasses: string[];
}

/** One `instance` or `large` entry as a block keeps it. */
export interface EntryRecord {
  id: EntryId;
  stamp: string;
  sopInstanceUid: string;
  sopClassUid: string;
  transferSyntaxUid: string;
  version: Buffer;
  digest: Buffer;
  place: Place;
  dataSetOffset: number;
  instanceNumber: string; // as received
  numberOfFrames: number; // 0: the attribute is absent
  rows: number;
  columns: number;
  bitsAllocated: number;
  /** What its digest can be had from again (prefix.ts); absent: only from itself. */
  form?: string;
  /** Which of its series' variants its attributes are. */
  variant: number;
  control?: EntryControl;
}

/** What control entries say about one entry: a join of maxima, so that their order never matters. */
export interface EntryControl {
  /** The last delete or restore that names it. */
  trash?: { order: string; on: boolean };
  purged?: true;
  /** Its own bytes are gone (a spare copy, or purged and reclaimed). */
  dropped?: true;
  /** Where compaction put its bytes last. */
  moved?: { order: string; place: Place };
  /** A person's word on versions: 'show' or 'hide'. */
  decision?: { order: string; verdict: string };
}

export type VersionPolicy = 'keep-first' | 'newest-wins' | 'quarantine';

/** One SOP instance of a series, seen through the set of its entries. */
export interface InstanceView {
  sopInstanceUid: string;
  /** What shows; undefined: everything is in the trash, purged or hidden. */
  shown?: EntryRecord;
  /** The same instance in other transfer syntaxes, one each. */
  renditions: EntryRecord[];
  /** Live versions that do not show because another of the same transfer syntax does: a conflict. */
  hidden: EntryRecord[];
  /** A hidden version on which nobody has decided yet. */
  conflict: boolean;
  /** One entry for each version that is in the trash and nowhere live. */
  trashed: EntryRecord[];
  /** For each version that is live or in the trash, the entry that holds its bytes: all that must be kept. */
  kept: EntryRecord[];
  /** Entries whose bytes another entry keeps. */
  spare: EntryRecord[];
  /** Entries purged, whose bytes nobody needs. */
  purged: EntryRecord[];
}
