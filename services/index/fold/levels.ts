import type { JsonAttributes, JsonElement, LevelDoc, SeriesDoc, StudyDoc } from './types.ts';

export type Level = 'PATIENT' | 'STUDY' | 'SERIES';

/**
 * The attributes that rows keep, by the level to which PS3.3 and PS3.4 C.6 give them: what C-FIND and QIDO match or return without
 * reading headers. SOPClassUID stands with the series: from it comes SOPClassesInStudy.
 */
export const LEVEL_TAGS: Record<Level, readonly number[]> = {
  PATIENT: [
    0x00100010, // PatientName
    0x00100020, // PatientID
    0x00100021, // IssuerOfPatientID
    0x00100024, // IssuerOfPatientIDQualifiersSequence
    0x00100030, // PatientBirthDate
    0x00100032, // PatientBirthTime
    0x00100040, // PatientSex
    0x00101000, // OtherPatientIDs
    0x00101001, // OtherPatientNames
    0x00101002, // OtherPatientIDsSequence
    0x00102160, // EthnicGroup
    0x00104000, // PatientComments
    0x00100200, // QualityControlSubject
    0x00102201, // PatientSpeciesDescription
    0x00102292, // PatientBreedDescription
    0x00102297, // ResponsiblePerson
    0x00102299, // ResponsibleOrganization
  ],
  STUDY: [
    0x00080020, // StudyDate
    0x00080030, // StudyTime
    0x00080050, // AccessionNumber
    0x00080051, // IssuerOfAccessionNumberSequence
    0x00080090, // ReferringPhysicianName
    0x00080201, // TimezoneOffsetFromUTC
    0x00081030, // StudyDescription
    0x00081032, // ProcedureCodeSequence
    0x00081048, // PhysiciansOfRecord
    0x00081060, // NameOfPhysiciansReadingStudy
    0x00081080, // AdmittingDiagnosesDescription
    0x00101010, // PatientAge
    0x00101020, // PatientSize
    0x00101030, // PatientWeight
    0x00102180, // Occupation
    0x001021b0, // AdditionalPatientHistory
    0x00200010, // StudyID
    0x00321032, // RequestingPhysician
    0x00321033, // RequestingService
    0x00321060, // RequestedProcedureDescription
    0x00380010, // AdmissionID
  ],
  SERIES: [
    0x00080016, // SOPClassUID
    0x00080021, // SeriesDate
    0x00080031, // SeriesTime
    0x00080060, // Modality
    0x00080070, // Manufacturer
    0x00080080, // InstitutionName
    0x00081010, // StationName
    0x0008103e, // SeriesDescription
    0x00081040, // InstitutionalDepartmentName
    0x00081050, // PerformingPhysicianName
    0x00081070, // OperatorsName
    0x00081090, // ManufacturerModelName
    0x00081111, // ReferencedPerformedProcedureStepSequence
    0x00180015, // BodyPartExamined
    0x00181030, // ProtocolName
    0x00185100, // PatientPosition
    0x00200011, // SeriesNumber
    0x00200052, // FrameOfReferenceUID
    0x00200060, // Laterality
    0x00400244, // PerformedProcedureStepStartDate
    0x00400245, // PerformedProcedureStepStartTime
    0x00400253, // PerformedProcedureStepID
    0x00400254, // PerformedProcedureStepDescription
    0x00400275, // RequestAttributesSequence
  ],
};

export const hexTag = (tag: number): string => tag.toString(16).toUpperCase().padStart(8, '0');
const LEVEL_KEYS = {
  PATIENT: LEVEL_TAGS.PATIENT.map(hexTag),
  STUDY: LEVEL_TAGS.STUDY.map(hexTag),
  SERIES: LEVEL_TAGS.SERIES.map(hexTag),
} as const;
/** All of them, in tag order: what is taken from a header. */
export const VARIANT_TAGS: readonly number[] = Object.values(LEVEL_TAGS)
  .flat()
  .sort((a, b) => a - b);

/** Corrections never change what an instance is, nor where it belongs. */
export const UNCORRECTABLE: ReadonlySet<string> = new Set(['00080005', '00080016', '00080018', '0020000D', '0020000E']);

/** One distinct set of attributes, and the first live instance that carries it. */
export interface Variant {
  order: string;
  attributes: JsonAttributes;
}

const firstOf = (variants: readonly Variant[]): Variant | undefined => {
  let first: Variant | undefined;
  for (const one of variants) if (!first || one.order < first.order) first = one;
  return first;
};

const isEmpty = (element: JsonElement | undefined): boolean =>
  !element ||
  (element.InlineBinary === undefined && element.BulkDataURI === undefined && (element.Value?.length ?? 0) === 0);

/** The row of one level: the winner's attributes, and every other value where the live instances disagree. */
export function levelDoc(level: Level, variants: readonly Variant[]): LevelDoc {
  const doc: LevelDoc = { attributes: {}, values: {} };
  const winner = firstOf(variants);
  if (!winner) return doc;
  for (const key of LEVEL_KEYS[level]) {
    const shown = winner.attributes[key];
    if (shown) doc.attributes[key] = shown;
    if (variants.length === 1) continue;
    const others = new Map<string, JsonElement>();
    const own = JSON.stringify(shown);
    for (const { attributes } of variants) {
      const element = attributes[key];
      if (isEmpty(element)) continue;
      const text = JSON.stringify(element);
      if (text !== own) others.set(text, element!);
    }
    if (others.size > 0)
      doc.values[key] = [...others].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([, element]) => element);
  }
  return doc;
}

/** True where two live instances carry different values; one without a value contradicts nobody. */
export const disagrees = (doc: LevelDoc): boolean =>
  Object.entries(doc.values).some(([key, others]) => others.length > 1 || !isEmpty(doc.attributes[key]));

export const textOf = (element: JsonElement | undefined): string => {
  const value = element?.Value?.[0];
  if (value === null || value === undefined) return '';
  if (typeof value === 'object') return Object.values(value as Record<string, string>).join('=');
  return String(value);
};

const distinct = (texts: Iterable<string>): string[] => [...new Set(texts)].filter((one) => one !== '').sort();

export function seriesDoc(variants: readonly Variant[]): SeriesDoc {
  return {
    ...levelDoc('SERIES', variants),
    sopClasses: distinct(variants.map((one) => textOf(one.attributes['00080016']))),
  };
}

export function studyDoc(variants: readonly Variant[]): StudyDoc {
  // "Never return it empty": one study with (0008,0061) without a value breaks OHIF's whole study list. OT is "Other" (PS3.3 C.7.3.1.1.1).
  const modalities = distinct(variants.map((one) => textOf(one.attributes['00080060']) || 'OT'));
  return {
    ...levelDoc('STUDY', variants),
    patient: levelDoc('PATIENT', variants),
    modalities,
    sopClasses: distinct(variants.map((one) => textOf(one.attributes['00080016']))),
  };
}
