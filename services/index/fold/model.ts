import type { EntryId, Instance } from '#proto/storage/v1/log.ts';
import { type Describe, overlayAttributes, type RawCommit, readCommit } from './commit.ts';
import { joinControl, patchesOf } from './control.ts';
import {
  type Correction,
  correct,
  correctionsFor,
  identify,
  identityOf,
  lastMerges,
  type Merge,
  patientKey,
} from './correct.ts';
import { compactableOf, orderOfRecord, viewSeries } from './instance.ts';
import { disagrees, levelDoc, seriesDoc, studyDoc, type Variant } from './levels.ts';
import { idKey, msOfStamp, orderOf } from './order.ts';
import type { EntryControl, EntryRecord, InstanceView, LevelDoc, SeriesDoc, StudyDoc, VersionPolicy } from './types.ts';

/** What any index of these commits must say, written without regard to cost: the yardstick for the live and the rebuilt index. */
export interface IndexState {
  studies: StudyState[];
  patients: { key: string; doc: LevelDoc; studies: string[] }[];
}
export interface StudyState {
  studyInstanceUid: string;
  doc: StudyDoc;
  instances: number;
  bytes: number;
  trashInstances: number;
  trashBytes: number;
  conflicts: number;
  compactable: number;
  disagrees: boolean;
  hold: boolean;
  changedMs: number;
  series: SeriesStateView[];
}
export interface SeriesStateView {
  seriesInstanceUid: string;
  doc: SeriesDoc;
  instances: number;
  views: InstanceSummary[];
}
/** An InstanceView by entry ids and places: what two indexes can be compared by. */
export interface InstanceSummary {
  sopInstanceUid: string;
  shown: string;
  conflict: boolean;
  renditions: string[];
  hidden: string[];
  trashed: string[];
  kept: string[];
  spare: string[];
  purged: string[];
}

const say = (one: EntryRecord): string =>
  `${idKey(one.id)} @ ${one.place.object}:${one.place.offset}+${one.place.length} #${one.instanceNumber} ${one.digest.toString('hex').slice(0, 8)}`;
export const summarize = (view: InstanceView): InstanceSummary => ({
  sopInstanceUid: view.sopInstanceUid,
  shown: view.shown ? say(view.shown) : '',
  conflict: view.conflict,
  renditions: view.renditions.map(say),
  hidden: view.hidden.map(say),
  trashed: view.trashed.map(say),
  kept: view.kept.map(say),
  spare: view.spare.map(say),
  purged: view.purged.map(say),
});

export function modelOf(raws: readonly RawCommit[], policy: VersionPolicy, describe: Describe): IndexState {
  const commits = new Map<string, ReturnType<typeof readCommit>>();
  for (const raw of raws) commits.set(`${raw.lane}/${raw.sequence}`, readCommit(raw));
  const instances: { id: EntryId; stamp: string; instance: Instance }[] = [];
  const controls = new Map<string, EntryControl>();
  const corrections = new Map<string, Correction[]>();
  const merges: Merge[] = [];
  const holds = new Map<string, { order: string; on: boolean }>();
  const newest = new Map<string, number>();
  const touch = (study: string, stamp: string) => newest.set(study, Math.max(newest.get(study) ?? 0, msOfStamp(stamp)));
  for (const { entries } of commits.values())
    for (const { id, entry } of entries) {
      const order = orderOf(entry.stamp, id);
      for (const { studyInstanceUid, id: named, control } of patchesOf(id, entry)) {
        const key = `${studyInstanceUid}\u0000${idKey(named)}`;
        controls.set(key, joinControl(controls.get(key), control)!);
      }
      const kind = entry.kind!;
      switch (kind.$case) {
        case 'instance':
        case 'large':
          instances.push({ id, stamp: entry.stamp, instance: kind.value });
          touch(kind.value.studyInstanceUid, entry.stamp);
          break;
        case 'delete':
        case 'restore':
          touch(kind.value.studyInstanceUid, entry.stamp);
          break;
        case 'decision':
          touch(kind.value.subject, entry.stamp);
          break;
        case 'overlay': {
          const attributes = overlayAttributes(kind.value.dataSetJson);
          if (!attributes) break;
          const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = kind.value;
          touch(studyInstanceUid, entry.stamp);
          const known = corrections.get(studyInstanceUid) ?? [];
          corrections.set(studyInstanceUid, [...known, { order, seriesInstanceUid, sopInstanceUid, attributes }]);
          break;
        }
        case 'hold': {
          const known = holds.get(kind.value.studyInstanceUid);
          if (!known || known.order < order) holds.set(kind.value.studyInstanceUid, { order, on: kind.value.on });
          break;
        }
        case 'identity': {
          const { fromPatient, fromIssuer, toPatient, toIssuer } = kind.value;
          if (kind.value.kind === 'merge' && fromPatient !== '' && toPatient !== '')
            merges.push({
              order,
              from: { patientId: fromPatient, issuer: fromIssuer },
              to: { patientId: toPatient, issuer: toIssuer },
            });
          break;
        }
      }
    }
  const merged = lastMerges(merges);
  const byStudy = Map.groupBy(instances, (one) => one.instance.studyInstanceUid);
  const studies: StudyState[] = [];
  const patients = new Map<string, { variants: Variant[]; studies: { order: string; uid: string; doc: LevelDoc }[] }>();
  for (const [studyInstanceUid, arrivals] of byStudy) {
    const own = corrections.get(studyInstanceUid) ?? [];
    const variants: Variant[] = [];
    const study: StudyState = {
      studyInstanceUid,
      doc: studyDoc([]),
      instances: 0,
      bytes: 0,
      trashInstances: 0,
      trashBytes: 0,
      conflicts: 0,
      compactable: 0,
      disagrees: false,
      hold: holds.get(studyInstanceUid)?.on ?? false,
      changedMs: newest.get(studyInstanceUid)!,
      series: [],
    };
    for (const [seriesInstanceUid, members] of Map.groupBy(arrivals, (one) => one.instance.seriesInstanceUid)) {
      const attributesOf = new Map<string, Variant['attributes']>();
      const records = members.map(({ id, stamp, instance }) => {
        const description = describe(instance);
        attributesOf.set(idKey(id), description.attributes);
        const record: EntryRecord = {
          id,
          stamp,
          sopInstanceUid: instance.sopInstanceUid,
          sopClassUid: instance.sopClassUid,
          transferSyntaxUid: instance.transferSyntaxUid,
          version: Buffer.from(instance.version),
          digest: Buffer.from(instance.digest),
          place: instance.place!,
          dataSetOffset: instance.dataSetOffset,
          instanceNumber: description.instanceNumber,
          numberOfFrames: description.numberOfFrames,
          rows: description.rows,
          columns: description.columns,
          bitsAllocated: description.bitsAllocated,
          variant: 0,
        };
        const control = controls.get(`${studyInstanceUid}\u0000${idKey(id)}`);
        if (control) record.control = control;
        return record;
      });
      const views = viewSeries(records, policy);
      const carried: Variant[] = [];
      for (const view of views) {
        for (const one of view.trashed) study.trashBytes += one.place.length;
        if (view.trashed.length > 0) study.trashInstances++;
        if (view.conflict) study.conflicts++;
        study.compactable += compactableOf(view);
        if (!view.shown) continue;
        study.instances++;
        study.bytes += view.shown.place.length;
        const over = correctionsFor(own, seriesInstanceUid, view.sopInstanceUid);
        const attributes = identify(correct(attributesOf.get(idKey(view.shown.id))!, over), merged);
        carried.push({ order: orderOfRecord(view.shown), attributes });
      }
      variants.push(...carried);
      study.series.push({
        seriesInstanceUid,
        doc: seriesDoc(carried),
        instances: carried.length,
        views: views.map(summarize).sort((a, b) => (a.sopInstanceUid < b.sopInstanceUid ? -1 : 1)),
      });
    }
    study.series.sort((a, b) => (a.seriesInstanceUid < b.seriesInstanceUid ? -1 : 1));
    if (variants.length > 0) {
      study.doc = studyDoc(variants);
      study.disagrees = disagrees(study.doc) || disagrees(study.doc.patient);
      const identity = identityOf(study.doc.patient.attributes);
      const key = identity.patientId === '' ? `\u0000${studyInstanceUid}` : patientKey(identity);
      let patient = patients.get(key);
      if (!patient) patients.set(key, (patient = { variants: [], studies: [] }));
      const order = variants.map((one) => one.order).sort()[0]!;
      patient.studies.push({ order, uid: studyInstanceUid, doc: study.doc.patient });
      patient.variants.push(...variants.map((one) => ({ ...one, order: '1' })));
    }
    studies.push(study);
  }
  studies.sort((a, b) => (a.studyInstanceUid < b.studyInstanceUid ? -1 : 1));
  return {
    studies,
    patients: [...patients]
      .map(([key, patient]) => {
        const [first] = patient.studies.sort((a, b) => (a.order < b.order ? -1 : 1));
        const doc = levelDoc('PATIENT', [{ order: '0', attributes: first!.doc.attributes }, ...patient.variants]);
        return { key, doc, studies: patient.studies.map((one) => one.uid).sort() };
      })
      .sort((a, b) => (a.key < b.key ? -1 : 1)),
  };
}
