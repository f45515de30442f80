import { Tag } from '#dicom/tags.ts';
import { disagrees, studyDoc, type Variant } from '../../fold/levels.ts';
import type { StudyDoc } from '../../fold/types.ts';
import { EMPTY_STUDY } from '../../state/study-docs.ts';
import { lookedUpBy, type StudySource, type StudyState } from './documents.ts';
import type { At, Write } from './documents-store.ts';

/** Attempts at what other processes write too; each waits a little longer, at random. */
export const ATTEMPTS = 20;
export const STUDIES_HELD_MAX = 2_000;

/** A study as a folding process holds it: its document is made of what its series say. */
export interface Study {
  id: string;
  at: At | undefined;
  source: StudySource;
  state: StudyState;
}

export const newStudy = (tenant: string, uid: string, id: string): Study => ({
  id,
  at: undefined,
  source: {
    tenant,
    uid,
    patient: '',
    firstOrder: '',
    series: 0,
    instances: 0,
    bytes: 0,
    trashInstances: 0,
    trashBytes: 0,
    conflicts: 0,
    compactable: 0,
    disagrees: 0,
    hold: false,
    changedMs: 0,
    settled: 2, // nothing is there to settle before something arrives
    revision: 0,
    doc: JSON.stringify(EMPTY_STUDY),
    state: '',
  },
  state: { series: {}, controls: [], pending: {}, former: [] },
});

export const variantsOf = (state: StudyState): Variant[] =>
  Object.values(state.series).flatMap((one) => (one.instances > 0 ? one.parts : []));

export function documentOf({ source, state }: Study): { doc: StudyDoc } {
  const doc = source.instances > 0 ? studyDoc(variantsOf(state)) : EMPTY_STUDY;
  source.doc = JSON.stringify(doc);
  source.disagrees = disagrees(doc) || disagrees(doc.patient) ? 1 : 0;
  return { doc };
}

export function sumSeries(source: StudySource, state: StudyState): void {
  source.series = source.instances = source.bytes = source.trashInstances = 0;
  source.trashBytes = source.conflicts = source.compactable = 0;
  source.firstOrder = '';
  for (const one of Object.values(state.series)) {
    if (one.instances > 0) {
      source.series++;
      if (source.firstOrder === '' || one.firstOrder < source.firstOrder) source.firstOrder = one.firstOrder;
    }
    source.instances += one.instances;
    source.bytes += one.bytes;
    source.trashInstances += one.trashInstances;
    source.trashBytes += one.trashBytes;
    source.conflicts += one.conflicts;
    source.compactable += one.compactable;
  }
}

export function studyWrite({ id, at, source, state }: Study): Write {
  const doc = JSON.parse(source.doc) as StudyDoc;
  const known = {
    [Tag.StudyInstanceUID]: source.uid,
    [Tag.NumberOfStudyRelatedInstances]: source.instances,
    [Tag.NumberOfStudyRelatedSeries]: source.series,
    [Tag.ModalitiesInStudy]: doc.modalities.join('\\'),
  };
  return {
    index: 'studies',
    id,
    at,
    source: { ...source, ...lookedUpBy(doc, known), state: JSON.stringify(state) },
  };
}
