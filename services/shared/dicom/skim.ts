import { type Header, Nesting, readHeader, UNDEFINED_LENGTH } from './element.ts';
import { DicomError } from './errors.ts';
import type { Cut, Head, PixelPlace } from './head.ts';
import { Inflater } from './inflate.ts';
import { CODESTREAM_STARTS, isInTheClear, isPixelTag, pixelPlace } from './pixel-place.ts';
import { Skeleton } from './skeleton.ts';
import { SKIM_LIMITS, type SkimLimits, type SkimOptions } from './skim-limits.ts';
import { Tag, type VR, VRS } from './tags.ts';
import { encodingOf } from './uids.ts';

export type { Cut, Head, PixelPlace } from './head.ts';
export { decodeHead, encodeHead } from './head.ts';
export { SKIM_LIMITS, type SkimLimits, type SkimOptions } from './skim-limits.ts';

const PART10_PREFIX = 132;
type State = 'header' | 'keep' | 'skip' | 'fragment' | 'fragmentValue' | 'offsetTable' | 'trailing';

/**
 * THE parser of what is stored (PS3.5 §7): takes a data set in chunks of any size and leaves a Head, in bounded memory. Bulk passes
 * by uncopied. What it makes of broken data sets is written beside Nesting (element.ts) and in skim.test.ts.
 */
export class Skimmer {
  readonly #limits: SkimLimits;
  readonly #options: SkimOptions;
  readonly #nesting: Nesting;
  #inflater: Inflater | undefined;
  #started = false;
  #prefix: Buffer | undefined; // the first bytes, until Part 10 can be told from a data set

  #state: State = 'header';
  #offset = 0; // of the next byte within the data set
  #remaining = 0; // of the value being kept or passed over
  readonly #header: Header = { tag: 0, vr: 'UN', length: 0, strange: false, explicit: false };
  readonly #carry = Buffer.allocUnsafe(12); // a header that a chunk's end split
  #carried = 0;

  readonly #skeleton: Skeleton;
  readonly #cuts: Cut[] = [];
  #elements = 0;
  #topLevelElements = 0;
  #pixel: PixelPlace | undefined;
  #trailing: { offset: number; length: number } | undefined;
  /** Where the latest top-level element began. */
  readonly #mark = { tag: 0, offset: 0, kept: 0, cuts: 0 };

  // Within fragments:
  #fragmentsCut: Cut | undefined;
  #fragmentsPlace: PixelPlace | undefined; // when they are the top-level pixel data
  #firstItem = false;
  #marker = 0; // the first two bytes of a fragment
  #markerLeft = 0;
  #table: Buffer = Buffer.alloc(0);

  constructor(options: SkimOptions) {
    this.#options = options;
    this.#limits = { ...SKIM_LIMITS, ...options.limits };
    this.#skeleton = new Skeleton(this.#limits.skeletonBytesMax);
    const encoding = encodingOf(options.transferSyntaxUid);
    this.#nesting = new Nesting(encoding !== 'implicit', encoding === 'bigEndian', this.#limits.sequenceDepthMax);
    if (encoding === 'deflated') this.#inflater = new Inflater(this.#limits.inflatedBytesMax);
  }

  /** Copies what it keeps: the chunk may be reused afterwards. */
  write(chunk: Uint8Array): this {
    let buffer = asBuffer(chunk);
    if (!this.#started) {
      if (this.#prefix || buffer.length < PART10_PREFIX) {
        buffer = this.#prefix ? Buffer.concat([this.#prefix, buffer]) : Buffer.from(buffer);
        this.#prefix = buffer;
        if (buffer.length < PART10_PREFIX) return this;
      }
      this.#start(buffer);
    }
    this.#pass(buffer);
    return this;
  }

  end(): Head {
    if (!this.#started) {
      const buffer = this.#prefix ?? Buffer.alloc(0);
      this.#start(buffer);
      this.#pass(buffer);
    }
    this.#inflater?.end();
    this.#finish();
    const { root } = this.#nesting;
    return {
      transferSyntaxUid: this.#options.transferSyntaxUid,
      explicit: root.explicit,
      bigEndian: root.bigEndian,
      deflated: this.#inflater !== undefined,
      length: this.#offset,
      skeleton: this.#skeleton.toBuffer(),
      cuts: this.#cuts,
      ...(this.#pixel && { pixel: this.#pixel }),
      ...(this.#trailing && { trailing: this.#trailing }),
    };
  }

  #start(buffer: Buffer): void {
    this.#started = true;
    this.#prefix = undefined;
    // A data set that says DICM there by chance begins with group 0008; a preamble hardly does.
    const group8 = buffer.length >= 2 && (buffer.readUInt16LE(0) === 0x0008 || buffer.readUInt16LE(0) === 0x0800);
    if (buffer.length >= PART10_PREFIX && !group8 && buffer.toString('latin1', 128, 132) === 'DICM') {
      throw new DicomError('is-part10', 'a Part 10 file where a data set was expected');
    }
    if (this.#inflater && isInTheClear(buffer)) this.#inflater = undefined;
  }

  #pass(buffer: Buffer): void {
    if (this.#inflater) this.#inflater.write(buffer, (inflated) => this.#consume(inflated));
    else this.#consume(buffer);
  }

  #consume(chunk: Buffer): void {
    const end = chunk.length;
    let at = 0; // next byte of the chunk
    if (this.#carried > 0) {
      const had = this.#carried;
      const copied = chunk.copy(this.#carry, had, 0, 12 - had);
      this.#carried += copied;
      const size = this.#readHeader(this.#carry, 0, this.#carried);
      if (size === 0) return;
      this.#carried = 0;
      const fate = this.#take(this.#skeleton.length, size);
      if (fate !== 'drop') this.#skeleton.keep(this.#carry, 0, size);
      at = size - had;
    }
    let run = at; // what lies between here and `at` belongs into the skeleton
    while (at < end) {
      switch (this.#state) {
        case 'header':
        case 'fragment': {
          const size = this.#readHeader(chunk, at, end);
          if (size === 0) {
            this.#skeleton.keep(chunk, run, at);
            this.#carried = chunk.copy(this.#carry, 0, at, end);
            return;
          }
          const fate = this.#take(this.#skeleton.length + at - run, size);
          at += size;
          if (fate !== 'run') {
            this.#skeleton.keep(chunk, run, fate === 'cut' ? at : at - size);
            run = at;
          }
          break;
        }
        case 'keep': {
          const taken = this.#advance(end - at);
          at += taken;
          this.#skeleton.expect(this.#skeleton.length + at - run);
          if (this.#remaining === 0) this.#state = 'header';
          break;
        }
        case 'skip':
        case 'fragmentValue': {
          if (this.#markerLeft > 0) this.#lookAtMarker(chunk, at, Math.min(end, at + this.#remaining));
          run = at += this.#advance(end - at);
          if (this.#remaining === 0) this.#state = this.#state === 'skip' ? 'header' : 'fragment';
          break;
        }
        case 'offsetTable': {
          chunk.copy(this.#table, this.#table.length - this.#remaining, at, end);
          run = at += this.#advance(end - at);
          if (this.#remaining === 0) this.#endOffsetTable();
          break;
        }
        case 'trailing':
          if (!this.#nesting.pixelSeen && this.#header.tag === 0) this.#expectZeros(chunk, at);
          this.#offset += end - at;
          run = at = end;
      }
    }
    this.#skeleton.keep(chunk, run, end);
  }

  /** Padding without pixel data before it: were it more than zeros, the instance might be shown without its pixels. */
  #expectZeros(chunk: Buffer, from: number): void {
    for (let at = from; at < chunk.length; at++) {
      if (chunk[at] !== 0)
        throw new DicomError('bad-header', `no element of a data set, at ${this.#offset + at - from}`);
    }
  }

  #advance(available: number): number {
    const taken = Math.min(this.#remaining, available);
    this.#remaining -= taken;
    this.#offset += taken;
    return taken;
  }

  #readHeader(buffer: Buffer, at: number, end: number): 0 | 8 | 12 {
    const nesting = this.#nesting;
    if (this.#offset >= nesting.top.end) {
      if (this.#state === 'fragment') this.#endFragments(this.#offset); // its delimiter is missing
      nesting.closeAt(this.#offset);
    }
    const { top } = nesting;
    if (top.fresh) {
      if (end - at < 8) return 0;
      nesting.detect(buffer, at, this.#offset);
    }
    return readHeader(buffer, at, end, top.explicit, top.bigEndian, this.#header);
  }

  /** Decides what the header just read means. `kept`: the skeleton's length before it. */
  #take(kept: number, size: number): 'run' | 'cut' | 'drop' {
    this.#offset += size;
    if (this.#state === 'fragment' && this.#takeFragment(size)) return 'drop';
    const header = this.#header;
    const nesting = this.#nesting;
    const { tag, length, vr } = header;
    if (++this.#elements > this.#limits.elementsMax) {
      throw new DicomError('too-many-elements', `more than ${this.#limits.elementsMax} elements`);
    }
    if (tag >>> 16 === 0x0002 && this.#offset === size) {
      throw new DicomError('is-part10', 'file meta information where a data set was expected', { tag });
    }
    const step = nesting.step(header, this.#offset);
    // Only now is it known what the element belongs to: a sequence whose delimiter is missing ends before it.
    if (nesting.depth === 0 ? step !== 'nothing' : nesting.depth === 1 && step === 'sequence') {
      if (++this.#topLevelElements > this.#limits.topLevelElementsMax) {
        throw new DicomError('too-many-elements', `more than ${this.#limits.topLevelElementsMax} elements at the top`);
      }
      const mark = this.#mark;
      mark.tag = tag;
      mark.offset = this.#offset - size;
      mark.kept = kept;
      mark.cuts = this.#cuts.length;
    }
    if (step === 'trailing') {
      this.#trailing = { offset: this.#offset - size, length: 0 };
      this.#state = 'trailing';
      return 'drop';
    }
    const topLevelPixel = nesting.depth === 0 && isPixelTag(tag) && this.#pixel === undefined;
    if (step === 'fragments') {
      this.#fragmentsCut = { at: kept + size, offset: this.#offset, length: 0 };
      this.#fragmentsPlace = topLevelPixel ? pixelPlace(tag, this.#offset, 0, true) : undefined;
      this.#firstItem = true;
      this.#state = 'fragment';
      return 'cut';
    }
    if (step !== 'value') return 'run';
    if (topLevelPixel) this.#pixel = pixelPlace(tag, this.#offset, length, false);
    if (length === 0) return 'run';
    this.#remaining = length;
    if (isPixelTag(tag) || length > this.#keptMax(tag, vr)) {
      this.#cuts.push({ at: kept + size, offset: this.#offset, length });
      this.#state = 'skip';
      return 'cut';
    }
    this.#state = 'keep';
    return 'run';
  }

  #keptMax(tag: number, vr: VR): number {
    if ((tag === Tag.ExtendedOffsetTable || tag === Tag.ExtendedOffsetTableLengths) && this.#nesting.depth === 0) {
      return this.#limits.offsetTableBytesMax;
    }
    return VRS[vr].kind === 'binary' ? this.#limits.binaryKeptBytesMax : this.#limits.otherKeptBytesMax;
  }

  /** Within encapsulated pixel data (PS3.5 §A.4). False: the header is that of an element, the fragments' delimiter is missing. */
  #takeFragment(size: number): boolean {
    const { tag, length } = this.#header;
    if (tag === Tag.SequenceDelimitationItem) {
      this.#endFragments(this.#offset);
      return true;
    }
    if (tag === Tag.ItemDelimitationItem) return true; // belongs to nothing, harmless
    if (tag !== Tag.Item) {
      this.#endFragments(this.#offset - size);
      return false;
    }
    if (this.#offset + length > this.#nesting.top.end || length === UNDEFINED_LENGTH) {
      throw new DicomError(
        'length-overrun',
        `a fragment of ${length} bytes reaches beyond what encloses it, at ${this.#offset}`,
      );
    }
    const place = this.#fragmentsPlace;
    this.#remaining = length;
    if (this.#firstItem) {
      this.#firstItem = false;
      if (place) {
        if (length > this.#limits.offsetTableBytesMax) {
          throw new DicomError(
            'header-too-large',
            `a Basic Offset Table of ${length} bytes (at most ${this.#limits.offsetTableBytesMax})`,
          );
        }
        place.fragmentsOffset = this.#offset + length;
        this.#table = Buffer.allocUnsafe(length);
        if (length > 0) this.#state = 'offsetTable';
        return true;
      }
    } else if (place) {
      if (place.fragments.length >= this.#limits.fragmentsMax) {
        throw new DicomError('too-many-fragments', `more than ${this.#limits.fragmentsMax} fragments`);
      }
      place.fragments.push(length);
      if (place.basicOffsetTable.length === 0) this.#markerLeft = 2;
    }
    if (length > 0) this.#state = 'fragmentValue';
    return true;
  }

  #lookAtMarker(chunk: Buffer, at: number, end: number): void {
    for (; this.#markerLeft > 0 && at < end; at++, this.#markerLeft--)
      this.#marker = ((this.#marker << 8) | chunk[at]!) & 0xffff;
    if (this.#markerLeft > 0 || !CODESTREAM_STARTS.has(this.#marker)) return;
    const place = this.#fragmentsPlace!;
    (place.frameStarts ??= []).push(place.fragments.length - 1);
  }

  #endOffsetTable(): void {
    const table = this.#table;
    const { bigEndian } = this.#nesting.top;
    for (let at = 0; at + 4 <= table.length; at += 4) {
      this.#fragmentsPlace!.basicOffsetTable.push(bigEndian ? table.readUInt32BE(at) : table.readUInt32LE(at));
    }
    this.#table = Buffer.alloc(0);
    this.#state = 'fragment';
  }

  #endFragments(endOffset: number): void {
    const cut = this.#fragmentsCut!;
    cut.length = endOffset - cut.offset;
    if (cut.length > 0) this.#cuts.push(cut);
    if (this.#fragmentsPlace) {
      const place = this.#fragmentsPlace;
      place.length = cut.length;
      if (place.frameStarts?.length === place.fragments.length) delete place.frameStarts; // one each: nothing to add
      this.#pixel = place;
    }
    this.#fragmentsPlace = this.#fragmentsCut = undefined;
    this.#state = 'header';
  }

  /** The data set ends here: what is missing, and does it matter? */
  #finish(): void {
    if (this.#trailing) {
      this.#trailing.length = this.#offset - this.#trailing.offset;
      return;
    }
    if (this.#offset === 0) throw new DicomError('truncated', 'an empty data set');
    const nesting = this.#nesting;
    // On an item's boundary only the delimiter is missing.
    if (this.#state === 'fragment' && !this.#firstItem && this.#carried === 0) this.#endFragments(this.#offset);
    if (this.#state === 'header') {
      nesting.closeAt(this.#offset);
      if (nesting.depth === 0) {
        // What is left is too little for one more header.
        if (this.#carried > 0) this.#trailing = { offset: this.#offset, length: this.#carried };
        this.#offset += this.#carried;
        return;
      }
    }
    const { tag } = this.#mark;
    if (nesting.pixelSeen && !isPixelTag(tag)) {
      // Broken off in what follows the pixel data: the element is no element, but trailing bytes.
      this.#offset += this.#carried;
      this.#trailing = { offset: this.#mark.offset, length: this.#offset - this.#mark.offset };
      this.#skeleton.length = this.#mark.kept;
      this.#cuts.length = this.#mark.cuts;
      return;
    }
    if (this.#options.acceptTruncatedPixelData && this.#truncatePixel()) return;
    throw new DicomError('truncated', `the data set ends within an element, at ${this.#offset + this.#carried}`, {
      tag,
    });
  }

  /** The top-level pixel data is shorter than it says: the place tells what there is. */
  #truncatePixel(): boolean {
    const place = this.#fragmentsPlace;
    if (place && this.#state !== 'offsetTable' && !this.#firstItem) {
      if (this.#state === 'fragmentValue') place.fragments[place.fragments.length - 1]! -= this.#remaining;
      this.#offset += this.#carried;
      this.#endFragments(this.#offset);
      return true;
    }
    if (this.#state !== 'skip' || this.#nesting.depth > 0 || !isPixelTag(this.#mark.tag)) return false;
    const cut = this.#cuts.at(-1)!;
    cut.length -= this.#remaining;
    if (this.#pixel?.offset === cut.offset) this.#pixel.length = cut.length;
    return true;
  }
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A whole data set at once. */
export const skim = (
  dataSet: Uint8Array,
  transferSyntaxUid: string,
  options: Omit<SkimOptions, 'transferSyntaxUid'> = {},
): Head => new Skimmer({ ...options, transferSyntaxUid }).write(dataSet).end();
