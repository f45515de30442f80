import { DataSet } from '#dicom/dataset.ts';
import { Tag } from '#dicom/tags.ts';
import type { Incoming } from '#dimse/types.ts';
import { GantryError } from '#platform/errors.ts';
import type { LocateRequest } from '#proto/index/v1/index.ts';
import { granted } from './policy.ts';
import { modelOf } from './services.ts';
import type { Session } from './session.ts';

type Level = 'PATIENT' | 'STUDY' | 'SERIES' | 'IMAGE';

/** The identifier of a request, at most `dimse.identifierMax` bytes. */
export async function readIdentifier(session: Session, incoming: Incoming): Promise<DataSet> {
  if (incoming.data === undefined) throw new GantryError('invalid-argument', 'the request carries no identifier');
  const buffer = await incoming.whole(session.door.context.settings.number('dimse.identifierMax'));
  return new DataSet(
    { buffer, transferSyntaxUid: incoming.transferSyntax },
    { charsetDefault: session.peer?.defaultCharset || undefined },
  );
}

/**
 * What a C-MOVE or C-GET names (PS3.4 §C.4.2.2.1): one unique key above the level, one or a list at it, no wildcards. A list of series
 * or instances without the keys above needs relational retrieval, or a peer that is set `relationalLenient`.
 */
export function retrieveRequest(session: Session, incoming: Incoming, identifier: DataSet): Partial<LocateRequest> {
  const model = modelOf(incoming.abstractSyntax)!;
  const uids = (tag: number): string[] => identifier.strings(tag).filter((uid) => uid !== '');
  // In Study Root it is no unique key, and whatever it says is not asked for.
  const patientIds = model.name === 'study-root' ? [] : identifier.strings(Tag.PatientID);
  const patientId = patientIds[0]?.trim() ?? '';
  const studies = uids(Tag.StudyInstanceUID);
  const series = uids(Tag.SeriesInstanceUID);
  const instances = uids(Tag.SOPInstanceUID);
  const said = identifier.string(Tag.QueryRetrieveLevel)?.trim().toUpperCase();
  // A missing level is the lowest unique key that is there: some SCUs leave it out.
  const level = (said ||
    (instances.length > 0
      ? 'IMAGE'
      : series.length > 0
        ? 'SERIES'
        : studies.length > 0
          ? 'STUDY'
          : 'PATIENT')) as Level;
  if (!['PATIENT', 'STUDY', 'SERIES', 'IMAGE'].includes(level))
    throw refuse('Query/Retrieve Level is none of PATIENT, STUDY, SERIES, IMAGE', Tag.QueryRetrieveLevel);
  if (level === 'PATIENT' && model.name === 'study-root')
    throw refuse('Study Root has no PATIENT level', Tag.QueryRetrieveLevel);
  if ((level === 'SERIES' || level === 'IMAGE') && model.name === 'patient-study-only')
    throw refuse('Patient/Study Only ends at STUDY level', Tag.QueryRetrieveLevel);

  for (const [tag, values] of [
    [Tag.PatientID, patientIds],
    [Tag.StudyInstanceUID, studies],
    [Tag.SeriesInstanceUID, series],
    [Tag.SOPInstanceUID, instances],
  ] as const) {
    if (values.some((value) => value.includes('*') || (tag !== Tag.PatientID && value.includes('?'))))
      throw refuse('a unique key of a retrieval holds a wildcard', tag);
  }
  if (patientIds.length > 1) throw refuse('more than one Patient ID in a retrieval', Tag.PatientID);
  const relational =
    granted(session.association, incoming.abstractSyntax, 0) || session.peer?.relationalLenient === true;
  const need = (present: boolean, name: string, tag: number): void => {
    if (!present) throw refuse(`${level}-level retrieval needs ${name}`, tag);
  };
  const above = (values: string[], name: string, tag: number): void => {
    if (!relational) need(values.length > 0, name, tag);
    if (values.length > 1) throw refuse(`more than one ${name} above the level of a retrieval`, tag);
  };
  // Below PATIENT level a Patient ID may be left out, since the Study Instance UID says as much; where it is given, it counts.
  if (level === 'PATIENT') {
    need(patientId !== '', 'Patient ID', Tag.PatientID); // an empty one joins nobody
    return { patientId };
  }
  if (level === 'STUDY') {
    need(studies.length > 0, 'Study Instance UID', Tag.StudyInstanceUID);
    return { patientId, studyInstanceUids: studies };
  }
  above(studies, 'Study Instance UID', Tag.StudyInstanceUID);
  if (level === 'SERIES') {
    need(series.length > 0, 'Series Instance UID', Tag.SeriesInstanceUID);
    return { patientId, studyInstanceUids: studies, seriesInstanceUids: series };
  }
  above(series, 'Series Instance UID', Tag.SeriesInstanceUID);
  need(instances.length > 0, 'SOP Instance UID', Tag.SOPInstanceUID);
  return { patientId, studyInstanceUids: studies, seriesInstanceUids: series, sopInstanceUids: instances };
}

const refuse = (message: string, tag: number): GantryError =>
  new GantryError('invalid-argument', message, { offendingElements: [tag] });
