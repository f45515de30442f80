import { GantryError } from '#platform/errors.ts';
import type { SearchRequest, SearchRow } from '#proto/index/v1/index.ts';
import type { EntryRecord, InstanceView } from '../fold/types.ts';
import type { RowId } from '../questions/reader.ts';
import type { Reading, Rows } from '../questions/reading.ts';
import type { InstanceEntity, PatientEntity, SeriesEntity, StudyEntity } from './entities.ts';
import type { Cursor, Order, Place } from './order.ts';
import type { SearchLimits } from './settings.ts';

export interface StudyFields {
  study_instance_uid: string;
  patient: RowId;
  first_order: string;
  series: number;
  instances: number;
  conflicts: number;
  disagrees: number;
  doc: string; // StudyDoc
}
export interface SeriesFields {
  id: RowId;
  series_instance_uid: string;
  first_order: string;
  series_number: string;
  instances: number;
  conflicts: number;
  doc: string; // SeriesDoc
}
export interface Related {
  studies: number;
  series: number;
  instances: number;
}

export interface Question {
  tenant: string;
  request: SearchRequest;
  order: Order;
  cursor: Cursor | undefined;
  limits: SearchLimits;
  /** Nothing is asked of the rows but their order: the store itself may pass over the first `skip`. */
  skip: number;
}

/** What a search reads of a store, in one state of it. Documents decide what matches: candidates may be too many, never too few. */
export interface SearchStore {
  /** False: nothing was ever stored for the tenant. */
  knows(tenant: string): boolean;
  /** Candidates in the order of the rows, behind the cursor or also before it. */
  studies(question: Question): Rows<{ id: RowId; place: Place }>;
  patients(question: Question): Rows<{ id: RowId; place: Place }>;
  study(id: RowId): StudyFields;
  patient(id: RowId): { doc: string };
  /** Of live series, in no order. */
  series(study: RowId): SeriesFields[];
  /** The live ones; the first comes first. */
  studiesOf(patient: RowId): RowId[];
  related(patient: RowId): Related;
  instances(series: SeriesEntity): InstanceView[];
  /** DICOM JSON with root marks (metadata/text.ts). */
  texts(series: SeriesEntity, records: readonly EntryRecord[]): Buffer[];
  /** What must be waited for is asked for here, before it is read; absent: nothing must. */
  readonly ahead?: Ahead;
  /** Whole answers kept until the index changes; absent: none are. */
  remembered?(question: Question): { rows: readonly SearchRow[] | undefined; keep(rows: SearchRow[]): void };
}

export interface Ahead {
  series(study: StudyEntity): Reading<void>;
  studiesOf(patient: PatientEntity): Reading<void>;
  related(patient: RowId): Reading<void>;
  instances(series: SeriesEntity): Reading<void>;
  texts(series: SeriesEntity, instances: readonly InstanceEntity[]): Reading<void>;
}

export interface Source {
  store: SearchStore;
  budget: Budget;
}

/** What one question may still cost; spent, it is too broad (PS3.18 §8.3.4: 413). */
export class Budget {
  #studies: number;
  #headers: number;

  constructor(limits: SearchLimits) {
    this.#studies = limits.studiesScannedMax;
    this.#headers = limits.headersScannedMax;
  }
  study(): void {
    if (this.#studies-- <= 0) throw tooBroad('studies');
  }
  headers(count: number): void {
    if ((this.#headers -= count) < 0) throw tooBroad('headers');
  }
}
const tooBroad = (what: string) =>
  new GantryError(
    'too-broad',
    `the search would read too many ${what}: narrow it by patient, date, accession number or UID`,
  );
