import type { EntryId, Instance } from '#proto/storage/v1/log.ts';
import {
  type Describe,
  type Description,
  overlayAttributes,
  type RawCommit,
  type ReadableCommit,
  readCommit,
  StrangeCommit,
} from '../fold/commit.ts';
import { type ControlPatch, patchesOf } from '../fold/control.ts';
import { idKey, msOfStamp, orderOf } from '../fold/order.ts';
import { formOf } from '../fold/prefix.ts';
import type { EntryRecord } from '../fold/types.ts';

export interface FoldResult {
  commits: number;
  instances: number;
  positions: { lane: string; sequence: number }[];
  changedStudies: string[];
  /** The stamp of the oldest instance among them: how long a store waited to be found. */
  oldestMs?: number;
  /** Lanes that stopped at a commit which this release cannot understand, and headers that could not be read. */
  alarms: string[];
  /** Lanes in which a commit is missing: only a rebuild helps. */
  gaps: string[];
}

export const emptyResult = (): FoldResult => ({
  commits: 0,
  instances: 0,
  positions: [],
  changedStudies: [],
  alarms: [],
  gaps: [],
});

export interface Arrival {
  id: EntryId;
  stamp: string;
  instance: Instance;
}

/** A control entry as it is kept for what is asked later: who deleted and why, corrections, holds, merges. */
export interface KeptControl {
  sort: string; // orderOf
  kind: 'delete' | 'restore' | 'decision' | 'hold' | 'overlay' | 'identity';
  body: unknown;
}
/** Of which the newest says when a study was last touched, also before anything of it had arrived. */
export const TOUCHING: ReadonlySet<string> = new Set(['delete', 'restore', 'decision', 'overlay']);

/** What some commits have to say to one study. */
export interface StudyWork {
  arrivals: Map<string, Arrival[]>; // by series
  patches: ControlPatch[];
  controls: KeptControl[];
  newestMs: number;
  recompute: boolean;
  unsettles: boolean;
}
export const newWork = (): StudyWork => ({
  arrivals: new Map(),
  patches: [],
  controls: [],
  newestMs: 0,
  recompute: false,
  unsettles: false,
});

/** Each lane in its sequence: what is folded already is passed over, a missing or strange commit ends the lane's part. */
export function readableCommits(
  raws: readonly RawCommit[],
  known: (lane: string) => number,
  options: { acceptGaps: boolean; stopped: Set<string>; result: FoldResult },
): ReadableCommit[] {
  const { acceptGaps, stopped, result } = options;
  const reached = new Map<string, number>();
  const ended = new Set<string>();
  const commits: ReadableCommit[] = [];
  for (const raw of raws) {
    const { lane, sequence } = raw;
    if (ended.has(lane) || stopped.has(lane)) continue;
    const before = reached.get(lane) ?? known(lane);
    if (sequence <= before) continue;
    if (sequence !== before + 1 && !acceptGaps) {
      result.gaps.push(lane);
      ended.add(lane);
      continue;
    }
    try {
      commits.push(readCommit(raw));
    } catch (error) {
      if (!(error instanceof StrangeCommit)) throw error;
      result.alarms.push(error.message);
      stopped.add(lane);
      continue;
    }
    reached.set(lane, sequence);
  }
  result.commits = commits.length;
  result.positions = [...reached].map(([lane, sequence]) => ({ lane, sequence }));
  return commits;
}

/** Commits sorted by what they speak of; identities (merges) are nobody's study. */
export function sortCommits(
  commits: readonly ReadableCommit[],
  result: FoldResult,
): { studies: Map<string, StudyWork>; identities: KeptControl[] } {
  const studies = new Map<string, StudyWork>();
  const identities: KeptControl[] = [];
  const workOf = (studyInstanceUid: string): StudyWork => {
    let work = studies.get(studyInstanceUid);
    if (!work) studies.set(studyInstanceUid, (work = newWork()));
    return work;
  };
  for (const commit of commits)
    for (const { id, entry } of commit.entries) {
      const kind = entry.kind!;
      const ms = msOfStamp(entry.stamp);
      if (kind.$case === 'instance' || kind.$case === 'large') {
        const work = workOf(kind.value.studyInstanceUid);
        const series = work.arrivals.get(kind.value.seriesInstanceUid);
        const arrival: Arrival = { id, stamp: entry.stamp, instance: kind.value };
        if (series) series.push(arrival);
        else work.arrivals.set(kind.value.seriesInstanceUid, [arrival]);
        work.newestMs = Math.max(work.newestMs, ms);
        work.unsettles = true;
        result.instances++;
        result.oldestMs = Math.min(result.oldestMs ?? ms, ms);
        continue;
      }
      for (const patch of patchesOf(id, entry)) workOf(patch.studyInstanceUid).patches.push(patch);
      const kept = keptControl(id, entry, result.alarms);
      if (!kept) continue;
      if (kept.control.kind === 'identity') {
        identities.push(kept.control);
        continue;
      }
      const work = workOf(kept.study);
      work.controls.push(kept.control);
      if (kept.control.kind === 'overlay') work.recompute = true;
      if (kept.control.kind !== 'hold') {
        work.newestMs = Math.max(work.newestMs, ms);
        work.unsettles = true;
      }
    }
  return { studies, identities };
}

function keptControl(
  id: EntryId,
  entry: ReadableCommit['entries'][number]['entry'],
  alarms: string[],
): { study: string; control: KeptControl } | undefined {
  const kind = entry.kind!;
  const keep = (study: string, as: KeptControl['kind'], body: unknown) => ({
    study,
    control: { sort: orderOf(entry.stamp, id), kind: as, body },
  });
  switch (kind.$case) {
    case 'delete':
      return keep(kind.value.studyInstanceUid, 'delete', { actor: kind.value.actor, reason: kind.value.reason });
    case 'restore':
      return keep(kind.value.studyInstanceUid, 'restore', { actor: kind.value.actor });
    case 'decision':
      return keep(kind.value.subject, 'decision', { actor: kind.value.actor, verdict: kind.value.verdict });
    case 'hold': {
      const { on, reason, actor } = kind.value;
      return keep(kind.value.studyInstanceUid, 'hold', { on, reason, actor });
    }
    case 'overlay': {
      const attributes = overlayAttributes(kind.value.dataSetJson);
      if (!attributes) {
        alarms.push(`the correction ${idKey(id)} is no DICOM JSON object, and is not shown`);
        return undefined;
      }
      const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = kind.value;
      return keep(studyInstanceUid, 'overlay', { seriesInstanceUid, sopInstanceUid, attributes });
    }
    case 'identity': {
      const { fromPatient, fromIssuer, toPatient, toIssuer } = kind.value;
      if (kind.value.kind !== 'merge' || fromPatient === '' || toPatient === '') return undefined;
      return keep('', 'identity', {
        from: { patientId: fromPatient, issuer: fromIssuer },
        to: { patientId: toPatient, issuer: toIssuer },
      });
    }
    default:
      return undefined; // moved speaks only to entries, closed to nobody here
  }
}

const UNREADABLE: Description = {
  attributes: {},
  instanceNumber: '',
  numberOfFrames: 0,
  rows: 0,
  columns: 0,
  bitsAllocated: 0,
};

/** An arrival as a block keeps it. */
export function recordOf(
  { id, stamp, instance }: Arrival,
  describe: Describe,
  series: { variantOf(attributes: Description['attributes']): number },
  alarms: string[],
): EntryRecord {
  let description: Description;
  try {
    description = describe(instance);
  } catch {
    // Whatever a header hides, the instance was acknowledged: it shows by its UIDs. The cause may quote patient data.
    alarms.push(`the header of entry ${idKey(id)} cannot be read`);
    description = UNREADABLE;
  }
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
    variant: series.variantOf(description.attributes),
  };
  const form = formOf(instance);
  if (form !== undefined) record.form = form;
  return record;
}
