import type { Call } from '#platform/call.ts';
import type { Context } from '#platform/module.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import { type EntryId, TableOfContents } from '#proto/storage/v1/log.ts';

import type { Archive, SegmentRow } from '../ports.ts';

const FOLDED_WITHIN_MS = 60_000;

export interface Reclaimed {
  objectsRemoved: number;
  bytesFreed: number;
}

/**
 * Removes bytes that nothing needs any more. Every removal rests on a positive word of the index about each entry (moved elsewhere,
 * dropped, purged), given after it folded everything that the segment holds: what the index does not know is kept.
 * The delay counts from when the keeper first saw that an object is free; forgetting that (losing `KeyValue`) only makes it wait again.
 */
export function createReclaim(
  context: Context,
  archive: Archive,
  settings: { deletionDelayMs: () => number; orphanAgeMs: () => number },
) {
  const index = context.client(IndexService);
  const readTo = new Map<string, number>();

  async function reclaim(call: Call, now: boolean): Promise<Reclaimed> {
    const done: Reclaimed = { objectsRemoved: 0, bytesFreed: 0 };
    await followLog(call);
    for (const segment of await archive.log.segments(call.tenant)) {
      if (call.signal.aborted) return done;
      if (segment.state !== 'sealed' || !(await isFree(call, segment))) continue;
      if (!(await waited(call, segment.object, now))) {
        // Beside the old one for all of deletionDelay: a file-by-file copy taken meanwhile finds one or the other.
        await archive.log.prepareThin(call.tenant, segment.object);
        continue;
      }
      const { bytesFreed } = await archive.log.thin(call.tenant, segment.object);
      await context.kv.delete(call.tenant, freeKey(segment.object));
      done.objectsRemoved++;
      done.bytesFreed += bytesFreed;
      context.log.info({ object: segment.object, bytesFreed }, 'segment thinned: its instances have moved');
    }
    for (const area of ['pack', 'large'] as const) await sweep(call, area, now, done);
    return done;
  }

  /** Whether the index vouches that no byte of this segment is needed at its place. */
  async function isFree(call: Call, segment: SegmentRow): Promise<boolean> {
    const { reached } = await index.await(call, {
      positions: [{ lane: segment.lane, sequence: segment.last }],
      limitMs: FOLDED_WITHIN_MS,
    });
    if (!reached) return false;
    const byStudy = new Map<string, EntryId[]>();
    for await (const { lane, sequence, entries } of archive.log.commitsOf(call.tenant, segment.object)) {
      for (const { n, kind } of entries) {
        if (kind === undefined) return false; // of a newer release: it may be anything
        if (kind.$case !== 'instance') continue;
        const ids = byStudy.get(kind.value.studyInstanceUid) ?? [];
        ids.push({ lane, sequence, n });
        byStudy.set(kind.value.studyInstanceUid, ids);
      }
    }
    for (const [studyInstanceUid, entries] of byStudy)
      if (!(await allGone(call, studyInstanceUid, entries, segment.object))) return false;
    return true;
  }

  async function allGone(call: Call, studyInstanceUid: string, entries: EntryId[], object: string): Promise<boolean> {
    let answered = 0;
    for await (const fate of index.fates(call, { studyInstanceUid, entries })) {
      answered++;
      const free =
        fate.state === 'dropped' || fate.state === 'purged' || (fate.state === 'kept' && fate.place!.object !== object);
      if (!free) return false;
    }
    return answered === entries.length;
  }

  async function waited(call: Call, object: string, now: boolean): Promise<boolean> {
    if (now || settings.deletionDelayMs() === 0) return true;
    const seen = await context.kv.get(call.tenant, freeKey(object));
    if (seen === undefined) {
      await context.kv.put(call.tenant, freeKey(object), Buffer.from(String(Date.now())));
      return false;
    }
    return Date.now() - Number(seen.value.toString()) >= settings.deletionDelayMs();
  }

  /** Which packs and large objects the log names, and on behalf of which entries: read once, then only what is new. */
  const holders = new Map<string, { studyInstanceUid: string; ids: EntryId[] }>();
  async function followLog(call: Call): Promise<void> {
    const after = [...readTo].map(([lane, sequence]) => ({ lane, sequence }));
    const hold = (object: string, studyInstanceUid: string, id: EntryId) => {
      const holder = holders.get(object) ?? { studyInstanceUid, ids: [] };
      holder.ids.push(id);
      holders.set(object, holder);
    };
    for await (const commit of archive.log.read(call.tenant, after, [], call.signal)) {
      const { entries } = TableOfContents.decode(commit.tableOfContents);
      for (const { n, kind } of entries) {
        if (kind?.$case === 'large')
          hold(kind.value.place!.object, kind.value.studyInstanceUid, {
            lane: commit.lane,
            sequence: commit.sequence,
            n,
          });
        if (kind?.$case === 'moved')
          for (const { entry, to } of kind.value.moves) hold(to!.object, kind.value.studyInstanceUid, entry!);
      }
      readTo.set(commit.lane, commit.sequence);
    }
  }

  async function sweep(call: Call, area: 'pack' | 'large', now: boolean, done: Reclaimed): Promise<void> {
    for await (const { object, bytes, modifiedMs } of archive.objects.list(area, call.tenant)) {
      if (call.signal.aborted) return;
      const holder = holders.get(object);
      if (holder === undefined) {
        // No entry names it: an upload that broke off, a pack whose `moved` was never written. Young ones may still get their entry.
        if (Date.now() - modifiedMs < settings.orphanAgeMs()) continue;
        context.log.info({ object, bytes }, 'orphan removed: no log entry names it');
      } else {
        const positions = archive.log.heads(call.tenant);
        if (!(await index.await(call, { positions, limitMs: FOLDED_WITHIN_MS })).reached) return;
        if (!(await allGone(call, holder.studyInstanceUid, holder.ids, object)) || !(await waited(call, object, now)))
          continue;
        context.log.info({ object, bytes }, 'object removed: all that it held was purged or moved');
      }
      if (await archive.objects.remove(object)) {
        done.objectsRemoved++;
        done.bytesFreed += bytes;
      }
      await context.kv.delete(call.tenant, freeKey(object));
    }
  }

  return { reclaim };
}

const freeKey = (object: string): string => `keeper/free/${object}`;
