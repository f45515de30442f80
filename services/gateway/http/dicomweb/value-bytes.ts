import type { Head } from '#dicom/head.ts';
import { inflated } from '#dicom/reencode.ts';
import type { Call } from '#platform/call.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';

/** A deflated data set up to so long is held inflated while a request reads its values; of a longer one each value inflates what is before it. */
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
 * The bytes of values and frames of stored instances, wherever their data sets hide them, for one request. Deflated data sets have no
 * ranges; at most one of them is held, so that what a request costs is bounded whatever it asks for and however far its instances inflate.
 */
export function createValueReader(reader: Reader, call: Call, heldMax = INFLATED_HELD_MAX) {
  let held: { of: Located; bytes: Promise<Buffer> } | undefined;

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
          for (const { offset, length } of wanted) yield* slice(wholeDataSet(), offset, offset + length);
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

async function gathered(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What lies between two positions; nothing beyond is read. */
export async function* slice(source: AsyncIterable<Buffer>, start: number, end: number): AsyncGenerator<Buffer> {
  let at = 0;
  if (end > start)
    for await (const chunk of source) {
      const from = Math.max(start - at, 0);
      const to = Math.min(end - at, chunk.length);
      if (to > from) yield chunk.subarray(from, to);
      at += chunk.length;
      if (at >= end) return;
    }
}
