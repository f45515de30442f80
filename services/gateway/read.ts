import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { IndexService, type Located, type LocateRequest } from '#proto/index/v1/index.ts';
import { createCurrent } from './current.ts';

/** Bytes of a Part 10 file: half-open, relative to its first byte. */
export interface Range {
  start: number;
  end: number;
}

/** What both doors retrieve with: where instances are (index), and their bytes (storage). */
export function createReader(context: Context) {
  const index = context.client(IndexService);
  const bulkRead = context.bulk(BULK.read);
  const current = createCurrent(context);

  const fileLength = (located: Located): number => located.place!.length;

  /** Of a patient, studies or series: all that was acknowledged. Of instances: those that are there are not waited for. */
  async function locate(call: Call, request: Partial<LocateRequest>): Promise<Located[]> {
    const { sopInstanceUids = [], studyInstanceUids = [], patientId = '' } = request;
    const asked = new Set(sopInstanceUids).size;
    return current(call, () => folded(call, request), {
      byUid: studyInstanceUids.length > 0 && patientId === '',
      isWhole: asked === 0 ? undefined : (found) => new Set(found.map((one) => one.sopInstanceUid)).size >= asked,
    });
  }

  async function folded(call: Call, request: Partial<LocateRequest>): Promise<Located[]> {
    const found: Located[] = [];
    for await (const one of index.locate(call, {
      studyInstanceUids: [],
      seriesInstanceUids: [],
      sopInstanceUids: [],
      patientId: '',
      withHead: false,
      renditions: false,
      ...request,
    })) {
      found.push(one);
    }
    return found;
  }

  /** Where the same bytes are now: a place is a hint, and compaction moves them while somebody reads. */
  async function relocate(call: Call, old: Located): Promise<Located> {
    const now = await folded(call, {
      studyInstanceUids: [old.studyInstanceUid],
      seriesInstanceUids: [old.seriesInstanceUid],
      sopInstanceUids: [old.sopInstanceUid],
      renditions: true,
    });
    // The very file: an equal data set of another sender has another prefix, and other bytes at the same offset.
    const same = now.find((one) => Buffer.compare(old.digest, one.digest) === 0 && fileLength(one) === fileLength(old));
    if (same === undefined)
      throw new GantryError('not-found', `instance ${old.sopInstanceUid} is not in the archive any more`);
    return same;
  }

  /**
   * Bytes of one file. On `not-found` it resolves the place once more and goes on at the same byte; where the process that read it, or its
   * store, breaks off amid the body, it goes on with the next: nothing is sent twice, and whoever asked need not ask again. `begun`: what
   * this is a part of has begun already.
   */
  async function* read(call: Call, located: Located, range?: Range, begun = false): AsyncGenerator<Buffer> {
    const { start, end } = range ?? { start: 0, end: fileLength(located) };
    let at = start;
    let place = located.place!;
    const triedAt = new Map<string, number>();
    while (at < end) {
      try {
        const { body } = await bulkRead(call, { places: [{ ...place, offset: place.offset + at, length: end - at }] });
        for await (const chunk of body) {
          at += chunk.length;
          yield chunk;
        }
        if (at < end)
          throw new GantryError('damaged', `instance ${located.sopInstanceUid} is shorter than its entry says`);
      } catch (error) {
        // Once for each byte that it stops at: a large file may move more than once while somebody slow reads it.
        if (!resumes(error, begun || at > start) || triedAt.get(error.code) === at) throw error;
        triedAt.set(error.code, at);
        if (error.code === 'not-found') place = (await relocate(call, located)).place!;
      }
    }
  }

  /**
   * Whole files, one after the other, neighbours joined into one read: `onFile` is called before the first byte of each.
   * The chunks of one file are never mixed with the next one's.
   */
  async function* readFiles(
    call: Call,
    files: readonly Located[],
  ): AsyncGenerator<{ file: Located; chunk: Buffer; first: boolean }> {
    for (let from = 0; from < files.length; ) {
      const batch = files.slice(from, from + FILES_PER_READ);
      from += batch.length;
      let done = 0; // files of the batch given out whole
      let given = 0; // bytes of batch[done] given out
      try {
        const { body } = await bulkRead(call, { places: batch.map((file) => file.place!) });
        for await (let chunk of body) {
          while (chunk.length > 0) {
            const file = batch[done];
            if (file === undefined) throw new GantryError('internal', 'storage sent more than was asked for');
            const take = Math.min(chunk.length, fileLength(file) - given);
            yield { file, chunk: take === chunk.length ? chunk : chunk.subarray(0, take), first: given === 0 };
            given += take;
            if (given === fileLength(file)) {
              done++;
              given = 0;
            }
            chunk = chunk.subarray(take);
          }
        }
        if (done < batch.length)
          throw new GantryError('damaged', `instance ${batch[done]!.sopInstanceUid} is shorter than its entry says`);
      } catch (error) {
        const begun = from > batch.length || done + given > 0;
        if (!resumes(error, begun)) throw error;
        // Something of this batch has moved, or its reader is gone: finish it one file at a time, each from the byte it had come to.
        for (let i = done; i < batch.length; i++) {
          const file = batch[i]!;
          let first = i !== done || given === 0;
          for await (const chunk of read(call, file, { start: i === done ? given : 0, end: fileLength(file) }, begun)) {
            yield { file, chunk, first };
            first = false;
          }
        }
      }
    }
  }

  return { locate, read, readFiles, fileLength };
}

export type Reader = ReturnType<typeof createReader>;

/** `begun`: bytes have come. A read that fails before is refused, not asked again: a store that is gone is not asked twice as much. */
const resumes = (error: unknown, begun: boolean): error is GantryError =>
  error instanceof GantryError && (error.code === 'not-found' || (error.code === 'unavailable' && begun));

// Enough that one read spans a commit (256 instances), few enough that a moved place costs little.
const FILES_PER_READ = 256;
