import { DataSet } from '#dicom/dataset.ts';
import type { Head } from '#dicom/head.ts';
import { Tag } from '#dicom/tags.ts';

/** Bytes of one native frame, and of the words that big endian swaps (PS3.5 §8.1.1: OW is 16-bit words, whatever Bits Allocated). */
export function pixelGeometry(head: Head): { frameBits: number; frameBytes: number; wordBytes: number } {
  const dataSet = new DataSet(head);
  const bitsAllocated = dataSet.number(Tag.BitsAllocated) ?? 8;
  const bits =
    (dataSet.number(Tag.Rows) ?? 0) *
    (dataSet.number(Tag.Columns) ?? 0) *
    (dataSet.number(Tag.SamplesPerPixel) ?? 1) *
    bitsAllocated;
  const vr = head.pixel === undefined ? undefined : dataSet.get(head.pixel.tag)?.vr;
  const wordBytes = vr === 'OB' ? 1 : vr === 'OF' ? 4 : vr === 'OD' ? 8 : 2;
  return { frameBits: bits, frameBytes: Math.ceil(bits / 8), wordBytes };
}

/** Swaps the bytes of each word, across chunk borders. */
export async function* byteSwapped(source: AsyncIterable<Buffer>, wordBytes: number): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of source) {
    const joined = Buffer.concat([rest, chunk]);
    const whole = joined.length - (joined.length % wordBytes);
    const words = joined.subarray(0, whole);
    if (wordBytes === 2) words.swap16();
    else if (wordBytes === 4) words.swap32();
    else if (wordBytes === 8) words.swap64();
    rest = joined.subarray(whole);
    yield words;
  }
  if (rest.length > 0) yield rest;
}

/** A 1-bit frame that begins inside a byte, moved to begin at its first bit; bits beyond the frame are zero (PS3.5 §8.1.1, §8.2). */
export async function* shifted(
  source: AsyncIterable<Buffer>,
  bitShift: number,
  frameBits: number,
): AsyncGenerator<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  const packed = Buffer.concat(chunks);
  const bytes = Math.ceil(frameBits / 8);
  const result = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++)
    result[i] = ((packed[i]! >> bitShift) | ((packed[i + 1] ?? 0) << (8 - bitShift))) & 0xff;
  const spare = bytes * 8 - frameBits;
  if (spare > 0 && bytes > 0) result[bytes - 1] = result[bytes - 1]! & (0xff >> spare);
  yield result;
}
