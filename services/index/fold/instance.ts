import { orderOf } from './order.ts';
import type { EntryRecord, InstanceView, VersionPolicy } from './types.ts';

export const orderOfRecord = (record: EntryRecord): string => orderOf(record.stamp, record.id);

/** Its own bytes' place now. */
export const placeOf = (record: EntryRecord) => record.control?.moved?.place ?? record.place;

export const inTrash = (record: EntryRecord): boolean => !record.control?.purged && record.control?.trash?.on === true;
export const isLive = (record: EntryRecord): boolean => !record.control?.purged && record.control?.trash?.on !== true;

/** All entries whose bytes are one version of the instance. */
interface Version {
  entries: EntryRecord[]; // in order
  live: EntryRecord[];
  kept: EntryRecord[]; // live or in the trash
  holder: EntryRecord;
  decision: { order: string; verdict: string } | undefined;
}

/** Equal bytes collapse here. What shows is the version's first live entry, with the place of whichever entry holds the bytes. */
function versionOf(entries: EntryRecord[]): Version {
  entries.sort((a, b) => (orderOfRecord(a) < orderOfRecord(b) ? -1 : 1));
  let decision: Version['decision'];
  for (const { control } of entries)
    if (control?.decision && (!decision || control.decision.order > decision.order)) decision = control.decision;
  // The keeper drops copies whose bytes another entry keeps, whatever became of that other entry's own standing: any place will do.
  // Packs first: what stands in the log is going to be removed.
  const held = entries.filter((one) => !one.control?.dropped);
  const holder =
    held.find((one) => one.control?.moved) ?? held.find((one) => !one.control?.purged) ?? held[0] ?? entries[0]!;
  return {
    entries,
    live: entries.filter(isLive),
    kept: entries.filter((one) => !one.control?.purged),
    holder,
    decision,
  };
}

const seen = (entry: EntryRecord, holder: EntryRecord): EntryRecord =>
  entry === holder && !entry.control?.moved
    ? entry
    : { ...entry, place: placeOf(holder), digest: holder.digest, dataSetOffset: holder.dataSetOffset };

/** A SOP instance is a function of the set of its entries (all of one study, series and SOP Instance UID). */
export function viewInstance(entries: EntryRecord[], policy: VersionPolicy): InstanceView {
  const view: InstanceView = {
    sopInstanceUid: entries[0]!.sopInstanceUid,
    conflict: false,
    renditions: [],
    hidden: [],
    trashed: [],
    kept: [],
    spare: [],
    purged: [],
  };
  const first = entries[0]!;
  // Nearly every instance has one entry, about which nothing was ever said.
  if (entries.length === 1 && !first.control) {
    view.shown = first;
    view.kept.push(first);
    return view;
  }
  const groups = new Map<string, EntryRecord[]>();
  for (const entry of entries) {
    const key = entry.version.toString('latin1');
    const group = groups.get(key);
    if (group) group.push(entry);
    else groups.set(key, [entry]);
  }
  const versions = [...groups.values()].map(versionOf);
  const candidates: Version[] = [];
  for (const version of versions) {
    if (version.kept.length === 0) view.purged.push(...version.entries.filter((one) => !one.control?.dropped));
    else {
      // Where every copy was dropped (a broken promise of the keeper's) the holder is kept all the same: what is left of it stays, and
      // `verify` looks for its bytes.
      view.kept.push(seen(version.holder, version.holder));
      view.spare.push(...version.entries.filter((one) => one !== version.holder && !one.control?.dropped));
    }
    if (version.live.length > 0) {
      if (version.decision?.verdict === 'hide') view.hidden.push(seen(version.live[0]!, version.holder));
      else candidates.push(version);
    } else if (version.kept.length > 0) view.trashed.push(seen(version.kept[0]!, version.holder));
  }
  candidates.sort((a, b) => compareVersions(a, b, policy));
  const syntaxes = new Set<string>();
  const winner = candidates[0];
  for (const version of candidates) {
    const record = seen(version.live[0]!, version.holder);
    const known = syntaxes.has(record.transferSyntaxUid);
    syntaxes.add(record.transferSyntaxUid);
    if (version === winner) view.shown = record;
    else if (!known) view.renditions.push(record);
    else {
      view.hidden.push(record);
      // A person who chose the winner after this version had come has settled the matter.
      if (!winner?.decision || winner.decision.order < orderOfRecord(version.live[0]!)) view.conflict = true;
    }
  }
  const byOrder = (a: EntryRecord, b: EntryRecord) => (orderOfRecord(a) < orderOfRecord(b) ? -1 : 1);
  for (const list of [view.hidden, view.trashed, view.kept, view.spare, view.purged]) list.sort(byOrder);
  return view;
}

/** A decision to show goes before the policy; the latest such decision before an earlier one. */
function compareVersions(a: Version, b: Version, policy: VersionPolicy): number {
  const chosenA = a.decision?.verdict === 'show' ? a.decision.order : '';
  const chosenB = b.decision?.verdict === 'show' ? b.decision.order : '';
  if (chosenA !== chosenB) return chosenA > chosenB ? -1 : 1;
  if (policy === 'newest-wins') return orderOfRecord(a.live.at(-1)!) > orderOfRecord(b.live.at(-1)!) ? -1 : 1;
  return orderOfRecord(a.live[0]!) < orderOfRecord(b.live[0]!) ? -1 : 1;
}

/** Instances of a series by InstanceNumber, then UID; those without a number come last. */
export function compareInstances(a: EntryRecord, b: EntryRecord): number {
  const left = numberOf(a.instanceNumber);
  const right = numberOf(b.instanceNumber);
  if (left !== right) return left < right ? -1 : 1;
  return a.sopInstanceUid < b.sopInstanceUid ? -1 : a.sopInstanceUid > b.sopInstanceUid ? 1 : 0;
}
const numberOf = (text: string): number => {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isNaN(value) ? Number.POSITIVE_INFINITY : value;
};

export function viewSeries(records: readonly EntryRecord[], policy: VersionPolicy): InstanceView[] {
  const bySop = new Map<string, EntryRecord[]>();
  for (const record of records) {
    const known = bySop.get(record.sopInstanceUid);
    if (known) known.push(record);
    else bySop.set(record.sopInstanceUid, [record]);
  }
  return [...bySop.values()].map((entries) => viewInstance(entries, policy));
}

/** Bytes that compaction is to move: large objects stand by themselves already. */
export const inLog = (record: EntryRecord): boolean => record.place.object.startsWith('log/');
/** How many entries of the instance the keeper has work with: to be packed, or no longer needed. */
export const compactableOf = (view: InstanceView): number =>
  view.kept.filter(inLog).length + view.spare.length + view.purged.length;
