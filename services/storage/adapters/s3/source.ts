import { GantryError } from '#platform/errors.ts';
import { type ByteSource, type CommitAt, crcHolds, scanFromEnd, scanFromStart } from '../../log/scan.ts';
import type { TocFrame } from '../../log/toc.ts';
import type { Bucket } from './bucket.ts';

/** Most commits end with a table smaller than this: one request reads it. */
const TAIL_BYTES = 64 * 1024;
const BLOCK_BYTES = 1024 * 1024;
const BLOCKS_MAX = 32;

/** An object from its end: what was asked for last is kept, and what is missing before it is fetched together. */
export async function tailSource(bucket: Bucket, object: string): Promise<ByteSource | undefined> {
  const tail = await bucket.get(object, { last: TAIL_BYTES });
  if (!tail) return undefined;
  let bytes = tail.bytes;
  return {
    bytes: tail.total,
    async read(offset, length) {
      const start = tail.total - bytes.length;
      if (offset < start) {
        const missing = await getRange(bucket, object, offset, start - offset);
        bytes = Buffer.concat([missing, bytes]);
      }
      const at = offset - (tail.total - bytes.length);
      return bytes.subarray(at, at + length);
    },
  };
}

async function getRange(bucket: Bucket, object: string, offset: number, length: number): Promise<Buffer> {
  const got = await bucket.get(object, { offset, length });
  if (!got) throw new GantryError('not-found', `no object ${object}`);
  return got.bytes;
}

/** Blocks of objects with many commits: the tables of a thinned one lie close together. */
export class Blocks {
  readonly #bucket: Bucket;
  readonly #blocks = new Map<string, Buffer>();

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  source(object: string, bytes: number): ByteSource {
    return {
      bytes,
      read: async (offset, length) => {
        const end = Math.min(bytes, offset + length);
        const pieces: Buffer[] = [];
        for (let at = offset; at < end; ) {
          const block = Math.floor(at / BLOCK_BYTES);
          const within = at - block * BLOCK_BYTES;
          const piece = (await this.#block(object, block)).subarray(within, within + end - at);
          if (piece.length === 0) break;
          pieces.push(piece);
          at += piece.length;
        }
        return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
      },
    };
  }

  async #block(object: string, block: number): Promise<Buffer> {
    const key = `${object} ${block}`;
    let bytes = this.#blocks.get(key);
    this.#blocks.delete(key);
    bytes ??= await getRange(this.#bucket, object, block * BLOCK_BYTES, BLOCK_BYTES);
    this.#blocks.set(key, bytes);
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size <= BLOCKS_MAX) break;
      this.#blocks.delete(oldest);
    }
    return bytes;
  }
}

export interface Scanned {
  readonly commits: readonly CommitAt[];
  readonly damage: readonly { offset: number; end: number; detail: string }[];
  readonly newerFormat: boolean;
}

/** Which commits stand in an object that begins with `first`, whether it was sealed, or copied from a process that was killed. */
export async function scanObject(
  source: ByteSource,
  first: number,
  belongs: (frame: TocFrame) => boolean,
): Promise<Scanned> {
  const quick = await scanFromEnd(source, first, undefined);
  if (quick) return { commits: quick.commits, damage: [], newerFormat: false };
  const scan = await scanFromStart(source, first, belongs);
  const { commits } = scan;
  const youngest = commits.at(-1);
  // Only the last commit of a file can have its table on the disk and not its bytes (adr/0020).
  const proven = scan.damage.some(({ end }) => end === youngest?.tocOffset);
  if (youngest && !proven && !(await crcHolds(source, youngest))) commits.pop();
  return scan;
}
