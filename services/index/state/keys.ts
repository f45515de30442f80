import { hexTag } from '../fold/levels.ts';
import type { JsonElement, LevelDoc, StudyDoc } from '../fold/types.ts';
import { canonical, trimGroup } from '../search/match-text.ts';
import { plainDate } from '../search/match-time.ts';

/** What studies are looked up by; ModalitiesInStudy (0008,0061) stands for every series' Modality. */
export const STUDY_KEYS: readonly number[] = [
  0x00080020, // StudyDate
  0x00080050, // AccessionNumber
  0x00080061, // ModalitiesInStudy
  0x00080090, // ReferringPhysicianName
  0x00081030, // StudyDescription
  0x00100010, // PatientName
  0x00100020, // PatientID
  0x00100021, // IssuerOfPatientID
  0x00100030, // PatientBirthDate
  0x00200010, // StudyID
];

/**
 * What is looked up is written as it is compared (search/match-text.ts): a person's name without regard to case (PS3.4 C.2.2.2.1), every
 * name group its own row; a date as YYYYMMDD, also where a sender wrote 1993.08.22; everything else as it is.
 */
export const keyText = (vr: string, text: string): string =>
  vr === 'PN' ? trimGroup(text) : vr === 'DA' ? (plainDate(text) ?? text) : canonical(text);

/** Of an element, as it is looked up; every name group of a person's name by itself. */
function textsOf(element: JsonElement): string[] {
  const texts: string[] = [];
  for (const value of element.Value ?? []) {
    const parts = typeof value === 'object' && value !== null ? Object.values(value) : [value];
    for (const part of parts)
      if (typeof part === 'string' || typeof part === 'number') texts.push(keyText(element.vr, String(part)));
  }
  return texts.filter((one) => one !== '');
}

/** Every value of the key that any live instance carries. */
export function keyValues(levels: readonly LevelDoc[], tag: number): Set<string> {
  const hex = hexTag(tag);
  const values = new Set<string>();
  for (const level of levels) {
    const shown = level.attributes[hex];
    for (const element of [...(shown ? [shown] : []), ...(level.values[hex] ?? [])])
      for (const text of textsOf(element)) values.add(text);
  }
  return values;
}

export function studyKeyValues(doc: StudyDoc, tag: number): Set<string> {
  const values = keyValues([doc, doc.patient], tag);
  if (tag === 0x00080061) for (const modality of doc.modalities) values.add(modality);
  return values;
}

/** Every key of a study: tag, NUL, value. */
export function keysOf(doc: StudyDoc): Set<string> {
  const keys = new Set<string>();
  for (const tag of STUDY_KEYS) for (const value of studyKeyValues(doc, tag)) keys.add(`${tag}\u0000${value}`);
  return keys;
}
