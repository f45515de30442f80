import { hash } from 'node:crypto';
import { identityOf, patientKey } from '../fold/correct.ts';
import { hexTag, LEVEL_TAGS, levelDoc, type Variant } from '../fold/levels.ts';
import type { JsonAttributes, LevelDoc, StudyDoc } from '../fold/types.ts';

export const EMPTY_STUDY: StudyDoc = {
  attributes: {},
  values: {},
  patient: { attributes: {}, values: {} },
  modalities: [],
  sopClasses: [],
};

const PATIENT_KEYS = LEVEL_TAGS.PATIENT.map(hexTag);
const patientPart = (attributes: JsonAttributes): JsonAttributes => {
  const part: JsonAttributes = {};
  for (const key of PATIENT_KEYS) if (attributes[key]) part[key] = attributes[key];
  return part;
};

/** The distinct sets of patient attributes that a study's instances carry: digest → JSON. */
export function patientParts(variants: readonly Variant[]): Map<string, string> {
  const parts = new Map<string, string>();
  for (const { attributes } of variants) {
    const text = JSON.stringify(patientPart(attributes));
    parts.set(hash('sha256', text, 'hex').slice(0, 24), text);
  }
  return parts;
}

/** A patient is (Patient ID, issuer); an empty Patient ID never joins two studies: its key is the study's UID. */
export function patientOfStudy(studyInstanceUid: string, doc: StudyDoc) {
  const identity = identityOf(doc.patient.attributes);
  return { ...identity, key: identity.patientId === '' ? `\u0000${studyInstanceUid}` : patientKey(identity) };
}

/** An archive of a hundred thousand studies of "ANONYMOUS": beyond these many, the row stops collecting and says so. */
export const PATIENT_VARIANTS_MAX = 100;

/** A patient's row: the attributes of the study that came first, and what the others carry, `parts` in order of their digests. */
export function patientDoc(winner: JsonAttributes, parts: readonly string[]): LevelDoc {
  const variants: Variant[] = [{ order: '0', attributes: winner }];
  for (const text of parts.slice(0, PATIENT_VARIANTS_MAX))
    variants.push({ order: '1', attributes: JSON.parse(text) as JsonAttributes });
  const doc = levelDoc('PATIENT', variants);
  if (parts.length > PATIENT_VARIANTS_MAX) doc.partial = true;
  return doc;
}
