import { DataSet } from './dataset.ts';
import { DicomError } from './errors.ts';
import type { Head, PixelPlace } from './head.ts';
import { Tag } from './tags.ts';
import { transferSyntaxOf } from './uids.ts';

/** Where the frames of a stored instance lie, from its Head alone: no pixel is read. */

export interface Range {
  offset: number; // from the data set's first byte (inflated)
  length: number;
}

export interface FramePlace {
  /** In order; joined they are the frame, item tags stripped. */
  ranges: Range[];
  /** 1-bit frames are packed without regard to bytes (PS3.5 §8.1.1): the frame begins at this bit (0 = least significant). */
  bitShift: number;
  /** Bits of a native frame; undefined when encapsulated. */
  bits: number | undefined;
}

export interface Frames {
  count: number;
  encapsulated: boolean;
  pixelTag: number;
  /** `index` from 0. Throws `no-frames` past the end. */
  place(index: number): FramePlace;
}

/** Throws `no-frames` without pixel data, `unclear-frames` where the places cannot be told. */
export function framePlaces(head: Head, dataSet: DataSet = new DataSet(head)): Frames {
  const { pixel } = head;
  if (!pixel || pixel.length === 0) throw new DicomError('no-frames', 'the instance has no pixel data');
  const count = Math.max(1, Math.floor(dataSet.number(Tag.NumberOfFrames) ?? 1));
  const place = pixel.encapsulated ? encapsulated(head, pixel, dataSet, count) : native(pixel, dataSet, count);
  return {
    count,
    encapsulated: pixel.encapsulated,
    pixelTag: pixel.tag,
    place(index) {
      if (!Number.isInteger(index) || index < 0 || index >= count)
        throw new DicomError('no-frames', `frame ${index + 1} of ${count}`);
      return place(index);
    },
  };
}

function native(pixel: PixelPlace, dataSet: DataSet, count: number): (index: number) => FramePlace {
  const rows = dataSet.number(Tag.Rows);
  const columns = dataSet.number(Tag.Columns);
  const samples = dataSet.number(Tag.SamplesPerPixel) ?? 1;
  const allocated =
    pixel.tag === Tag.FloatPixelData
      ? 32
      : pixel.tag === Tag.DoubleFloatPixelData
        ? 64
        : dataSet.number(Tag.BitsAllocated);
  if (!rows || !columns || !allocated) {
    if (count > 1)
      throw new DicomError('unclear-frames', 'several frames, and Rows, Columns or Bits Allocated are missing');
    return () => ({ ranges: [{ offset: pixel.offset, length: pixel.length }], bitShift: 0, bits: pixel.length * 8 });
  }
  // 4:2:2 holds two chroma samples for two pixels (PS3.3 C.7.6.3.1.2).
  const photometric = dataSet.string(Tag.PhotometricInterpretation);
  const subsampled = samples === 3 && (photometric === 'YBR_FULL_422' || photometric === 'YBR_PARTIAL_422');
  let bits = rows * columns * samples * allocated;
  const half = rows * columns * 2 * allocated;
  // Some state 4:2:2 and store 4:4:4: the length tells.
  if (subsampled && pixel.length * 8 < bits * count) bits = half;
  if (!Number.isSafeInteger(bits * count) || Math.ceil((bits * count) / 8) > pixel.length) {
    throw new DicomError(
      'unclear-frames',
      `${pixel.length} bytes of pixel data are too few for ${count} frames of ${bits} bits`,
    );
  }
  return (index) => {
    const start = bits * index;
    const first = Math.floor(start / 8);
    const end = Math.ceil((start + bits) / 8);
    return { ranges: [{ offset: pixel.offset + first, length: end - first }], bitShift: start % 8, bits };
  };
}

function encapsulated(head: Head, pixel: PixelPlace, dataSet: DataSet, count: number): (index: number) => FramePlace {
  const { fragments } = pixel;
  if (fragments.length === 0) throw new DicomError('no-frames', 'the pixel data has no fragments');
  /** Of each fragment's item tag, counted from the first one's: what offset tables hold. */
  const starts = new Float64Array(fragments.length);
  for (let n = 1; n < fragments.length; n++) starts[n] = starts[n - 1]! + 8 + fragments[n - 1]!;
  const rangesOf = (first: number, end: number): Range[] => {
    const ranges: Range[] = [];
    for (let n = first; n < end; n++) {
      if (fragments[n]! > 0) ranges.push({ offset: pixel.fragmentsOffset + starts[n]! + 8, length: fragments[n]! });
    }
    return ranges;
  };
  const frame = (ranges: Range[]): FramePlace => ({ ranges, bitShift: 0, bits: undefined });

  const extended = extendedTable(dataSet, count);
  if (extended) {
    const indexes = indexesOf(extended.offsets, starts);
    if (indexes) {
      return (index) => {
        const ranges = rangesOf(indexes[index]!, indexes[index + 1] ?? fragments.length);
        return frame(extended.lengths ? shorten(ranges, extended.lengths[index]!) : ranges);
      };
    }
  }
  if (transferSyntaxOf(head.transferSyntaxUid)?.video && count > 1) {
    throw new DicomError('unclear-frames', 'a video stream has no frames apart: take the whole');
  }
  if (count === 1) return () => frame(rangesOf(0, fragments.length));
  if (pixel.basicOffsetTable.length === count) {
    const indexes = indexesOf(pixel.basicOffsetTable, starts);
    if (indexes) return (index) => frame(rangesOf(indexes[index]!, indexes[index + 1] ?? fragments.length));
  }
  // No table, or one that points nowhere (4 GiB and more): one fragment a frame, where the numbers agree.
  if (fragments.length === count) return (index) => frame(rangesOf(index, index + 1));
  const { frameStarts } = pixel;
  if (frameStarts?.length === count && frameStarts[0] === 0) {
    return (index) => frame(rangesOf(frameStarts[index]!, frameStarts[index + 1] ?? fragments.length));
  }
  throw new DicomError(
    'unclear-frames',
    `${fragments.length} fragments, ${count} frames, and no offset table that tells them apart`,
  );
}

/** The fragment at which each frame begins; undefined when an offset is no fragment's, or they do not grow. */
function indexesOf(offsets: readonly number[], starts: Float64Array): number[] | undefined {
  const indexes: number[] = [];
  let n = 0;
  for (const offset of offsets) {
    while (n < starts.length && starts[n]! < offset) n++;
    if (n === starts.length || starts[n] !== offset) return undefined;
    if (indexes.length > 0 && indexes.at(-1) === n) return undefined;
    indexes.push(n);
  }
  return indexes[0] === 0 ? indexes : undefined;
}

/** PS3.3 C.7.6.3.1.8: 64-bit offsets and lengths. */
function extendedTable(
  dataSet: DataSet,
  count: number,
): { offsets: number[]; lengths: number[] | undefined } | undefined {
  const table = (tag: number): number[] | undefined => {
    const element = dataSet.get(tag);
    if (!element || element.cut || element.bytes.length !== count * 8) return undefined;
    return Array.from({ length: count }, (_, n) =>
      Number(element.bigEndian ? element.bytes.readBigUInt64BE(n * 8) : element.bytes.readBigUInt64LE(n * 8)),
    );
  };
  const offsets = table(Tag.ExtendedOffsetTable);
  return offsets && { offsets, lengths: table(Tag.ExtendedOffsetTableLengths) };
}

/** The lengths table leaves out a fragment's padding. */
function shorten(ranges: Range[], length: number): Range[] {
  const total = ranges.reduce((sum, range) => sum + range.length, 0);
  if (length >= total || total - length > 1) return ranges; // padding is one byte: any other length is wrong
  return ranges.map((range, n) => (n === ranges.length - 1 ? { ...range, length: range.length - 1 } : range));
}
