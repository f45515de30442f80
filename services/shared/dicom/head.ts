import { ByteWriter } from './byte-writer.ts';
import { DicomError } from './errors.ts';

/** A value that was left out of the skeleton. */
export interface Cut {
  at: number; // position in the skeleton where the value is missing
  offset: number; // of the value within the data set (inflated, when deflated)
  length: number;
}

export interface PixelPlace {
  tag: number; // Pixel Data, Float Pixel Data or Double Float Pixel Data
  offset: number;
  length: number; // of the whole value; when encapsulated: item tags and sequence delimiter included
  encapsulated: boolean;
  basicOffsetTable: number[]; // empty when there is none
  /** Offset of the first fragment's item tag: what Basic Offset Table values count from (PS3.5 §A.4). */
  fragmentsOffset: number;
  /** Lengths of the fragments' values: they follow each other, each behind its 8-byte item tag. */
  fragments: number[];
  /**
   * Only without a Basic Offset Table, and only where some fragments continue a frame: those that begin with a codestream's start
   * marker, that is, a frame (PS3.5 §A.4 leaves nothing else to go by).
   */
  frameStarts?: number[] | undefined;
}

/** What is kept of a data set for finding and answering: everything but bulk. */
export interface Head {
  transferSyntaxUid: string; // as declared
  /** As found: the field has Implicit VR declared and Explicit sent, and the other way round. */
  explicit: boolean;
  bigEndian: boolean;
  deflated: boolean;
  length: number; // of the whole data set, inflated
  skeleton: Buffer;
  cuts: Cut[]; // in order
  pixel?: PixelPlace | undefined;
  /** Padding, or bytes that are no element, after the last one. */
  trailing?: { offset: number; length: number } | undefined;
}

const VERSION = 1;

class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  number(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new DicomError('bad-head', 'a header record ends too early');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
    }
    throw new DicomError('bad-head', 'a header record holds an impossible number');
  }
  /** How many of something follow, each of at least one byte: a broken record cannot claim more than it holds. */
  count(): number {
    const n = this.number();
    if (n > this.#bytes.length - this.#at)
      throw new DicomError('bad-head', 'a header record claims more than it holds');
    return n;
  }
  bytes(): Buffer {
    const length = this.count();
    return this.#bytes.subarray(this.#at, (this.#at += length));
  }
  done(): boolean {
    return this.#at === this.#bytes.length;
  }
}

const EXPLICIT = 1;
const BIG_ENDIAN = 2;
const DEFLATED = 4;
const PIXEL = 8;
const ENCAPSULATED = 16;
const TRAILING = 32;
const FRAME_STARTS = 64;

/** Version byte, flags, then LEB128 numbers; what grows (offsets) is written as differences. */
export function encodeHead(head: Head): Buffer {
  const { pixel, trailing } = head;
  const out = new ByteWriter(256);
  out.number(VERSION);
  out.number(
    (head.explicit ? EXPLICIT : 0) |
      (head.bigEndian ? BIG_ENDIAN : 0) |
      (head.deflated ? DEFLATED : 0) |
      (pixel ? PIXEL : 0) |
      (pixel?.encapsulated ? ENCAPSULATED : 0) |
      (trailing ? TRAILING : 0) |
      (pixel?.encapsulated && pixel.frameStarts ? FRAME_STARTS : 0),
  );
  out.bytes(Buffer.from(head.transferSyntaxUid, 'latin1'));
  out.number(head.length);
  out.bytes(head.skeleton);
  out.number(head.cuts.length);
  let at = 0;
  let offset = 0;
  for (const cut of head.cuts) {
    out.number(cut.at - at);
    out.number(cut.offset - offset);
    out.number(cut.length);
    at = cut.at;
    offset = cut.offset;
  }
  if (pixel) {
    out.number(pixel.tag);
    out.number(pixel.offset);
    out.number(pixel.length);
    if (pixel.encapsulated) {
      out.number(pixel.fragmentsOffset);
      out.number(pixel.basicOffsetTable.length);
      for (const one of pixel.basicOffsetTable) out.number(one); // hostile ones need not grow
      out.number(pixel.fragments.length);
      for (const one of pixel.fragments) out.number(one);
      if (pixel.frameStarts) {
        out.number(pixel.frameStarts.length);
        for (const one of pixel.frameStarts) out.number(one);
      }
    }
  }
  if (trailing) {
    out.number(trailing.offset);
    out.number(trailing.length);
  }
  return out.end();
}

/** The skeleton is a view of `bytes`. */
export function decodeHead(bytes: Uint8Array): Head {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reader = new Reader(buffer);
  const version = reader.number();
  if (version !== VERSION)
    throw new DicomError('bad-head', `header record of version ${version}: this release reads ${VERSION}`);
  const flags = reader.number();
  const head: Head = {
    transferSyntaxUid: reader.bytes().toString('latin1'),
    explicit: (flags & EXPLICIT) !== 0,
    bigEndian: (flags & BIG_ENDIAN) !== 0,
    deflated: (flags & DEFLATED) !== 0,
    length: reader.number(),
    skeleton: reader.bytes(),
    cuts: [],
  };
  const cuts = reader.count();
  let at = 0;
  let offset = 0;
  for (let n = 0; n < cuts; n++) {
    at += reader.number();
    offset += reader.number();
    if (at > head.skeleton.length) throw new DicomError('bad-head', 'a header record cuts beyond its end');
    head.cuts.push({ at, offset, length: reader.number() });
  }
  if (flags & PIXEL) {
    const encapsulated = (flags & ENCAPSULATED) !== 0;
    const pixel: PixelPlace = {
      tag: reader.number(),
      offset: reader.number(),
      length: reader.number(),
      encapsulated,
      basicOffsetTable: [],
      fragmentsOffset: 0,
      fragments: [],
    };
    if (encapsulated) {
      pixel.fragmentsOffset = reader.number();
      for (let n = reader.count(); n > 0; n--) pixel.basicOffsetTable.push(reader.number());
      for (let n = reader.count(); n > 0; n--) pixel.fragments.push(reader.number());
      if (flags & FRAME_STARTS) {
        pixel.frameStarts = [];
        for (let n = reader.count(); n > 0; n--) pixel.frameStarts.push(reader.number());
      }
    }
    head.pixel = pixel;
  }
  if (flags & TRAILING) head.trailing = { offset: reader.number(), length: reader.number() };
  if (!reader.done()) throw new DicomError('bad-head', 'a header record has bytes left over');
  return head;
}
