import { type Header, Nesting, readHeader, UNDEFINED_LENGTH } from './element.ts';
import { delimiter, elementHeader, itemHeader } from './element-write.ts';
import { DicomError } from './errors.ts';
import { Inflater } from './inflate.ts';
import { swapBytes } from './json.ts';
import { isInTheClear } from './pixel-place.ts';
import { SKIM_LIMITS } from './skim-limits.ts';
import { dictionaryEntry, isGroupLength, Tag, type VR, VRS, type VrContext, vrOf } from './tags.ts';
import { encodingOf, TransferSyntaxUid } from './uids.ts';

type Source = AsyncIterable<Uint8Array> | Iterable<Uint8Array> | Uint8Array;

/** Small writes are gathered to pieces of this size. */
const PIECE_BYTES = 64 * 1024;

/**
 * A stored data set in another uncompressed transfer syntax, streamed: every element and value stays, private ones too. Sequences and
 * items get undefined lengths (theirs are not known yet when their header is due), group lengths (gggg,0000) and what trails the last
 * element are dropped, odd lengths are padded. Deflated → Explicit VR LE is the inflated bytes themselves.
 */
export async function* reencode(
  source: Source,
  fromTransferSyntaxUid: string,
  toTransferSyntaxUid: string,
): AsyncGenerator<Buffer> {
  if (!canReencode(fromTransferSyntaxUid, toTransferSyntaxUid)) {
    throw new DicomError(
      'unsupported-transfer-syntax',
      `no way from ${fromTransferSyntaxUid} to ${toTransferSyntaxUid} without transcoding`,
    );
  }
  const from = encodingOf(fromTransferSyntaxUid);
  const explicit = toTransferSyntaxUid === TransferSyntaxUid.explicitLe;
  const plain = from === 'deflated' ? inflated(source) : pieces(source);
  if (from === 'deflated' && explicit) yield* plain;
  else {
    const nesting = new Nesting(from !== 'implicit', from === 'bigEndian', SKIM_LIMITS.sequenceDepthMax);
    yield* new Reencoding(new Pull(plain), nesting, explicit).run();
  }
}

/** Only what a data set says, never pixels: not JPIP (they are elsewhere), not GE's syntax (its pixels alone are big endian). */
const SOURCES: ReadonlySet<string> = new Set([
  TransferSyntaxUid.implicitLe,
  TransferSyntaxUid.explicitLe,
  TransferSyntaxUid.explicitBe,
  TransferSyntaxUid.deflatedLe,
]);
const TARGETS: ReadonlySet<string> = new Set([TransferSyntaxUid.implicitLe, TransferSyntaxUid.explicitLe]);

export const canReencode = (fromTransferSyntaxUid: string, toTransferSyntaxUid: string): boolean =>
  SOURCES.has(fromTransferSyntaxUid) && TARGETS.has(toTransferSyntaxUid);

async function* pieces(source: Source): AsyncGenerator<Buffer> {
  if (source instanceof Uint8Array) yield Buffer.from(source.buffer, source.byteOffset, source.byteLength);
  else for await (const chunk of source) yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

const SLICE_BYTES = 4096; // deflate expands at most 1,032 times: at most 4 MiB are held

/** The inflated bytes of a Deflated data set: what a Head's offsets count in. Bytes that are not deflated pass as they are. */
export async function* inflated(source: Source): AsyncGenerator<Buffer> {
  const inflater = new Inflater(SKIM_LIMITS.inflatedBytesMax);
  let first: Buffer | undefined = Buffer.alloc(0);
  let clear = false;
  for await (const piece of pieces(source)) {
    if (clear) {
      yield piece;
      continue;
    }
    let chunk = piece;
    if (first) {
      chunk = first = Buffer.concat([first, piece]);
      if (first.length < 8) continue;
      first = undefined;
      if ((clear = isInTheClear(chunk))) {
        yield chunk;
        continue;
      }
    }
    for (let at = 0; at < chunk.length && !inflater.done; at += SLICE_BYTES) {
      const out: Buffer[] = [];
      inflater.write(chunk.subarray(at, at + SLICE_BYTES), (piece) => out.push(Buffer.from(piece)));
      yield* out;
    }
  }
  if (!clear) inflater.end();
}

/** Bytes on demand, with a promise only where they are not there yet. */
class Pull {
  readonly #source: AsyncGenerator<Buffer>;
  buffer: Buffer = Buffer.alloc(0);
  at = 0;
  offset = 0; // of `at` within the data set
  #ended = false;

  constructor(source: AsyncGenerator<Buffer>) {
    this.#source = source;
  }

  get available(): number {
    return this.buffer.length - this.at;
  }

  /** Until `count` bytes are there, or the source ends. */
  async fill(count: number): Promise<void> {
    while (this.available < count && !this.#ended) {
      const next = await this.#source.next();
      if (next.done) this.#ended = true;
      else if (this.available === 0) {
        this.buffer = next.value;
        this.at = 0;
      } else {
        this.buffer = Buffer.concat([this.buffer.subarray(this.at), next.value]);
        this.at = 0;
      }
    }
  }

  take(count: number): Buffer {
    const taken = this.buffer.subarray(this.at, this.at + count);
    this.at += taken.length;
    this.offset += taken.length;
    return taken;
  }
}

class Reencoding {
  readonly #pull: Pull;
  readonly #nesting: Nesting;
  readonly #explicit: boolean;
  readonly #header: Header = { tag: 0, vr: 'UN', length: 0, strange: false, explicit: false };
  readonly #contexts: VrContext[] = [{}]; // by depth of items
  #out: Buffer[] = [];
  #outBytes = 0;

  constructor(pull: Pull, nesting: Nesting, explicit: boolean) {
    this.#pull = pull;
    this.#nesting = nesting;
    this.#explicit = explicit;
    nesting.onClose = (kind) => {
      if (kind === 'item') this.#contexts.pop();
      this.#write(delimiter(kind === 'item' ? Tag.ItemDelimitationItem : Tag.SequenceDelimitationItem));
    };
  }

  #write(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#out.push(bytes);
    this.#outBytes += bytes.length;
  }

  *#flush(atLeast: number): Generator<Buffer> {
    if (this.#outBytes === 0 || this.#outBytes < atLeast) return;
    yield this.#out.length === 1 ? this.#out[0]! : Buffer.concat(this.#out, this.#outBytes);
    this.#out = [];
    this.#outBytes = 0;
  }

  async *run(): AsyncGenerator<Buffer> {
    const pull = this.#pull;
    const nesting = this.#nesting;
    const header = this.#header;
    for (;;) {
      if (pull.available < 12) await pull.fill(12);
      nesting.closeAt(pull.offset);
      if (pull.available < 8) break; // the end, or trailing bytes too few for an element
      if (nesting.top.fresh) nesting.detect(pull.buffer, pull.at, pull.offset);
      const { top } = nesting;
      const size = readHeader(pull.buffer, pull.at, pull.buffer.length, top.explicit, top.bigEndian, header);
      if (size === 0) break;
      pull.take(size);
      const step = nesting.step(header, pull.offset);
      if (step === 'trailing') break;
      if (step === 'item') {
        this.#contexts.push({ ...this.#contexts.at(-1)!, lutEntries: undefined });
        this.#write(itemHeader(UNDEFINED_LENGTH));
      } else if (step === 'sequence') this.#write(elementHeader(header.tag, 'SQ', UNDEFINED_LENGTH, this.#explicit));
      else if (step === 'value') yield* this.#value();
      else if (step === 'fragments') yield* this.#fragments();
      yield* this.#flush(PIECE_BYTES);
    }
    if (nesting.depth > 0) throw new DicomError('truncated', `the data set ends within a sequence, at ${pull.offset}`);
    yield* this.#flush(0);
  }

  async *#value(): AsyncGenerator<Buffer> {
    const pull = this.#pull;
    const { tag, length } = this.#header;
    const { bigEndian } = this.#nesting.top;
    const sent = this.#header.vr;
    // What was sent as UN is in little endian (PS3.5 §6.2.2), and stays UN.
    const vr = this.#header.explicit ? sent : this.#resolve(tag, sent);
    const swap = bigEndian ? VRS[vr].swap : 1;
    if (CONTEXT_TAGS.has(tag)) {
      await pull.fill(Math.min(length, 16));
      this.#note(tag, length, vr, bigEndian);
    }
    const dropped = isGroupLength(tag);
    if (this.#nesting.pixelSeen && this.#nesting.depth === 0 && !PIXEL_TAGS.has(tag)) {
      // What follows the pixel data may break off (skim.ts calls it trailing then): look before its header is written.
      await pull.fill(Math.min(length, TRAILING_VALUE_BYTES_MAX));
      if (pull.available < Math.min(length, TRAILING_VALUE_BYTES_MAX)) {
        pull.take(pull.available);
        return;
      }
    }
    if (!dropped) this.#write(elementHeader(tag, vr, length + (length % 2), this.#explicit));
    let remaining = length;
    while (remaining > 0) {
      if (pull.available < Math.min(remaining, swap)) await pull.fill(Math.min(remaining, swap));
      let count = Math.min(remaining, pull.available);
      if (count === 0)
        throw new DicomError('truncated', `the data set ends within a value, at ${pull.offset}`, { tag });
      if (swap > 1 && count >= swap) count -= count % swap;
      remaining -= count;
      const bytes = pull.take(count);
      if (dropped) continue;
      // A value whose length is no multiple of its unit is wrong; its rest goes out as it came.
      if (swap === 1 || count < swap) this.#write(bytes);
      else this.#write(swapBytes(Buffer.from(bytes), swap as 2 | 4 | 8));
      yield* this.#flush(PIECE_BYTES);
    }
    if (length % 2 && !dropped) this.#write(Buffer.from([VRS[vr].pad]));
  }

  #resolve(tag: number, vr: VR): VR {
    if (!dictionaryEntry(tag)?.vr.includes('|')) return vr;
    return vrOf(tag, this.#contexts.at(-1)!);
  }

  #note(tag: number, length: number, vr: VR, bigEndian: boolean): void {
    if (length < 2 || vr === 'SQ' || this.#pull.available < 2) return;
    const value = bigEndian
      ? this.#pull.buffer.readUInt16BE(this.#pull.at)
      : this.#pull.buffer.readUInt16LE(this.#pull.at);
    const context = this.#contexts.at(-1)!;
    if (tag === Tag.PixelRepresentation) context.pixelRepresentation = value;
    else if (tag === Tag.WaveformBitsAllocated) context.waveformBitsAllocated = value;
    else context.lutEntries = value;
  }

  /** Encapsulated fragments in an uncompressed data set (an icon's): as they came. */
  async *#fragments(): AsyncGenerator<Buffer> {
    const pull = this.#pull;
    const { bigEndian } = this.#nesting.top;
    this.#write(
      elementHeader(this.#header.tag, this.#header.vr === 'OW' ? 'OW' : 'OB', UNDEFINED_LENGTH, this.#explicit),
    );
    for (;;) {
      await pull.fill(8);
      if (pull.available < 8)
        throw new DicomError('truncated', `the data set ends within fragments, at ${pull.offset}`);
      readHeader(pull.buffer, pull.at, pull.buffer.length, false, bigEndian, this.#header);
      const { tag, length } = this.#header;
      if (tag !== Tag.Item && tag !== Tag.SequenceDelimitationItem) break; // the delimiter is missing
      pull.take(8);
      if (tag === Tag.SequenceDelimitationItem) break;
      if (length === UNDEFINED_LENGTH)
        throw new DicomError('bad-delimiter', `a fragment of undefined length, at ${pull.offset}`);
      this.#write(itemHeader(length));
      for (let remaining = length; remaining > 0; ) {
        if (pull.available === 0) await pull.fill(1);
        const bytes = pull.take(Math.min(remaining, pull.available));
        if (bytes.length === 0)
          throw new DicomError('truncated', `the data set ends within a fragment, at ${pull.offset}`);
        remaining -= bytes.length;
        this.#write(bytes);
        yield* this.#flush(PIECE_BYTES);
      }
    }
    this.#write(delimiter(Tag.SequenceDelimitationItem));
  }
}

const PIXEL_TAGS: ReadonlySet<number> = new Set([Tag.PixelData, Tag.FloatPixelData, Tag.DoubleFloatPixelData]);
const TRAILING_VALUE_BYTES_MAX = 16 * 2 ** 20;
const CONTEXT_TAGS: ReadonlySet<number> = new Set([
  Tag.PixelRepresentation,
  Tag.WaveformBitsAllocated,
  Tag.LUTDescriptor,
]);
