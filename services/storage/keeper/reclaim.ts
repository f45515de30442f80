import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import type { AuditEvent } from '#platform/ports.ts';
import { type Fate, IndexService } from '#proto/index/v1/index.ts';
import type { EntryId } from '#proto/storage/v1/log.ts';
import type { Archive, ObjectRow, SegmentRow } from '../ports.ts';
import { needWholeLog } from './folded.ts';
import { NamedObjects } from './named.ts';

export interface Reclaimed {
  objectsRemoved: number;
  bytesFreed: number;
}

/** Listing a million objects is a walk of seconds, and what it finds is a day old anyway. */
const ORPHANS_EVERY_MS = 3_600_000;
export const FREE_PREFIX = 'keeper/free/';

/**
 * Removes bytes that nothing needs any more. Every removal rests on a positive word of the index about each entry (moved elsewhere,
 * or dropped), given after it folded the whole log: what the index does not know is kept, and what the log does not say is not enough.
 * The delay counts from when the keeper first saw that an object is free; forgetting that (losing `KeyValue`) only makes it wait again.
 */
export function createReclaim(
  context: Context,
  archive: Archive,
  settings: { deletionDelayMs: () => number; orphanAgeMs: () => number },
) {
  const index = context.client(IndexService);
  const namedOf = new Map<string, NamedObjects>();
  /** Objects without an instance of their own: thinning them frees nothing. */
  const bare = new Set<string>();
  const sweptAt = new Map<string, number>();

  return async function reclaim(call: Call, now: boolean): Promise<Reclaimed> {
    const done: Reclaimed = { objectsRemoved: 0, bytesFreed: 0 };
    await needWholeLog(context, archive, call);
    for (const segment of await archive.log.segments(call.tenant)) {
      if (call.signal.aborted) return done;
      if (segment.state !== 'sealed' || bare.has(segment.object)) continue;
      try {
        await reclaimSegment(call, segment, now, done);
      } catch (error) {
        if (call.signal.aborted || isTransient(error)) throw error;
        // Damage in one (its alarm is raised) does not keep the others from it.
        context.log.warn({ err: error, object: segment.object }, 'a segment stays as it is');
      }
    }
    let named = namedOf.get(call.tenant);
    if (!named) namedOf.set(call.tenant, (named = new NamedObjects(archive, call.tenant)));
    await named.follow(call);
    await reclaimObjects(call, named, now, done);
    const swept = sweptAt.get(call.tenant);
    if (now || swept === undefined || performance.now() - swept >= ORPHANS_EVERY_MS) {
      await sweepOrphans(call, named, done);
      sweptAt.set(call.tenant, performance.now());
    }
    return done;
  };

  async function reclaimSegment(call: Call, segment: SegmentRow, now: boolean, done: Reclaimed): Promise<void> {
    const { object } = segment;
    if (!(await isFree(call, segment))) return;
    if (!(await waited(call, object, now))) {
      // Beside the old one for all of deletionDelay: a file-by-file copy taken meanwhile finds one or the other.
      await archive.log.prepareThin(call.tenant, object);
      return;
    }
    const { bytesFreed } = await archive.log.thin(call.tenant, object);
    await context.kv.delete(call.tenant, freeKey(object));
    done.objectsRemoved++;
    done.bytesFreed += bytesFreed;
    context.log.info({ object, bytesFreed }, 'segment thinned: its instances have moved');
    audit(call, { useCase: 'keeper.thin', objects: [{ type: 'system', id: object }] }, bytesFreed);
  }

  /** Bytes that are gone for good: what was purged or replaced is recorded by whoever did that. */
  function audit(call: Call, what: Pick<AuditEvent, 'useCase' | 'objects'>, bytes: number): void {
    const event = 'Application Activity';
    context.audit.record(call, { ...what, event, action: 'D', outcome: 0, detail: { bytes } });
  }

  /** Whether the index vouches that no byte of this segment is needed at its place. */
  async function isFree(call: Call, segment: SegmentRow): Promise<boolean> {
    const byStudy = new Map<string, EntryId[]>();
    /** Where the instances of this segment were put: on S3 it is many objects. */
    const objects = new Set([segment.object]);
    let commits = 0;
    for await (const { lane, sequence, entries } of archive.log.commitsOf(call.tenant, segment.object)) {
      commits++;
      for (const { n, kind } of entries) {
        if (kind === undefined) return false; // of a newer release: it may be anything
        if (kind.$case !== 'instance') continue;
        const ids = byStudy.get(kind.value.studyInstanceUid) ?? [];
        ids.push({ lane, sequence, n });
        objects.add(kind.value.place!.object);
        byStudy.set(kind.value.studyInstanceUid, ids);
      }
    }
    if (commits !== segment.last - segment.first + 1) return false; // damage: nobody knows what stood there
    // Nothing to free, but many objects become one.
    if (byStudy.size === 0 && segment.objects > 1) return true;
    if (byStudy.size === 0) {
      bare.add(segment.object);
      return false;
    }
    for (const [studyInstanceUid, entries] of byStudy)
      if (!(await allGone(call, studyInstanceUid, entries, objects))) return false;
    return true;
  }

  async function allGone(
    call: Call,
    studyInstanceUid: string,
    entries: EntryId[],
    objects: ReadonlySet<string>,
  ): Promise<boolean> {
    const answered = new Set<string>();
    for await (const fate of index.fates(call, { studyInstanceUid, entries })) {
      if (!isGone(fate, objects)) return false;
      answered.add(`${fate.id!.lane}/${fate.id!.sequence}/${fate.id!.n}`);
    }
    return entries.every(({ lane, sequence, n }) => answered.has(`${lane}/${sequence}/${n}`));
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

  /** Packs and large objects of which nothing is needed any more. */
  async function reclaimObjects(call: Call, named: NamedObjects, now: boolean, done: Reclaimed): Promise<void> {
    const waiting = new Set<string>();
    for (const { object, studyInstanceUid } of [...named.candidates()]) {
      if (call.signal.aborted) return;
      const entries = await named.entriesIn(call, object);
      if (entries === undefined || !(await allGone(call, studyInstanceUid, entries, new Set([object])))) continue;
      if (await waited(call, object, now)) {
        const row = await archive.objects.stat(object);
        if (row)
          await remove(call, row, 'object removed: all that it held was purged or moved', done, studyInstanceUid);
        named.removed(object);
      } else waiting.add(studyInstanceUid);
    }
    // Whatever changes for the others later is in the log, and touches them again.
    for (const study of named.touched) if (!waiting.has(study)) named.touched.delete(study);
  }

  /** No entry names it: an upload that broke off, a pack whose `moved` was never written. Young ones may still get their entry. */
  async function sweepOrphans(call: Call, named: NamedObjects, done: Reclaimed): Promise<void> {
    const uploads = await archive.objects.sweepUploads(settings.orphanAgeMs());
    if (uploads > 0) context.log.info({ uploads }, 'uploads that broke off were aborted');
    const orphans: ObjectRow[] = [];
    for (const area of ['pack', 'large'] as const)
      for await (const row of archive.objects.list(area, call.tenant)) {
        if (call.signal.aborted) return;
        if (!named.has(row.object) && Date.now() - row.modifiedMs >= settings.orphanAgeMs()) orphans.push(row);
      }
    if (orphans.length === 0) return;
    await named.follow(call); // what was named while the list was read
    if (!(await named.complete())) {
      context.log.warn(
        { objects: orphans.length },
        'orphans stay: a part of the log that cannot be read may name them',
      );
      return;
    }
    for (const row of orphans)
      if (!named.has(row.object)) await remove(call, row, 'orphan removed: no log entry names it', done);
  }

  async function remove(call: Call, row: ObjectRow, why: string, done: Reclaimed, study?: string): Promise<void> {
    const { object, bytes } = row;
    if (await archive.objects.remove(object)) {
      context.log.info({ object, bytes }, why);
      const useCase = study === undefined ? 'keeper.remove-orphan' : 'keeper.remove';
      const of = study === undefined ? [] : [{ type: 'study' as const, id: study }];
      audit(call, { useCase, objects: [...of, { type: 'system', id: object }] }, bytes);
      done.objectsRemoved++;
      done.bytesFreed += bytes;
    }
    await context.kv.delete(call.tenant, freeKey(object));
  }
}

/** `purged` alone is not enough: until the log says `dropped`, an equal copy may come to rest on these bytes (adr/0026). */
const isGone = ({ state, place }: Fate, objects: ReadonlySet<string>): boolean =>
  state === 'dropped' || (state !== 'unknown' && place !== undefined && !objects.has(place.object));

const isTransient = (error: unknown): boolean =>
  error instanceof GantryError && ['unavailable', 'cancelled', 'deadline-exceeded'].includes(error.code);

const freeKey = (object: string): string => `${FREE_PREFIX}${object}`;
