import type { FastifyReply } from 'fastify';
import type { Head } from '#dicom/head.ts';
import { inflated } from '#dicom/reencode.ts';
import type { Call } from '#platform/call.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';

/** A deflated data set up to so long is held inflated while a request reads its values; a longer one is inflated as it is walked through. */
export const INFLATED_HELD_MAX = 64 * 2 ** 20;

export interface Range {
  offset: number;
  length: number;
}

/** Of one instance: ranges are relative to its (inflated) data set. */
export interface Values {
  ranges(wanted: readonly Range[]): AsyncGenerator<Buffer>;
}

/**
 * The bytes of values and frames of stored instances, wherever their data sets hide them, for one request; values are read one after
 * another. Deflated data sets have no ranges: at most one of them is held, or stands open where its last value ended, so that what a request
 * costs is bounded whatever it asks for and however far its instances inflate. `reply` tells when nobody reads any more.
 */
export function createValueReader(
  reader: Reader,
  call: Call,
  reply: Pick<FastifyReply, 'raw'>,
  heldMax = INFLATED_HELD_MAX,
) {
  let held: { of: Located; bytes: Promise<Buffer> } | undefined;
  let walk: { of: Located; cursor: Cursor } | undefined;
  reply.raw.once('close', () => walk?.cursor.close());

  return function valuesOf(located: Located, head: Pick<Head, 'deflated' | 'length'>): Values {
    const start = located.dataSetOffset;
    const wholeDataSet = () => inflated(reader.read(call, located, { start, end: reader.fileLength(located) }));
    if (!head.deflated)
      return {
        async *ranges(wanted) {
          for (const { offset, length } of wanted)
            yield* reader.read(call, located, { start: start + offset, end: start + offset + length });
        },
      };
    if (head.length > heldMax)
      return {
        async *ranges(wanted) {
          for (const { offset, length } of wanted) {
            if (walk?.of !== located || walk.cursor.at > offset) {
              walk?.cursor.close();
              walk = { of: located, cursor: new Cursor(wholeDataSet()) };
            }
            yield* walk.cursor.read(offset, offset + length);
          }
        },
      };
    return {
      async *ranges(wanted) {
        if (held?.of !== located) held = { of: located, bytes: gathered(wholeDataSet()) };
        const bytes = await held.bytes;
        for (const { offset, length } of wanted) yield bytes.subarray(offset, offset + length);
      },
    };
  };
}

/** Goes through a stream once, from value to value. */
class Cursor {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  /** Where the next byte lies. */
  at = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** What lies between two positions, the first of them not before `at`; nothing beyond is read. */
  async *read(start: number, end: number): AsyncGenerator<Buffer> {
    while (this.at < end && end > start) {
      if (this.#rest.length === 0) {
        const next = await this.#source.next();
        if (next.done) return;
        this.#rest = next.value;
      }
      const skipped = Math.min(Math.max(start - this.at, 0), this.#rest.length);
      const piece = this.#rest.subarray(skipped, Math.max(skipped, Math.min(end - this.at, this.#rest.length)));
      this.#rest = this.#rest.subarray(skipped + piece.length);
      this.at += skipped + piece.length;
      if (piece.length > 0) yield piece;
    }
  }

  /** Lets go of what it reads from. */
  close(): void {
    this.#source.return?.().catch(() => {}); // whoever reads learns of failures from read()
  }
}

async function gathered(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What lies between two positions; nothing beyond is read. */
export async function* slice(source: AsyncIterable<Buffer>, start: number, end: number): AsyncGenerator<Buffer> {
  const cursor = new Cursor(source);
  try {
    yield* cursor.read(start, end);
  } finally {
    cursor.close();
  }
}
