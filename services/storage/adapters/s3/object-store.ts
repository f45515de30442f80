import { GantryError } from '#platform/errors.ts';
import { Limiter } from '../../limiter.ts';
import { checkObjectKey, checkTenant } from '../../log/names.ts';
import type { ObjectRow, ObjectStore } from '../../ports.ts';
import type { Bucket, Clockwork, Row } from './bucket.ts';
import { putStream } from './upload.ts';

/** The first request of a read is small, so that its first byte comes early; the next are larger, so that there are few. */
const CHUNK_FIRST = 512 * 1024;
const CHUNK_MAX = 2 * 1024 * 1024;
/** What is handed on at a time. */
const YIELD_BYTES = 1024 * 1024;
/** An object never changes: that it was there holds for so long. Reading says `not-found` anyway once it is gone. */
const STAT_FRESH_MS = 10_000;
const STATS_MAX = 4096;

export class S3ObjectStore implements ObjectStore {
  readonly #bucket: Bucket;
  readonly #clockwork: Clockwork;
  readonly #uploads: Limiter;
  readonly #stats = new Map<string, { row: ObjectRow; atMs: number }>();

  constructor(bucket: Bucket, clockwork: Clockwork, uploads: number) {
    this.#bucket = bucket;
    this.#clockwork = clockwork;
    this.#uploads = new Limiter(uploads);
  }

  async put(object: string, body: AsyncIterable<Buffer>): Promise<{ bytes: number }> {
    checkObjectKey(object);
    return this.#uploads.run(() => putStream(this.#bucket, object, body));
  }

  async stat(object: string): Promise<ObjectRow | undefined> {
    checkObjectKey(object);
    const known = this.#stats.get(object);
    if (known && this.#clockwork.elapsedMs() - known.atMs < STAT_FRESH_MS) return known.row;
    this.#stats.delete(object);
    const row = await this.#bucket.head(object);
    if (!row) return undefined;
    const stat = rowOf(row);
    this.#stats.set(object, { row: stat, atMs: this.#clockwork.elapsedMs() });
    if (this.#stats.size > STATS_MAX) this.#stats.delete(this.#stats.keys().next().value!);
    return stat;
  }

  /** One request is in the consumer's hands and one under way, and no more: a consumer that pauses holds no connection. */
  async *read(object: string, offset: number, length: number): AsyncIterable<Buffer> {
    checkObjectKey(object);
    let size = CHUNK_FIRST;
    const chunkAt = async (at: number): Promise<Buffer> => {
      const wanted = Math.min(size, offset + length - at);
      size = Math.min(size * 2, CHUNK_MAX);
      const got = await this.#bucket.get(object, { offset: at, length: wanted });
      if (!got) {
        this.#stats.delete(object);
        throw new GantryError('not-found', `no object ${object}`);
      }
      if (got.bytes.length < wanted) throw new GantryError('damaged', `${object} ends before ${at + wanted}`);
      return got.bytes;
    };
    let ahead = length > 0 ? chunkAt(offset) : undefined;
    for (let at = offset; ahead; ) {
      const chunk: Buffer = await ahead;
      at += chunk.length;
      ahead = at < offset + length ? chunkAt(at) : undefined;
      ahead?.catch(() => {}); // thrown when it is awaited; a consumer that left does not want to know
      for (let from = 0; from < chunk.length; from += YIELD_BYTES) yield chunk.subarray(from, from + YIELD_BYTES);
    }
  }

  async remove(object: string): Promise<boolean> {
    checkObjectKey(object);
    const there = (await this.#bucket.head(object)) !== undefined;
    await this.#bucket.remove(object);
    this.#stats.delete(object);
    return there;
  }

  async *list(area: 'log' | 'pack' | 'large', tenant: string): AsyncIterable<ObjectRow> {
    for await (const page of this.#bucket.list(`${area}/${checkTenant(tenant)}/`)) yield* page.map(rowOf);
  }

  /** S3 knows no free space: a full store says so when it is written to (archive.ts). */
  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    return { freeBytes: Number.MAX_SAFE_INTEGER, totalBytes: Number.MAX_SAFE_INTEGER };
  }

  async sweepUploads(olderThanMs: number): Promise<number> {
    let aborted = 0;
    for (const area of ['pack/', 'large/', 'log/'])
      for await (const upload of this.#bucket.uploads(area)) {
        if (this.#bucket.now() - upload.begunMs < olderThanMs) continue;
        await upload.abort();
        aborted++;
      }
    return aborted;
  }
}

const rowOf = ({ key, bytes, modifiedMs }: Row): ObjectRow => ({ object: key, bytes, modifiedMs });
