import { GantryError } from '#platform/errors.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import { passOn } from '#platform/slabs.ts';
import type { Place } from '#proto/storage/v1/log.ts';
import { checkObjectKey } from '../log/names.ts';
import type { ObjectStore } from '../ports.ts';

/** Neighbours in a segment lie a tar header and padding apart: reading across a small gap is cheaper than another read. */
const GAP_MAX = 16 * 1024;

interface Run {
  readonly object: string;
  readonly offset: number;
  end: number;
  /** What of it was asked for, ascending. */
  readonly ranges: { readonly offset: number; readonly end: number }[];
}

/** Ranges in the order asked, neighbours in one object joined. */
export function joinRanges(places: readonly Place[]): Run[] {
  const runs: Run[] = [];
  for (const { object, offset, length } of places) {
    if (length === 0) continue;
    const end = offset + length;
    const run = runs.at(-1);
    if (run && run.object === object && offset >= run.end && offset - run.end <= GAP_MAX) {
      run.ranges.push({ offset, end });
      run.end = end;
    } else runs.push({ object, offset, end, ranges: [{ offset, end }] });
  }
  return runs;
}

/**
 * Refuses before the first byte what cannot be given whole: `not-found` (the place has moved: resolve again), `damaged` (the object is
 * shorter than its place), `unimplemented` (an encoding of a later release).
 */
export async function checkPlaces(objects: ObjectStore, tenant: string, places: readonly Place[]): Promise<number> {
  const ends = new Map<string, number>();
  let length = 0;
  for (const place of places) {
    checkObjectKey(place.object, tenant);
    if (![place.offset, place.length].every((value) => Number.isSafeInteger(value) && value >= 0))
      throw new GantryError('invalid-argument', 'a place has an offset and a length');
    if (place.encoding !== 0)
      throw new GantryError('unimplemented', `encoding ${place.encoding} of ${place.object}: a newer release wrote it`);
    ends.set(place.object, Math.max(ends.get(place.object) ?? 0, place.offset + place.length));
    length += place.length;
  }
  await Promise.all(
    [...ends].map(async ([object, end]) => {
      const stat = await objects.stat(object);
      if (!stat) throw new GantryError('not-found', `no object ${object}`);
      if (stat.bytes < end)
        throw new GantryError('damaged', `${object} has ${stat.bytes} bytes, ${end} were asked for`);
    }),
  );
  return length;
}

/** Pulled: the next chunk is read while the consumer has the last one, and no further. */
export async function* streamPlaces(objects: ObjectStore, places: readonly Place[], signal: AbortSignal): Bytes {
  for (const run of joinRanges(places)) {
    let at = run.offset;
    let i = 0;
    for await (const chunk of objects.read(run.object, run.offset, run.end - run.offset)) {
      signal.throwIfAborted();
      const chunkEnd = at + chunk.length;
      while (i < run.ranges.length && run.ranges[i]!.offset < chunkEnd) {
        const { offset, end } = run.ranges[i]!;
        const piece = chunk.subarray(Math.max(offset, at) - at, Math.min(end, chunkEnd) - at);
        if (end >= chunkEnd || (run.ranges[i + 1]?.offset ?? Infinity) >= chunkEnd) passOn(chunk, piece);
        yield piece;
        if (end > chunkEnd) break;
        i++;
      }
      at = chunkEnd;
    }
  }
}
