import { ulid } from 'ulid';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { type EntryRow, IndexService, type SettledStudy } from '#proto/index/v1/index.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import { fileNameOf } from '../log/names.ts';
import type { Archive } from '../ports.ts';
import { DamagedMember, type Packable, packBytes, planPack } from './pack.ts';

const MOVES_PER_ENTRY = 2000; // a control entry of some 600 kB
const FOLDED_WITHIN_MS = 60_000;

export interface Compacted {
  instancesMoved: number;
  bytesMoved: number;
  copiesDropped: number;
}

/**
 * Packs settled studies: their small instances, scattered over segments by the order of arrival, become objects of one study each. The
 * `moved` entry is durable and folded before anything of the old may go; removing is `reclaim`'s business, later.
 */
export async function compact(
  context: Context,
  archive: Archive,
  call: Call,
  options: { study: string; limit: number; packBytes: number },
): Promise<Compacted> {
  const index = context.client(IndexService);
  const done: Compacted = { instancesMoved: 0, bytesMoved: 0, copiesDropped: 0 };
  const studies: SettledStudy[] = [];
  for await (const study of index.settled(call, { limit: options.limit, studyInstanceUid: options.study }))
    studies.push(study);
  for (const study of studies) {
    if (call.signal.aborted) break;
    if (!study.settled && options.study === '') continue;
    try {
      await compactStudy(context, archive, call, study, options.packBytes, done);
    } catch (error) {
      // One study that cannot be packed (no room, damage) does not keep the others from it.
      context.log.error({ err: error, studyInstanceUid: study.studyInstanceUid }, 'a study could not be packed');
      if (error instanceof GantryError && error.code === 'no-space') break;
      if (options.study !== '') throw error;
    }
  }
  return done;
}

async function compactStudy(
  context: Context,
  archive: Archive,
  call: Call,
  study: SettledStudy,
  packBytes: number,
  done: Compacted,
): Promise<void> {
  const scattered = study.live.filter((row) => row.place!.object.startsWith('log/'));
  const dropped = study.spare.filter((row) => row.place!.object.startsWith('log/'));
  if (scattered.length === 0 && dropped.length === 0) return;
  for (const members of packsOf(scattered, packBytes))
    await moveInto(context, archive, call, study.studyInstanceUid, members, done);
  if (dropped.length > 0) {
    // Their bytes are kept by a live entry of the same version, which the index named after folding it.
    await append(context, call, study.studyInstanceUid, [], dropped);
    done.copiesDropped += dropped.length;
  }
}

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

async function moveInto(
  context: Context,
  archive: Archive,
  call: Call,
  study: string,
  rows: EntryRow[],
  done: Compacted,
): Promise<void> {
  let members = rows.map(toPackable);
  let kept = rows;
  for (;;) {
    if (members.length === 0) return;
    const object = `pack/${call.tenant}/${fileNameOf(study)}/${ulid()}.tar`;
    try {
      await archive.objects.put(object, packBytes(archive.objects, members, Date.now() / 1000));
    } catch (error) {
      if (!(error instanceof DamagedMember)) throw error;
      // The damaged one stays where it is, for a person; the others are packed without it.
      context.log.error({ err: error, studyInstanceUid: study }, 'damage found while packing');
      const bad = members.findIndex(({ place }) => place === error.place);
      members = members.filter((_, i) => i !== bad);
      kept = kept.filter((_, i) => i !== bad);
      continue;
    }
    const places = planPack(object, members);
    await append(
      context,
      call,
      study,
      kept.map((row, i) => ({ entry: row.id!, from: row.place!, to: places[i]! })),
      [],
    );
    done.instancesMoved += kept.length;
    done.bytesMoved += places.reduce((sum, place) => sum + place.length, 0);
    return;
  }
}

/** Durable, then folded: after this the index gives the new places. */
async function append(
  context: Context,
  call: Call,
  study: string,
  moves: {
    entry: NonNullable<EntryRow['id']>;
    from: NonNullable<EntryRow['place']>;
    to: NonNullable<EntryRow['place']>;
  }[],
  dropped: EntryRow[],
): Promise<void> {
  const { positions } = await context.client(DataService).append(call, {
    entries: [
      {
        n: 0,
        stamp: '',
        kind: { $case: 'moved', value: { moves, studyInstanceUid: study, dropped: dropped.map((row) => row.id!) } },
      },
    ],
  });
  await context.client(IndexService).await(call, { positions, limitMs: FOLDED_WITHIN_MS });
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
