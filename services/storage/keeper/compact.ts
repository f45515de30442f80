import { ulid } from 'ulid';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { type EntryRow, IndexService } from '#proto/index/v1/index.ts';
import type { Moved, MovedOne } from '#proto/storage/v1/log.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import { fileNameOf } from '../log/names.ts';
import type { Archive } from '../ports.ts';
import type { Damage } from './damage.ts';
import { needFolded, needWholeLog } from './folded.ts';
import { DamagedMember, isSound, type Packable, packBytes, planPack } from './pack.ts';

/** Of one control entry: some 600 kB, below storage.controlBytes. */
const MOVES_PER_ENTRY = 2000;
const DROPS_PER_ENTRY = 10_000;
/** Studies whose rows are in memory at a time. */
const STUDIES_AT_ONCE = 16;
/** A study that could not be finished (damage, a hold) is left alone for so long, so that it does not keep others from their turn. */
const BLOCKED_MS = 3_600_000;

export interface Compacted {
  instancesMoved: number;
  bytesMoved: number;
  copiesDropped: number;
}
export interface CompactOptions {
  /** Empty: whatever has settled. */
  study: string;
  limit: number;
  packBytes: number;
  /** Only say what is no longer needed: on a full disk there is no room for packs. */
  dropOnly?: boolean;
}
interface Study {
  studyInstanceUid: string;
  live: EntryRow[];
  spare: EntryRow[];
  purged: EntryRow[];
}

/**
 * Packs settled studies: their small instances, scattered over segments by the order of arrival, become objects of one study each. The
 * `moved` entry is durable and folded before anything of the old may go; removing is `reclaim`'s business, later, and rests on what is
 * written here: bytes go only after the log says `moved` or `dropped` (adr/0026).
 */
export function createCompact(context: Context, archive: Archive, damage: Damage) {
  const index = context.client(IndexService);
  const data = context.client(DataService);
  const blocked = new Map<string, number>();

  return async function compact(call: Call, options: CompactOptions): Promise<Compacted> {
    const done: Compacted = { instancesMoved: 0, bytesMoved: 0, copiesDropped: 0 };
    await needWholeLog(context, archive, call);
    for (let left = options.limit; left > 0 && !call.signal.aborted; ) {
      const studies = await due(call, options, Math.min(left, STUDIES_AT_ONCE));
      for (const study of studies) {
        if (call.signal.aborted) return done;
        const key = `${call.tenant} ${study.studyInstanceUid}`;
        try {
          if (!(await compactStudy(call, study, options, done)) && !options.dropOnly)
            blocked.set(key, Date.now() + BLOCKED_MS);
        } catch (error) {
          // One study that cannot be packed does not keep the others from it; no room, or an index that lags, does.
          if (options.study !== '' || call.signal.aborted) throw error;
          if (error instanceof GantryError && ['no-space', 'unavailable', 'cancelled'].includes(error.code))
            throw error;
          context.log.error({ err: error, studyInstanceUid: study.studyInstanceUid }, 'a study could not be packed');
          blocked.set(key, Date.now() + BLOCKED_MS);
        }
      }
      left -= studies.length;
      if (studies.length === 0 || options.study !== '' || options.dropOnly) break;
    }
    return done;
  };

  async function due(call: Call, options: CompactOptions, count: number): Promise<Study[]> {
    for (const [key, until] of blocked) if (until < Date.now()) blocked.delete(key);
    const studies: Study[] = [];
    const wanted = options.dropOnly ? options.limit : count;
    const rows = index.settled(call, { limit: wanted + blocked.size, studyInstanceUid: options.study });
    for await (const row of rows) {
      const { studyInstanceUid, settled, live, spare, purged } = row;
      const last = studies.at(-1);
      // A large study comes in several rows.
      if (last?.studyInstanceUid === studyInstanceUid) {
        last.live.push(...live);
        last.spare.push(...spare);
        last.purged.push(...purged);
        continue;
      }
      if (options.study === '' && (!settled || blocked.has(`${call.tenant} ${studyInstanceUid}`))) continue;
      if (studies.length === wanted) break;
      studies.push({ studyInstanceUid, live: [...live], spare: [...spare], purged: [...purged] });
    }
    return studies;
  }

  /** False: nothing could be done for it. */
  async function compactStudy(call: Call, study: Study, options: CompactOptions, done: Compacted): Promise<boolean> {
    const before = done.instancesMoved + done.copiesDropped;
    if (!options.dropOnly) damage.forget(call.tenant, study.studyInstanceUid);
    // A pack that holds bytes of something purged is written anew without them.
    const stale = new Set([...study.spare, ...study.purged].map(objectOf).filter(inPack));
    const moving = options.dropOnly ? [] : study.live.filter((row) => inLog(objectOf(row)) || stale.has(objectOf(row)));
    /** Versions of which the kept copy was read, here, and held its digest: or did not. */
    const sound = new Map<string, boolean>();
    const copies = Map.groupBy(study.spare, versionOf);
    for (const rows of packsOf(moving, options.packBytes))
      await moveInto(call, study.studyInstanceUid, rows, copies, sound, done);
    // What is purged goes from its pack last: until then a killed keeper finds the pack again, and finishes it.
    const unfinished = new Set(
      study.live.filter((row) => stale.has(objectOf(row)) && !sound.get(versionOf(row))).map(objectOf),
    );
    const dropped = study.purged.filter((row) => !unfinished.has(objectOf(row)));
    const holders = new Map(study.live.map((row) => [versionOf(row), row]));
    for (const row of study.spare) {
      const version = versionOf(row);
      const holder = holders.get(version);
      if (!holder || unfinished.has(objectOf(row))) continue;
      if (!sound.has(version)) {
        // The last copy but one goes only after the other was read.
        const holds = await isSound(archive.objects, toPackable(holder));
        sound.set(version, holds);
        if (!holds) damaged(call, holder);
      }
      if (sound.get(version)) dropped.push(row);
    }
    for (let from = 0; from < dropped.length; from += DROPS_PER_ENTRY) {
      const some = dropped.slice(from, from + DROPS_PER_ENTRY);
      const { studyInstanceUid } = study;
      await append(call, { moves: [], studyInstanceUid, dropped: some.map((row) => row.id!) });
      done.copiesDropped += some.length;
    }
    return done.instancesMoved + done.copiesDropped > before;
  }

  function damaged(call: Call, row: EntryRow): void {
    damage.add(call.tenant, row);
    const { studyInstanceUid, sopInstanceUid, place } = row;
    context.log.error({ studyInstanceUid, sopInstanceUid, ...place }, 'damage found: these bytes stay where they are');
  }

  async function moveInto(
    call: Call,
    studyInstanceUid: string,
    rows: EntryRow[],
    copies: ReadonlyMap<string, EntryRow[]>,
    sound: Map<string, boolean>,
    done: Compacted,
  ): Promise<void> {
    let kept = rows;
    while (kept.length > 0) {
      const object = `pack/${call.tenant}/${fileNameOf(studyInstanceUid)}/${ulid()}.tar`;
      const members = kept.map(toPackable);
      try {
        await archive.objects.put(object, packBytes(archive.objects, members, Date.now() / 1000));
      } catch (error) {
        if (!(error instanceof DamagedMember)) throw error;
        // Where one is damaged more may be: each is looked at before the pack is begun again.
        kept = await soundOf(call, kept, copies, sound);
        continue;
      }
      const places = planPack(object, members);
      const moves: MovedOne[] = kept.map((row, i) => ({ entry: row.id!, from: row.place!, to: places[i]! }));
      await append(call, { moves, studyInstanceUid, dropped: [] });
      for (const row of kept) if (!sound.has(versionOf(row))) sound.set(versionOf(row), true);
      done.instancesMoved += kept.length;
      done.bytesMoved += places.reduce((sum, place) => sum + place.length, 0);
      return;
    }
  }

  /** Without the damaged ones; in place of one, a spare copy that is whole: once it is in a pack the index takes the bytes from there. */
  async function soundOf(
    call: Call,
    rows: readonly EntryRow[],
    copies: ReadonlyMap<string, EntryRow[]>,
    sound: Map<string, boolean>,
  ): Promise<EntryRow[]> {
    const kept: EntryRow[] = [];
    for (const row of rows) {
      if (await isSound(archive.objects, toPackable(row))) {
        kept.push(row);
        continue;
      }
      sound.set(versionOf(row), false); // no copy of it is dropped in this run
      const copy = inLog(objectOf(row)) ? await firstSound(copies.get(versionOf(row)) ?? []) : undefined;
      if (copy) kept.push(copy);
      else damaged(call, row);
    }
    return kept;
  }

  async function firstSound(rows: readonly EntryRow[]): Promise<EntryRow | undefined> {
    for (const row of rows) if (inLog(objectOf(row)) && (await isSound(archive.objects, toPackable(row)))) return row;
    return undefined;
  }

  /** Durable, then folded: after this the index gives the new places. */
  async function append(call: Call, value: Moved): Promise<void> {
    const { positions } = await data.append(call, { entries: [{ n: 0, stamp: '', kind: { $case: 'moved', value } }] });
    await needFolded(context, call, positions);
  }
}

const objectOf = (row: EntryRow): string => row.place!.object;
const inLog = (object: string): boolean => object.startsWith('log/');
const inPack = (object: string): boolean => object.startsWith('pack/');
const versionOf = (row: EntryRow): string =>
  `${row.seriesInstanceUid} ${row.sopInstanceUid} ${Buffer.from(row.version).toString('latin1')}`;

function* packsOf(rows: readonly EntryRow[], bytesMax: number): Generator<EntryRow[]> {
  let pack: EntryRow[] = [];
  let bytes = 0;
  for (const row of rows) {
    if (pack.length > 0 && (bytes + row.place!.length > bytesMax || pack.length >= MOVES_PER_ENTRY)) {
      yield pack;
      pack = [];
      bytes = 0;
    }
    pack.push(row);
    bytes += row.place!.length;
  }
  if (pack.length > 0) yield pack;
}

const toPackable = (row: EntryRow): Packable => ({
  place: row.place!,
  instance: {
    studyInstanceUid: row.studyInstanceUid,
    seriesInstanceUid: row.seriesInstanceUid,
    sopInstanceUid: row.sopInstanceUid,
    version: Buffer.from(row.version), // bytes that crossed a thread are no Buffer any more
    digest: Buffer.from(row.digest),
    transferSyntaxUid: row.transferSyntaxUid,
    dataSetOffset: row.dataSetOffset,
  },
});
