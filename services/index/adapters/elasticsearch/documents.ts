import { hexOf, Tag } from '#dicom/tags.ts';
import type { Correction } from '../../fold/correct.ts';
import { hexTag, LEVEL_TAGS, textOf, type Variant } from '../../fold/levels.ts';
import type { EntryControl, JsonAttributes, LevelDoc, StudyDoc } from '../../fold/types.ts';
import { foldCase, nameGroups, soundOf, words } from '../../search/match-text.ts';
import { plainDate } from '../../search/match-time.ts';
import { PATIENT_ORDERS, STUDY_ORDERS } from '../../search/order.ts';
import type { KeptControl } from '../../state/commits.ts';
import { keyValues, STUDY_KEYS, studyKeyValues } from '../../state/keys.ts';
import { cut, isNumeric, TERM_MAX } from './schema.ts';

/** What a study keeps of each of its series: all that its own document is made of. */
export interface SeriesSummary {
  revision: number;
  firstOrder: string;
  number: string;
  instances: number;
  bytes: number;
  trashInstances: number;
  trashBytes: number;
  conflicts: number;
  compactable: number;
  /** Distinct sets of what matters above the series. */
  parts: Variant[];
  /** Name of its metadata object, and of how many documents it consists. */
  metadata: string;
}

/** What only the fold reads of a study's document. */
export interface StudyState {
  series: Record<string, SeriesSummary>;
  controls: KeptControl[];
  /** What was said of entries that have not come yet, by `idKey`. */
  pending: Record<string, EntryControl>;
  /** Patients who may still list it. */
  former: string[];
}

export interface StudySource {
  tenant: string;
  uid: string;
  patient: string;
  firstOrder: string;
  series: number;
  instances: number;
  bytes: number;
  trashInstances: number;
  trashBytes: number;
  conflicts: number;
  compactable: number;
  disagrees: number;
  hold: boolean;
  changedMs: number;
  settled: number;
  revision: number;
  doc: string;
  state: string;
}
export interface SeriesSource {
  tenant: string;
  study: string;
  uid: string;
  firstOrder: string;
  number: string;
  instances: number;
  conflicts: number;
  sums: string;
  revision: number;
  doc: string;
  variants: string;
  blocks: string;
  tail: string;
  sops: number[];
}
export interface PatientState {
  studies: Record<string, PatientStudy>;
  parts: Record<string, string>;
}
/** `gone`: it is another's now; kept, so that a slower process does not bring it back. */
export interface PatientStudy {
  revision: number;
  order: string;
  first: string;
  digests: string[];
  gone?: true;
}
export interface PatientSource {
  tenant: string;
  key: string;
  live: number;
  doc: string;
  state: string;
}

const ABOVE = new Set([...LEVEL_TAGS.PATIENT, ...LEVEL_TAGS.STUDY, 0x00080060, 0x00080016].map(hexTag));

/** The distinct sets of attributes of which studies and patients are made. */
export function partsAbove(effective: readonly Variant[]): Variant[] {
  const parts = new Map<string, Variant>();
  for (const { order, attributes } of effective) {
    const part: JsonAttributes = {};
    for (const [key, element] of Object.entries(attributes)) if (ABOVE.has(key)) part[key] = element;
    const text = JSON.stringify(part);
    const known = parts.get(text);
    if (!known) parts.set(text, { order, attributes: part });
    else if (order < known.order) known.order = order;
  }
  return [...parts.values()];
}

export const correctionsIn = (state: StudyState): Correction[] =>
  state.controls
    .filter((one) => one.kind === 'overlay')
    .map((one) => ({ ...(one.body as Omit<Correction, 'order'>), order: one.sort }));

/** Fields that studies and patients are found and ordered by. */
export function lookedUpBy(doc: StudyDoc | LevelDoc, known: Record<number, string | number> = {}) {
  const fields: Record<string, unknown> = {};
  const study = 'patient' in doc ? (doc as StudyDoc) : undefined;
  let oversize = doc.partial === true;
  for (const tag of STUDY_KEYS) {
    const values = [...(study ? studyKeyValues(study, tag) : keyValues([doc], tag))];
    oversize ||= values.some((one) => one.length > TERM_MAX);
    if (values.length > 0) fields[`k${hexOf(tag)}`] = values.map(cut);
  }
  const names = (fields[`k${hexOf(Tag.PatientName)}`] as string[] | undefined) ?? [];
  const said = [...new Set(names.flatMap((name) => nameGroups(name).flatMap(words)))];
  if (said.length > 0) {
    fields.words = said.map(cut);
    fields.sounds = [...new Set(said.map(soundOf))].filter((one) => one !== '');
  }
  for (const tag of study ? STUDY_ORDERS : PATIENT_ORDERS) {
    const value = known[tag] ?? orderValue(study, doc, tag);
    fields[`o${hexOf(tag)}`] = typeof value === 'string' ? cut(value) : value;
  }
  fields.oversize = oversize;
  return fields;
}

function orderValue(study: StudyDoc | undefined, doc: LevelDoc, tag: number): string | number {
  const level = study && LEVEL_TAGS.PATIENT.includes(tag) ? study.patient : doc;
  const element = level.attributes[hexOf(tag)];
  if (tag === Tag.StudyDate) return plainDate(textOf(element)) ?? '';
  if (isNumeric(tag)) {
    const value = Number.parseFloat(textOf(element));
    return Number.isFinite(value) ? value : Number.MAX_VALUE; // what has none comes last
  }
  if (element?.vr !== 'PN') return textOf(element);
  const name = element.Value?.[0] as { Alphabetic?: string } | undefined;
  return foldCase(name?.Alphabetic ?? '');
}
