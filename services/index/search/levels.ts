import { Tag } from '#dicom/tags.ts';
import { LEVEL_TAGS } from '../fold/levels.ts';

/** PS3.4 C.6: which attribute belongs to which level, and what a row says without being asked. */
export type SearchLevel = 'PATIENT' | 'STUDY' | 'SERIES' | 'IMAGE';

export const DEPTH: Record<SearchLevel, number> = { PATIENT: 0, STUDY: 1, SERIES: 2, IMAGE: 3 };

const SOP_CLASSES_IN_STUDY = Tag.SOPClassesInStudy;

/** What the index knows beside the documents of the rows (PS3.4 C.3.4). */
export const COMPUTED: Record<SearchLevel, readonly number[]> = {
  PATIENT: [Tag.NumberOfPatientRelatedStudies, Tag.NumberOfPatientRelatedSeries, Tag.NumberOfPatientRelatedInstances],
  STUDY: [
    Tag.StudyInstanceUID,
    Tag.ModalitiesInStudy,
    SOP_CLASSES_IN_STUDY,
    Tag.NumberOfStudyRelatedSeries,
    Tag.NumberOfStudyRelatedInstances,
  ],
  SERIES: [Tag.SeriesInstanceUID, Tag.NumberOfSeriesRelatedInstances],
  IMAGE: [
    Tag.SOPClassUID,
    Tag.SOPInstanceUID,
    Tag.InstanceNumber,
    Tag.Rows,
    Tag.Columns,
    Tag.BitsAllocated,
    Tag.NumberOfFrames,
  ],
};

const homes = new Map<number, SearchLevel>();
for (const level of ['PATIENT', 'STUDY', 'SERIES'] as const) for (const tag of LEVEL_TAGS[level]) homes.set(tag, level);
for (const level of ['PATIENT', 'STUDY', 'SERIES', 'IMAGE'] as const)
  for (const tag of COMPUTED[level]) homes.set(tag, level); // SOPClassUID stands in series documents, but is an instance's

/** Where a key is tried. What no document holds is read from the instances' headers: any value that a live instance carries. */
export const homeOf = (tag: number): SearchLevel => homes.get(tag) ?? 'IMAGE';
/** False for attributes of which only a header knows. Those may be asked for at any level: the representative instance tells. */
export const isKnown = (tag: number): boolean => homes.has(tag);

/** Keys that say where an entity is, not what it is: never matched (PS3.4 C.4.1.1.3.2). */
export const NEVER_MATCHED: ReadonlySet<number> = new Set([
  Tag.SpecificCharacterSet,
  Tag.QueryRetrieveLevel,
  Tag.RetrieveAETitle,
  Tag.InstanceAvailability,
  Tag.RetrieveURL,
  Tag.TimezoneOffsetFromUTC,
]);

/** PS3.18 Tables 10.6.3-3 to 10.6.3-5: always in a row, without a value where none is known. */
export const ALWAYS: Record<SearchLevel, readonly number[]> = {
  PATIENT: [Tag.PatientName, Tag.PatientID, Tag.PatientBirthDate, Tag.PatientSex],
  STUDY: [
    Tag.StudyDate,
    Tag.StudyTime,
    Tag.AccessionNumber,
    Tag.ModalitiesInStudy,
    Tag.ReferringPhysicianName,
    Tag.PatientName,
    Tag.PatientID,
    Tag.PatientBirthDate,
    Tag.PatientSex,
    Tag.StudyInstanceUID,
    Tag.StudyID,
    Tag.NumberOfStudyRelatedSeries,
    Tag.NumberOfStudyRelatedInstances,
  ],
  SERIES: [
    Tag.Modality,
    Tag.StudyInstanceUID,
    Tag.SeriesInstanceUID,
    Tag.SeriesNumber,
    Tag.NumberOfSeriesRelatedInstances,
  ],
  IMAGE: [Tag.SOPClassUID, Tag.SOPInstanceUID, Tag.StudyInstanceUID, Tag.SeriesInstanceUID, Tag.InstanceNumber],
};
/** In a row where they are known. */
export const IF_KNOWN: Record<SearchLevel, readonly number[]> = {
  PATIENT: [Tag.IssuerOfPatientID],
  STUDY: [Tag.TimezoneOffsetFromUTC],
  SERIES: [
    Tag.TimezoneOffsetFromUTC,
    Tag.SeriesDescription,
    Tag.PerformedProcedureStepStartDate,
    Tag.PerformedProcedureStepStartTime,
  ],
  IMAGE: [Tag.TimezoneOffsetFromUTC, Tag.Rows, Tag.Columns, Tag.BitsAllocated, Tag.NumberOfFrames],
};
/** Of Request Attributes Sequence a series row gives only these two of each item. */
export const SERIES_REQUEST_PATHS: readonly (readonly number[])[] = [
  [Tag.RequestAttributesSequence, Tag.ScheduledProcedureStepID],
  [Tag.RequestAttributesSequence, Tag.RequestedProcedureID],
];
