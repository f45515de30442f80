import { DicomError } from './errors.ts';
import { dictionaryEntry, isVr, Tag, type VR, VRS, vrOf } from './tags.ts';

/**
 * How the structure of a data set is read (PS3.5 §7): one element header, and the nesting of sequences and items.
 * The Skimmer (bytes as they arrive) and the DataSet (bytes as they were kept) both stand on it, so they cannot disagree.
 */

export const UNDEFINED_LENGTH = 0xffffffff;

export interface Header {
  tag: number;
  vr: VR; // in implicit VR from the dictionary
  length: number; // or UNDEFINED_LENGTH
  /** The VR bytes were no VR: the VR is the dictionary's, the header as implicit VR's (in the field: mixed data sets) or the short form. */
  strange: boolean;
  explicit: boolean;
}

const VR_TABLE: (VR | undefined)[] = Array.from({ length: 26 * 26 }, (_, n) => {
  const vr = String.fromCharCode(65 + Math.floor(n / 26), 65 + (n % 26));
  return isVr(vr) ? vr : undefined;
});
const LONG = new Set<VR>((Object.keys(VRS) as VR[]).filter((vr) => VRS[vr].long));
const LONG_TABLE: boolean[] = VR_TABLE.map((vr) => vr !== undefined && LONG.has(vr));

const isUpper = (byte: number): boolean => byte >= 65 && byte <= 90;
function vrAt(buffer: Buffer, at: number): VR | undefined {
  const a = buffer[at]! - 65;
  const b = buffer[at + 1]! - 65;
  return a >= 0 && a < 26 && b >= 0 && b < 26 ? VR_TABLE[a * 26 + b] : undefined;
}

const isPrintable = (byte: number): boolean => byte >= 0x20 && byte <= 0x7e;

/**
 * Two bytes where a VR should be that are none, and no part of an implicit length either: "??", spaces, small letters, zeros. DCMTK
 * 3.6.7 reads them as the short form ("assuming 2 byte length field"), and so do we; pydicom takes them for an implicit length, and the
 * rest of the data set with it. As a length such characters would say 8 KiB or more, zeros a multiple of 64 KiB.
 */
function isShortWithoutVr(buffer: Buffer, at: number, tag: number, bigEndian: boolean): boolean {
  const a = buffer[at + 4]!;
  const b = buffer[at + 5]!;
  if (a !== 0 || b !== 0) return isPrintable(a) && isPrintable(b) && !(isUpper(a) && isUpper(b));
  if (bigEndian || (buffer[at + 6] === 0 && buffer[at + 7] === 0)) return false; // an implicit length like any other
  return (tag >>> 16) % 2 === 1 || !LONG.has(vrOf(tag)); // bulk of 64 KiB is common, such a text is not
}

/** Reads the header at `at` into `header`; its size, or 0 when there are too few bytes yet. */
export function readHeader(
  buffer: Buffer,
  at: number,
  end: number,
  explicit: boolean,
  bigEndian: boolean,
  header: Header,
): 0 | 8 | 12 {
  if (end - at < 8) return 0;
  const group = bigEndian ? (buffer[at]! << 8) | buffer[at + 1]! : buffer[at]! | (buffer[at + 1]! << 8);
  const element = bigEndian ? (buffer[at + 2]! << 8) | buffer[at + 3]! : buffer[at + 2]! | (buffer[at + 3]! << 8);
  const tag = group * 0x10000 + element;
  header.tag = tag;
  header.strange = false;
  header.explicit = explicit;
  if (group === 0xfffe && (element === 0xe000 || element === 0xe00d || element === 0xe0dd)) {
    // Items and delimiters have no VR (PS3.5 §7.5).
    header.vr = 'UN';
    header.length = bigEndian ? buffer.readUInt32BE(at + 4) : buffer.readUInt32LE(at + 4);
    return 8;
  }
  if (explicit) {
    const a = buffer[at + 4]! - 65;
    const b = buffer[at + 5]! - 65;
    if (a >= 0 && a < 26 && b >= 0 && b < 26) {
      const index = a * 26 + b;
      const vr = VR_TABLE[index];
      if (vr !== undefined && !LONG_TABLE[index]) {
        header.vr = vr;
        header.length = bigEndian ? (buffer[at + 6]! << 8) | buffer[at + 7]! : buffer[at + 6]! | (buffer[at + 7]! << 8);
        return 8;
      }
      // Two letters that are no VR: one of tomorrow. All new VRs have the long form (PS3.5 §7.1.2).
      if (end - at < 12) return 0;
      header.vr = vr ?? 'UN';
      header.length = bigEndian ? buffer.readUInt32BE(at + 8) : buffer.readUInt32LE(at + 8);
      return 12;
    }
    header.strange = true;
    header.explicit = false;
    if (isShortWithoutVr(buffer, at, tag, bigEndian)) {
      header.vr = vrOf(tag);
      header.length = bigEndian ? buffer.readUInt16BE(at + 6) : buffer.readUInt16LE(at + 6);
      return 8;
    }
  }
  header.vr = vrOf(tag);
  header.length = bigEndian ? buffer.readUInt32BE(at + 4) : buffer.readUInt32LE(at + 4);
  return 8;
}

export type Kind = 'root' | 'sequence' | 'item';

export interface Level {
  kind: Kind;
  end: number; // offset where it ends at the latest: its own length, or what encloses it
  undefinedLength: boolean;
  explicit: boolean;
  bigEndian: boolean;
  fresh: boolean; // nothing read in it yet: its VR may still turn out to be other than declared
}

/** What the header just read means. */
export type Step = 'value' | 'fragments' | 'sequence' | 'item' | 'nothing' | 'trailing';

/** The open sequences and items, iteratively: a deeply nested file costs an error, not the stack. */
export class Nesting {
  readonly #levels: Level[] = [];
  readonly #depthMax: number;
  top: Level;
  readonly root: Level;
  depth = 0;
  /** Called as each sequence or item ends, whether by its delimiter, its length or by mistake. */
  onClose: ((kind: Kind) => void) | undefined;
  /** Top-level pixel data was passed: what follows and is no element is trailing. */
  pixelSeen = false;

  constructor(explicit: boolean, bigEndian: boolean, sequenceDepthMax: number) {
    this.top = { kind: 'root', end: Infinity, undefinedLength: true, explicit, bigEndian, fresh: true };
    this.root = this.top;
    this.#levels.push(this.top);
    this.#depthMax = sequenceDepthMax * 2;
  }

  /** Goes on within a sequence that was opened before. */
  enter(level: Readonly<Level>): void {
    this.#push(level.kind, level.end, level.undefinedLength, level.explicit, level.bigEndian);
  }

  /** Levels whose length is used up end here, and with them those inside that lack their delimiter. */
  closeAt(offset: number): void {
    while (this.depth > 0 && offset >= this.top.end) this.#pop();
  }

  /** Call before readHeader with at least 8 bytes: the declared VR and byte order against the first header found. */
  detect(buffer: Buffer, at: number, offset: number): void {
    const top = this.top;
    top.fresh = false;
    if (top.kind === 'sequence') {
      // A sequence in the other byte order than the data set: GDCM has a Philips Intera file so and reads it, DCMTK does not.
      const item = top.bigEndian ? buffer.readUInt32LE(at) : buffer.readUInt32BE(at);
      if (item === (top.bigEndian ? 0xe000fffe : 0xfffee000)) top.bigEndian = !top.bigEndian;
      return;
    }
    if (top.kind === 'root') {
      // Data sets begin with group 0008; read in the wrong byte order it is 0800, which is no group.
      const declared = top.bigEndian ? buffer.readUInt16BE(at) : buffer.readUInt16LE(at);
      if (declared === 0x0800 && vrAt(buffer, at + 4)) top.bigEndian = !top.bigEndian;
    }
    const group = top.bigEndian ? buffer.readUInt16BE(at) : buffer.readUInt16LE(at);
    if (group === 0xfffe) return;
    const vr = vrAt(buffer, at + 4);
    if (top.explicit) {
      if (vr || (isUpper(buffer[at + 4]!) && isUpper(buffer[at + 5]!))) return;
      const element = top.bigEndian ? buffer.readUInt16BE(at + 2) : buffer.readUInt16LE(at + 2);
      if (isShortWithoutVr(buffer, at, group * 0x10000 + element, top.bigEndian)) return;
      top.explicit = false;
      return;
    }
    if (!vr) return;
    // Implicit VR, and yet a VR's two letters: explicit, unless they can be a length (16,705 or more) that fits.
    const tag = group * 0x10000 + (top.bigEndian ? buffer.readUInt16BE(at + 2) : buffer.readUInt16LE(at + 2));
    const expected = dictionaryEntry(tag)?.vr ?? vrOf(tag);
    const length = top.bigEndian ? buffer.readUInt32BE(at + 4) : buffer.readUInt32LE(at + 4);
    if (expected === 'UN' || expected.includes(vr) || offset + 8 + length > top.end) top.explicit = true;
  }

  /** Takes the header that ends at `valueOffset`. Throws where nothing can be made of it. */
  step(header: Header, valueOffset: number): Step {
    const { tag, length } = header;
    if (tag === Tag.Item) return this.#item(length, valueOffset);
    if (tag === Tag.ItemDelimitationItem) {
      if (this.top.kind === 'item' && this.top.undefinedLength) this.#pop();
      return 'nothing'; // one after an item of known length: written by mistake, harmless
    }
    if (tag === Tag.SequenceDelimitationItem) {
      // Its item's delimiter is missing: both end here.
      if (this.top.kind === 'item' && this.top.undefinedLength && this.#levels[this.depth - 1]!.undefinedLength)
        this.#pop();
      if (this.top.kind === 'sequence' && this.top.undefinedLength) this.#pop();
      return 'nothing';
    }
    // An element where an item should be: the sequence's length lied, or its delimiter is missing. The element belongs outside.
    while (this.top.kind === 'sequence') this.#pop();
    if (this.top.kind === 'root') {
      if (tag === Tag.DataSetTrailingPadding) return 'trailing';
      // Zeros are padding; group 0000 is no part of a data set, and what follows it is trusted only behind the pixel data.
      if (tag >>> 16 === 0) {
        if (valueOffset > 12 && (this.pixelSeen || (tag === 0 && length === 0))) return 'trailing';
        throw new DicomError('bad-header', `no element of a data set, at ${valueOffset}`, { tag });
      }
      if (this.pixelSeen && header.strange) return 'trailing';
    }
    const isPixel = tag === Tag.PixelData || tag === Tag.FloatPixelData || tag === Tag.DoubleFloatPixelData;
    if (isPixel && this.top.kind === 'root') this.pixelSeen = true;
    if (length === UNDEFINED_LENGTH) {
      // PS3.5 §6.2.2: UN of undefined length is a sequence in Implicit VR Little Endian, whatever the transfer syntax.
      if (isPixel || header.vr === 'OB' || header.vr === 'OW') return 'fragments';
      if (header.explicit && header.vr === 'UN') this.#push('sequence', Infinity, true, false, false);
      else this.#push('sequence', Infinity, true, this.top.explicit, this.top.bigEndian);
      return 'sequence';
    }
    if (header.vr === 'SQ') {
      this.#push('sequence', valueOffset + length, false, this.top.explicit, this.top.bigEndian);
      return 'sequence';
    }
    if (valueOffset + length > this.top.end) {
      throw new DicomError(
        'length-overrun',
        `an element of ${length} bytes reaches beyond what encloses it, at ${valueOffset}`,
        { tag },
      );
    }
    return 'value';
  }

  #item(length: number, valueOffset: number): Step {
    const top = this.top;
    // The item before lacks its delimiter.
    if (top.kind === 'item' && top.undefinedLength) this.#pop();
    if (this.top.kind !== 'sequence') {
      if (length === 0 || length === UNDEFINED_LENGTH) return 'nothing'; // a stray one
      throw new DicomError('bad-delimiter', `an item outside of any sequence, at ${valueOffset}`);
    }
    const { explicit, bigEndian } = this.top;
    if (length === UNDEFINED_LENGTH) this.#push('item', Infinity, true, explicit, bigEndian);
    else this.#push('item', valueOffset + length, false, explicit, bigEndian);
    return 'item';
  }

  #push(kind: Kind, end: number, undefinedLength: boolean, explicit: boolean, bigEndian: boolean): void {
    if (this.depth >= this.#depthMax)
      throw new DicomError('too-deep', `sequences nested deeper than ${this.#depthMax / 2}`);
    // A sequence or item that claims more than what encloses it ends with that.
    const clamped = Math.min(end, this.top.end);
    this.top = { kind, end: clamped, undefinedLength, explicit, bigEndian, fresh: true };
    this.depth++;
    this.#levels[this.depth] = this.top;
  }

  #pop(): void {
    const { kind } = this.top;
    this.depth--;
    this.top = this.#levels[this.depth]!;
    this.onClose?.(kind);
  }
}
