import { hexOf, Tag } from '#dicom/tags.ts';
import { orderOf } from '../fold/order.ts';
import type { EntryRecord, JsonAttributes, JsonElement, LevelDoc, SeriesDoc, StudyDoc } from '../fold/types.ts';
import type { RowId } from '../questions/reader.ts';
import { homeOf, isKnown } from './levels.ts';
import type { Attribute, Entity } from './match.ts';
import type { Related, SeriesFields, Source, StudyFields } from './source.ts';

/**
 * Patients, studies, series and instances as a search sees them. `attributes` is what keys are tried against: every value that a live
 * instance carries. `shown` is what a row says: the winner's. Nothing is read or parsed before somebody asks.
 */
const value = (vr: string, ...Value: unknown[]): JsonElement => (Value.length > 0 ? { vr, Value } : { vr });

function variants(doc: LevelDoc, hex: string): Attribute[] {
  const shown = doc.attributes[hex];
  const others = doc.values[hex];
  if (!others) return shown ? [shown] : [];
  return shown ? [shown, ...others] : others;
}

abstract class Known implements Entity {
  abstract shown(tag: number): JsonElement | undefined;
  abstract attributes(tag: number): readonly Attribute[];

  protected one(tag: number): readonly Attribute[] {
    const shown = this.shown(tag);
    return shown ? [shown] : [];
  }
}

export class StudyEntity extends Known {
  readonly source: Source;
  readonly id: RowId;
  #row: StudyFields | undefined;
  #doc: StudyDoc | undefined;
  #related: Related | undefined;

  constructor(source: Source, id: RowId) {
    super();
    this.source = source;
    this.id = id;
  }

  get row(): StudyFields {
    this.#row ??= this.source.store.study(this.id);
    return this.#row;
  }
  get uid(): string {
    return this.row.study_instance_uid;
  }
  get conflict(): boolean {
    return this.row.disagrees > 0 || this.row.conflicts > 0;
  }
  get doc(): StudyDoc {
    this.#doc ??= JSON.parse(this.row.doc) as StudyDoc;
    return this.#doc;
  }

  shown(tag: number): JsonElement | undefined {
    switch (tag) {
      case Tag.StudyInstanceUID:
        return value('UI', this.uid);
      case Tag.ModalitiesInStudy:
        // Never without a value: one study without breaks OHIF's whole list.
        return value('CS', ...(this.doc.modalities.length > 0 ? this.doc.modalities : ['OT']));
      case Tag.SOPClassesInStudy:
        return value('UI', ...this.doc.sopClasses);
      case Tag.NumberOfStudyRelatedSeries:
        return value('IS', this.row.series);
      case Tag.NumberOfStudyRelatedInstances:
        return value('IS', this.row.instances);
      case Tag.NumberOfPatientRelatedStudies:
        return value('IS', this.related.studies);
      case Tag.NumberOfPatientRelatedSeries:
        return value('IS', this.related.series);
      case Tag.NumberOfPatientRelatedInstances:
        return value('IS', this.related.instances);
      default: {
        const hex = hexOf(tag);
        return (homeOf(tag) === 'PATIENT' ? this.doc.patient : this.doc).attributes[hex];
      }
    }
  }

  attributes(tag: number): readonly Attribute[] {
    const hex = hexOf(tag);
    const home = homeOf(tag);
    const found =
      home === 'PATIENT' ? variants(this.doc.patient, hex) : home === 'STUDY' ? variants(this.doc, hex) : [];
    return found.length > 0 ? found : this.one(tag);
  }

  get related() {
    this.#related ??= this.source.store.related(this.row.patient);
    return this.#related;
  }

  /** In no order: whoever wants one sorts. */
  *series(): Generator<SeriesEntity> {
    for (const row of this.source.store.series(this.id)) yield new SeriesEntity(this.source, this, row);
  }

  /** The instance whose values the rows of the study show. */
  representative(): InstanceEntity | undefined {
    return this.firstSeries()?.representative();
  }
  firstSeries(): SeriesEntity | undefined {
    const all = [...this.series()];
    return all.find((one) => one.row.first_order === this.row.first_order) ?? all[0];
  }
}

export class SeriesEntity extends Known {
  readonly source: Source;
  readonly study: StudyEntity;
  readonly row: SeriesFields;
  #doc: SeriesDoc | undefined;
  #together: readonly InstanceEntity[] = [];

  constructor(source: Source, study: StudyEntity, row: SeriesFields) {
    super();
    this.source = source;
    this.study = study;
    this.row = row;
  }

  get id(): RowId {
    return this.row.id;
  }
  get uid(): string {
    return this.row.series_instance_uid;
  }
  get doc(): SeriesDoc {
    this.#doc ??= JSON.parse(this.row.doc) as SeriesDoc;
    return this.#doc;
  }
  get conflict(): boolean {
    return this.row.conflicts > 0 || Object.keys(this.doc.values).length > 0;
  }

  shown(tag: number): JsonElement | undefined {
    if (tag === Tag.SeriesInstanceUID) return value('UI', this.uid);
    if (tag === Tag.NumberOfSeriesRelatedInstances) return value('IS', this.row.instances);
    if (homeOf(tag) === 'SERIES') return this.doc.attributes[hexOf(tag)];
    return this.study.shown(tag);
  }

  attributes(tag: number): readonly Attribute[] {
    if (homeOf(tag) !== 'SERIES') return this.study.attributes(tag);
    const found = variants(this.doc, hexOf(tag));
    return found.length > 0 ? found : this.one(tag);
  }

  /** By InstanceNumber, then UID: only what shows. */
  instances(): InstanceEntity[] {
    return this.source.store
      .instances(this)
      .filter((view) => view.shown)
      .map((view) => new InstanceEntity(this, view.shown!, view.conflict));
  }

  representative(): InstanceEntity | undefined {
    const all = this.instances();
    return all.find(({ record }) => orderOf(record.stamp, record.id) === this.row.first_order) ?? all[0];
  }

  /** In this order rows will ask for headers: whoever asks first reads for those behind it too. */
  readTogether(instances: readonly InstanceEntity[]): void {
    this.#together = instances;
  }

  /** One metadata object is opened once for many headers, and nothing is read that no page needs. */
  readHeaderOf(instance: InstanceEntity): void {
    this.readHeaders(this.with(instance));
  }
  with(instance: InstanceEntity): readonly InstanceEntity[] {
    const at = this.#together.indexOf(instance);
    return at < 0 ? [instance] : this.#together.slice(at, at + HEADERS_AT_ONCE);
  }

  /** Where keys ask for what only headers hold: so many at a time. */
  *portions(instances: readonly InstanceEntity[]): Generator<readonly InstanceEntity[]> {
    for (let at = 0; at < instances.length; at += 8 * HEADERS_AT_ONCE)
      yield instances.slice(at, at + 8 * HEADERS_AT_ONCE);
  }

  readHeaders(instances: readonly InstanceEntity[]): void {
    const lacking = instances.filter((one) => !one.hasHeader);
    if (lacking.length === 0) return;
    this.source.budget.headers(lacking.length);
    const texts = this.source.store.texts(
      this,
      lacking.map((one) => one.record),
    );
    for (const [at, one] of lacking.entries()) one.giveHeader(texts[at]!);
  }
}

const HEADERS_AT_ONCE = 128;

export class InstanceEntity extends Known {
  readonly series: SeriesEntity;
  readonly record: EntryRecord;
  readonly conflict: boolean;
  #text: Buffer | undefined;
  #header: JsonAttributes | undefined;

  constructor(series: SeriesEntity, record: EntryRecord, conflict: boolean) {
    super();
    this.series = series;
    this.record = record;
    this.conflict = conflict;
  }

  get hasHeader(): boolean {
    return this.#text !== undefined;
  }
  giveHeader(text: Buffer): void {
    this.#text = text;
  }

  /** All attributes of the instance but bulk data; a BulkDataURI begins at the root of the service. */
  get header(): JsonAttributes {
    if (!this.#header) {
      if (!this.#text) this.series.readHeaderOf(this);
      // The byte that marks the root (metadata/text.ts) is no JSON.
      this.#header = JSON.parse(this.#text!.toString().replaceAll('\u0001', '')) as JsonAttributes;
    }
    return this.#header;
  }

  shown(tag: number): JsonElement | undefined {
    const { record } = this;
    switch (tag) {
      case Tag.SOPInstanceUID:
        return value('UI', record.sopInstanceUid);
      case Tag.SOPClassUID:
        return value('UI', record.sopClassUid);
      case Tag.InstanceNumber:
        return record.instanceNumber.trim() === '' ? undefined : value('IS', numberOr(record.instanceNumber));
      case Tag.NumberOfFrames:
        return record.numberOfFrames > 0 ? value('IS', record.numberOfFrames) : undefined;
      case Tag.Rows:
        return record.rows > 0 ? value('US', record.rows) : undefined;
      case Tag.Columns:
        return record.columns > 0 ? value('US', record.columns) : undefined;
      case Tag.BitsAllocated:
        return record.bitsAllocated > 0 ? value('US', record.bitsAllocated) : undefined;
      default:
        return isKnown(tag) ? this.series.shown(tag) : this.header[hexOf(tag)];
    }
  }

  attributes(tag: number): readonly Attribute[] {
    return isKnown(tag) && homeOf(tag) !== 'IMAGE' ? this.series.attributes(tag) : this.one(tag);
  }
}

/** DICOM JSON writes IS as a number, unless it is none (PS3.18 §F.2.3.1: accept strings). */
const numberOr = (text: string): number | string => (/^[+-]?\d{1,15}$/.test(text.trim()) ? Number(text) : text.trim());

export class PatientEntity extends Known {
  readonly source: Source;
  readonly id: RowId;
  #doc: LevelDoc | undefined;
  #related: Related | undefined;

  constructor(source: Source, id: RowId) {
    super();
    this.source = source;
    this.id = id;
  }

  get doc(): LevelDoc {
    this.#doc ??= JSON.parse(this.source.store.patient(this.id).doc) as LevelDoc;
    return this.#doc;
  }
  get conflict(): boolean {
    return Object.keys(this.doc.values).length > 0;
  }
  get related() {
    this.#related ??= this.source.store.related(this.id);
    return this.#related;
  }

  shown(tag: number): JsonElement | undefined {
    switch (tag) {
      case Tag.NumberOfPatientRelatedStudies:
        return value('IS', this.related.studies);
      case Tag.NumberOfPatientRelatedSeries:
        return value('IS', this.related.series);
      case Tag.NumberOfPatientRelatedInstances:
        return value('IS', this.related.instances);
      default:
        return this.doc.attributes[hexOf(tag)];
    }
  }

  attributes(tag: number): readonly Attribute[] {
    const found = variants(this.doc, hexOf(tag));
    return found.length > 0 ? found : this.one(tag);
  }

  /** The first comes first: its values are the patient's. */
  *studies(): Generator<StudyEntity> {
    for (const id of this.source.store.studiesOf(this.id)) yield new StudyEntity(this.source, id);
  }

  representative(): InstanceEntity | undefined {
    for (const study of this.studies()) return study.representative();
    return undefined;
  }
}
