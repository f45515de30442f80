import type { PixelPlace } from './head.ts';
import { isVr, Tag } from './tags.ts';

/** JPEG and JPEG-LS, JPEG 2000, JPEG XL. */
export const CODESTREAM_STARTS: ReadonlySet<number> = new Set([0xffd8, 0xff4f, 0xff0a]);

/** Declared as deflated, and yet not: (0008,xxxx) and a VR, which no deflate stream begins with. */
export const isInTheClear = (buffer: Buffer): boolean =>
  buffer.length >= 8 && buffer.readUInt16LE(0) === 8 && isVr(buffer.toString('latin1', 4, 6));

export const isPixelTag = (tag: number): boolean =>
  tag === Tag.PixelData || tag === Tag.FloatPixelData || tag === Tag.DoubleFloatPixelData;

export const pixelPlace = (tag: number, offset: number, length: number, encapsulated: boolean): PixelPlace => ({
  tag,
  offset,
  length,
  encapsulated,
  basicOffsetTable: [],
  fragmentsOffset: 0,
  fragments: [],
});
