import type { Entry, EntryId } from '#proto/storage/v1/log.ts';
import { orderOf } from './order.ts';
import type { EntryControl } from './types.ts';

const later = <T extends { order: string }>(a: T | undefined, b: T | undefined): T | undefined =>
  !a ? b : !b ? a : a.order >= b.order ? a : b;

/** The least upper bound of two statements about one entry: commutative, associative, idempotent. */
export function joinControl(a: EntryControl | undefined, b: EntryControl | undefined): EntryControl | undefined {
  if (!a || !b) return a ?? b;
  const joined: EntryControl = {};
  const trash = later(a.trash, b.trash);
  const moved = later(a.moved, b.moved);
  const decision = later(a.decision, b.decision);
  if (trash) joined.trash = trash;
  if (moved) joined.moved = moved;
  if (decision) joined.decision = decision;
  if (a.purged || b.purged) joined.purged = true;
  if (a.dropped || b.dropped) joined.dropped = true;
  return joined;
}

export interface ControlPatch {
  studyInstanceUid: string;
  id: EntryId;
  control: EntryControl;
}

/**
 * What a control entry says about the entries it names; empty for kinds that name none. It holds only for entries of the study that it
 * names itself, whichever of the two arrives first. A decision's subject is the Study Instance UID.
 */
export function patchesOf(id: EntryId, entry: Entry): ControlPatch[] {
  const order = orderOf(entry.stamp, id);
  const each = (studyInstanceUid: string, ids: EntryId[], control: EntryControl): ControlPatch[] =>
    ids.map((one) => ({ studyInstanceUid, id: one, control }));
  switch (entry.kind?.$case) {
    case 'delete': {
      const { studyInstanceUid, entries, purge } = entry.kind.value;
      return each(studyInstanceUid, entries, purge ? { purged: true } : { trash: { order, on: true } });
    }
    case 'restore':
      return each(entry.kind.value.studyInstanceUid, entry.kind.value.entries, { trash: { order, on: false } });
    case 'decision':
      return each(entry.kind.value.subject, entry.kind.value.entries, {
        decision: { order, verdict: entry.kind.value.verdict },
      });
    case 'moved': {
      const { studyInstanceUid, moves, dropped } = entry.kind.value;
      const patches = each(studyInstanceUid, dropped, { dropped: true });
      for (const { entry: moved, to } of moves)
        if (moved && to) patches.push({ studyInstanceUid, id: moved, control: { moved: { order, place: to } } });
      return patches;
    }
    default:
      return [];
  }
}
