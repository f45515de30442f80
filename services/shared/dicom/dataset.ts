import { type Charset, charsetOf } from './charset.ts';
import { type Header, type Level, Nesting, readHeader, UNDEFINED_LENGTH } from './element.ts';
import { DicomError } from './errors.ts';
import type { Cut, Head } from './head.ts';
import { type SkimOptions, skim } from './skim.ts';
import { dictionaryEntry, isPrivate, Tag, type VR, VRS, type VrContext, vrOf } from './tags.ts';
import { CHARSET_VRS, PLAIN, readNumber, splitText, textKind, trimEnd } from './value-text.ts';

export { CHARSET_VRS, splitText, textKind, trimEnd } from './value-text.ts';

/** What reads a whole small data set (a C-FIND identifier, an N-ACTION's): nothing is cut. */
const WHOLE: SkimOptions['limits'] = { binaryKeptBytesMax: Infinity, otherKeptBytesMax: Infinity };

export class Element {
  readonly tag: number;
  /** As sent; as the dictionary says where it was not sent, or sent as UN for an element that we know. */
  vr: VR;
  readonly cut: Cut | undefined;
  readonly bigEndian: boolean;
  readonly dataSet: DataSet;
  // A view is made when it is asked for: most elements of a header are never looked at.
  readonly #skeleton: Buffer;
  readonly #start: number;
  readonly #end: number;
  #items: DataSet[] | undefined;
  #region: Region | undefined;

  constructor(
    tag: number,
    vr: VR,
    value: { skeleton: Buffer; start: number; end: number },
    cut: Cut | undefined,
    items: DataSet[] | Region | undefined,
    bigEndian: boolean,
    dataSet: DataSet,
  ) {
    this.tag = tag;
    this.vr = vr;
    this.#skeleton = value.skeleton;
    this.#start = value.start;
    this.#end = value.end;
    this.cut = cut;
    if (Array.isArray(items)) this.#items = items;
    else this.#region = items;
    this.bigEndian = bigEndian;
    this.dataSet = dataSet;
  }

  /** The value, or nothing when it is cut. In the data set's byte order (`bigEndian`). */
  get bytes(): Buffer {
    return this.#skeleton.subarray(this.#start, this.#end);
  }

  /** Of a sequence. Those of a top-level one are read when first asked for: a header may hold 10^5 of them. */
  get items(): DataSet[] | undefined {
    const region = this.#region;
    if (region) {
      this.#region = undefined;
      this.#items = [];
      readItems(this, region);
    }
    return this.#items;
  }

  get isEmpty(): boolean {
    return this.items ? this.items.length === 0 : !this.cut && this.#start === this.#end;
  }

  /** The value's bytes as characters, one each: what is compared, not read. */
  latin1(): string {
    return this.#skeleton.toString('latin1', this.#start, this.#end);
  }

  /** All of the text, decoded, padding and separators as they are. */
  text(): string {
    if (this.#start === this.#end) return '';
    const text = this.#skeleton.toString('latin1', this.#start, this.#end);
    // Most text is ASCII, which every character set reads alike.
    if (!CHARSET_VRS.has(this.vr) || PLAIN.test(text)) return text;
    return this.dataSet.charset.decode(this.bytes, textKind(this.vr));
  }

  /** Text, decoded and without padding: values of multi-valued VRs apart, an empty one between others as ''. */
  strings(): string[] {
    if (this.items || this.cut) return [];
    const { vr } = this;
    if (this.#start === this.#end) return [];
    if (VRS[vr].kind === 'text' || vr === 'UN') return splitText(this.text(), vr);
    if (vr === 'AT') return this.numbers().map((tag) => (tag as number).toString(16).toUpperCase().padStart(8, '0'));
    if (VRS[vr].kind === 'number') return this.numbers().map(String);
    return [];
  }

  /** Numbers of numeric VRs, and of IS and DS where they are numbers (NaN where not). SV and UV beyond 2^53: bigint. */
  numbers(): (number | bigint)[] {
    const { vr, bytes, bigEndian } = this;
    if (vr === 'IS' || vr === 'DS') return this.strings().map((s) => (s === '' ? Number.NaN : Number(s)));
    if (VRS[vr].kind !== 'number') return [];
    const size = vr === 'AT' ? 4 : VRS[vr].swap;
    const numbers: (number | bigint)[] = [];
    for (let at = 0; at + size <= bytes.length; at += size) numbers.push(readNumber(bytes, at, vr, bigEndian));
    return numbers;
  }
}

export interface DataSetOptions {
  /** What text means without (0008,0005): a peer's setting (conformance.md). */
  charsetDefault?: string | undefined;
}

/** A read view of a Head, or of a whole small data set. Items are data sets of their own that inherit the character set. */
export class DataSet {
  readonly elements: Element[] = [];
  readonly parent: DataSet | undefined;
  readonly #charsetDefault: Charset;
  #index: Map<number, Element> | undefined;
  #charset: Charset | undefined;

  constructor(
    source: Head | { buffer: Uint8Array; transferSyntaxUid: string } | DataSet | undefined,
    options: DataSetOptions = {},
  ) {
    if (source instanceof DataSet) {
      this.parent = source;
      this.#charsetDefault = source.#charsetDefault;
      return;
    }
    this.#charsetDefault = charsetOf(options.charsetDefault);
    if (source === undefined) return;
    if ('buffer' in source) {
      // Zero bytes are a data set without elements (PS3.5 §7): an identifier may be that.
      if (source.buffer.length > 0) build(this, skim(source.buffer, source.transferSyntaxUid, { limits: WHOLE }));
    } else build(this, source);
  }

  get(tag: number): Element | undefined {
    if (!this.#index) {
      if (this.elements.length <= 8) return this.elements.find((element) => element.tag === tag);
      this.#index = new Map();
      for (const element of this.elements) if (!this.#index.has(element.tag)) this.#index.set(element.tag, element);
    }
    return this.#index.get(tag);
  }

  has(tag: number): boolean {
    return this.get(tag) !== undefined;
  }

  /** The first value; undefined when absent or empty. */
  string(tag: number): string | undefined {
    return this.get(tag)?.strings()[0] || undefined;
  }

  strings(tag: number): string[] {
    return this.get(tag)?.strings() ?? [];
  }

  /** The first value as a number; undefined when absent, empty or no number. */
  number(tag: number): number | undefined {
    const value = this.get(tag)?.numbers()[0];
    const number = typeof value === 'bigint' ? Number(value) : value;
    return number === undefined || Number.isNaN(number) ? undefined : number;
  }

  items(tag: number): DataSet[] {
    return this.get(tag)?.items ?? [];
  }

  /** Every element that a path of tags leads to, through all items. */
  path(tags: readonly number[]): Element[] {
    let dataSets: DataSet[] = [this];
    for (const [n, tag] of tags.entries()) {
      if (n === tags.length - 1) return dataSets.flatMap((one) => one.get(tag) ?? []);
      dataSets = dataSets.flatMap((one) => one.items(tag));
    }
    return [];
  }

  [Symbol.iterator](): IterableIterator<Element> {
    return this.elements[Symbol.iterator]();
  }

  get charset(): Charset {
    if (this.#charset) return this.#charset;
    const stated = this.get(Tag.SpecificCharacterSet);
    if (stated && !stated.isEmpty) this.#charset = charsetOf(trimEnd(stated.bytes.toString('latin1')));
    else this.#charset = this.parent?.charset ?? this.#charsetDefault;
    return this.#charset;
  }

  /** What decides ambiguous VRs (PS3.5 Annex A): own attributes, else those of what encloses this item. */
  vrContext(): VrContext {
    const outer = this.parent?.vrContext();
    const lut = this.get(Tag.LUTDescriptor);
    return {
      pixelRepresentation: this.number(Tag.PixelRepresentation) ?? outer?.pixelRepresentation,
      waveformBitsAllocated: this.number(Tag.WaveformBitsAllocated) ?? outer?.waveformBitsAllocated,
      lutEntries:
        lut && lut.bytes.length >= 2
          ? lut.bigEndian
            ? lut.bytes.readUInt16BE(0)
            : lut.bytes.readUInt16LE(0)
          : undefined,
    };
  }
}

/** Where a sequence's items lie, and how they are to be read. */
interface Region {
  head: Head;
  at: number; // in the skeleton
  end: number;
  shift: number; // offset within the data set − position in the skeleton
  nextCut: number;
  level: Readonly<Level>;
}

/** Deeper than any limit that a Head may have been made under. */
const DEPTH_MAX = 4096;

function build(root: DataSet, head: Head): void {
  const nesting = new Nesting(head.explicit, head.bigEndian, DEPTH_MAX);
  nesting.top.fresh = false; // decided when it was skimmed
  walk(root, undefined, nesting, { head, at: 0, end: head.skeleton.length, shift: 0, nextCut: 0, level: nesting.top });
}

function readItems(sequence: Element, region: Region): void {
  const nesting = new Nesting(region.level.explicit, region.level.bigEndian, DEPTH_MAX);
  nesting.enter(region.level);
  walk(sequence.dataSet, sequence, nesting, region);
}

/**
 * The same walk as the Skimmer's, over what it kept: of a data set's own elements, its sequences noted and passed over; or of one
 * such sequence with all that is in it.
 */
function walk(owner: DataSet, inside: Element | undefined, nesting: Nesting, region: Region): void {
  const { head, end } = region;
  const { skeleton, cuts } = head;
  const header: Header = { tag: 0, vr: 'UN', length: 0, strange: false, explicit: false };
  const dataSets: DataSet[] = [owner]; // by depth
  const sequences: Element[] = inside ? [inside] : [];
  const ambiguous: Element[] = [];
  let { at, shift, nextCut } = region;
  let headerAt = at;
  let open: Region | undefined;
  nesting.onClose = (kind) => {
    if (open && kind === 'sequence' && nesting.depth === 0) {
      open.end = headerAt;
      open = undefined;
    }
  };
  while (at < end) {
    headerAt = at;
    nesting.closeAt(at + shift);
    const { top } = nesting;
    if (top.fresh && end - at >= 8) nesting.detect(skeleton, at, at + shift);
    const size = readHeader(skeleton, at, end, top.explicit, top.bigEndian, header);
    if (size === 0) throw new DicomError('bad-head', 'a header record ends within an element');
    at += size;
    const step = nesting.step(header, at + shift);
    if (step === 'nothing') continue;
    if (step === 'trailing') throw new DicomError('bad-head', 'a header record holds what is no element');
    const { tag } = header;
    const depth = nesting.depth >> 1; // of items
    if (step === 'item') {
      if (!inside) continue;
      const sequence = sequences[depth - 1]!;
      const item = new DataSet(sequence.dataSet);
      sequence.items!.push(item);
      dataSets[depth] = item;
      continue;
    }
    if (step === 'sequence') {
      if (!inside && depth > 0) continue;
      let items: DataSet[] | Region = [];
      if (!inside) items = open = { head, at, end, shift, nextCut, level: { ...nesting.top } };
      const element = new Element(
        tag,
        'SQ',
        { skeleton, start: at, end: at },
        undefined,
        items,
        top.bigEndian,
        dataSets[depth]!,
      );
      dataSets[depth]!.elements.push(element);
      sequences[depth] = element;
      continue;
    }
    const cut = cuts[nextCut];
    const isCut = cut !== undefined && cut.at === at;
    const start = at;
    if (isCut) {
      nextCut++;
      shift += cut.length;
    } else if (header.length !== UNDEFINED_LENGTH) {
      if (at + header.length > end) throw new DicomError('bad-head', 'a header record ends within a value');
      at += header.length;
    }
    if (!inside && depth > 0) continue;
    let { vr } = header;
    let bigEndian = nesting.top.bigEndian;
    if (vr === 'UN' && header.explicit && step === 'value') {
      // PS3.5 §6.2.2: the value of UN is in Implicit VR Little Endian, so what the sender did not know we may.
      const known = vrOf(tag);
      if (known === 'SQ' && !isCut && readUnknown(head, start, at, shift, tag, dataSets[depth]!)) continue;
      if (known !== 'UN' && known !== 'SQ') {
        vr = known;
        bigEndian = false;
      }
    }
    const value = { skeleton, start, end: at };
    const element = new Element(tag, vr, value, isCut ? cut : undefined, undefined, bigEndian, dataSets[depth]!);
    dataSets[depth]!.elements.push(element);
    const stated = header.explicit && header.vr !== 'UN';
    if (!stated && (vr === 'US' || vr === 'OW') && dictionaryEntry(tag)?.vr.includes('|')) ambiguous.push(element);
  }
  for (const element of ambiguous) {
    const encapsulated = !inside && head.pixel?.encapsulated === true;
    element.vr = vrOf(element.tag, { ...element.dataSet.vrContext(), encapsulated });
  }
}

/** A sequence that was sent as UN of known length (PS3.5 §6.2.2), where its bytes are one: then it is an element of `owner`. */
function readUnknown(head: Head, start: number, end: number, shift: number, tag: number, owner: DataSet): boolean {
  const { skeleton } = head;
  if (end - start < 8 || skeleton.readUInt16LE(start) !== 0xfffe || skeleton.readUInt16LE(start + 2) !== 0xe000)
    return false;
  const element = new Element(tag, 'SQ', { skeleton, start, end: start }, undefined, [], false, owner);
  const level: Level = {
    kind: 'sequence',
    end: end + shift,
    undefinedLength: false,
    explicit: false,
    bigEndian: false,
    fresh: true,
  };
  const nesting = new Nesting(false, false, 64);
  const outside = new DataSet(owner);
  try {
    nesting.enter(level);
    walk(outside, element, nesting, { head, at: start, end, shift, nextCut: head.cuts.length, level });
  } catch (error) {
    if (error instanceof DicomError) return false; // no sequence: it stays UN
    throw error;
  }
  if (outside.elements.length > 0) return false;
  owner.elements.push(element);
  return true;
}

/** The creator that reserves a private element's block in this data set (PS3.5 §7.8.1). */
export function privateCreatorOf(dataSet: DataSet, tag: number): string | undefined {
  if (!isPrivate(tag) || (tag & 0xffff) < 0x1000) return undefined;
  return dataSet.string(((tag & 0xffff0000) | ((tag >>> 8) & 0xff)) >>> 0);
}
