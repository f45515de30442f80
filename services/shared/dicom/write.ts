import { type Charset, charsetOf, type TextKind } from './charset.ts';
import { CHARSET_VRS, textKind } from './dataset.ts';
import { delimiter, elementHeader, itemHeader } from './element-write.ts';
import { DicomError } from './errors.ts';
import type { JsonDataSet } from './json.ts';
import { fromJson } from './json-read.ts';
import { Tag, type VR, VRS } from './tags.ts';
import { encodingOf } from './uids.ts';

export { canReencode, reencode } from './reencode.ts';

/** Bytes that are elsewhere (a body's part on disk): named in place, filled in by whoever writes the pieces. */
export interface Bulk {
  length: number;
  source: unknown;
}

/** An element to write: one of `values`, `items`, `bytes` (little endian), `bulk`, `fragments`; none is an empty one. */
export interface WriteElement {
  tag: number;
  vr: VR;
  values?: (string | number | bigint | null)[];
  items?: WriteElement[][];
  bytes?: Buffer;
  bulk?: Bulk;
  /** Encapsulated pixel data: written behind an empty Basic Offset Table. */
  fragments?: (Buffer | Bulk)[];
}

export interface WriteOptions {
  transferSyntaxUid: string; // Implicit VR LE, Explicit VR LE or an encapsulated one
  /** (0008,0005) to write in, when it can carry every text, else ISO_IR 192. Default: what the data set says. */
  charset?: string | readonly string[] | undefined;
}

/** Deterministic: sorted, padded to even lengths, sequences and items of defined length. */
export function encodeDataSet(dataSet: JsonDataSet | readonly WriteElement[], options: WriteOptions): Buffer {
  const pieces = encodeDataSetPieces(dataSet, options);
  return Buffer.concat(
    pieces.map((piece) => {
      if (!Buffer.isBuffer(piece))
        throw new DicomError('bad-model', 'bulk elsewhere, in a data set to be written whole');
      return piece;
    }),
  );
}

/** The same for data sets whose bulk is elsewhere: buffers and bulk in order, padding included. */
export function encodeDataSetPieces(
  dataSet: JsonDataSet | readonly WriteElement[],
  options: WriteOptions,
): (Buffer | Bulk)[] {
  const encoding = encodingOf(options.transferSyntaxUid);
  if (encoding === 'bigEndian' || encoding === 'deflated') {
    throw new DicomError('unsupported-transfer-syntax', `data sets are not written in ${options.transferSyntaxUid}`);
  }
  let elements = Array.isArray(dataSet) ? (dataSet as readonly WriteElement[]) : fromJson(dataSet);
  const charset = chooseCharset(elements, options.charset);
  elements = elements.filter((element) => element.tag !== Tag.SpecificCharacterSet);
  if (charset.terms.length > 0)
    elements = [...elements, { tag: Tag.SpecificCharacterSet, vr: 'CS', values: [...charset.terms] }];
  const out: (Buffer | Bulk)[] = [];
  write(elements, encoding !== 'implicit', charset, out);
  return out;
}

function chooseCharset(elements: readonly WriteElement[], wished: string | readonly string[] | undefined): Charset {
  const stated = elements
    .find((element) => element.tag === Tag.SpecificCharacterSet)
    ?.values?.map((value) => String(value ?? ''));
  const charset = charsetOf(wished ?? stated);
  return canEncodeAll(elements, charset) ? charset : charsetOf('ISO_IR 192');
}

function canEncodeAll(elements: readonly WriteElement[], charset: Charset): boolean {
  return elements.every(
    (element) =>
      (element.items?.every((item) => canEncodeAll(item, charset)) ?? true) &&
      (!CHARSET_VRS.has(element.vr) ||
        (element.values?.every((value) => typeof value !== 'string' || charset.canEncode(value)) ?? true)),
  );
}

function write(elements: readonly WriteElement[], explicit: boolean, charset: Charset, out: (Buffer | Bulk)[]): void {
  let last = -1;
  for (const element of [...elements].sort((a, b) => a.tag - b.tag)) {
    const { tag, vr } = element;
    if (tag === last) throw new DicomError('bad-model', 'an attribute twice in one data set', { tag });
    last = tag;
    if (element.items) {
      const body: (Buffer | Bulk)[] = [];
      for (const item of element.items) {
        const inner: (Buffer | Bulk)[] = [];
        // Items speak the data set's character set.
        write(
          item.filter((one) => one.tag !== Tag.SpecificCharacterSet),
          explicit,
          charset,
          inner,
        );
        body.push(itemHeader(lengthOf(inner)));
        for (const piece of inner) body.push(piece);
      }
      // Not spread: 20,000 items are more arguments than a call can have.
      out.push(elementHeader(tag, 'SQ', lengthOf(body), explicit));
      for (const piece of body) out.push(piece);
    } else if (element.fragments) {
      out.push(elementHeader(tag, vr === 'OW' ? 'OW' : 'OB', 0xffffffff, explicit), itemHeader(0));
      for (const fragment of element.fragments) {
        out.push(itemHeader(fragment.length + (fragment.length % 2)), fragment);
        if (fragment.length % 2) out.push(Buffer.alloc(1));
      }
      out.push(delimiter(Tag.SequenceDelimitationItem));
    } else {
      const value = element.bulk ?? element.bytes ?? valueBytes(element, charset);
      const odd = value.length % 2;
      out.push(elementHeader(tag, vr, value.length + odd, explicit));
      if (value.length > 0) out.push(value);
      if (odd) out.push(Buffer.from([VRS[vr].pad]));
    }
  }
}

const lengthOf = (pieces: readonly (Buffer | Bulk)[]): number => pieces.reduce((sum, piece) => sum + piece.length, 0);

function valueBytes(element: WriteElement, charset: Charset): Buffer {
  const { vr, tag } = element;
  const values = element.values ?? [];
  if (values.length === 0) return Buffer.alloc(0);
  if (VRS[vr].kind === 'number') {
    const size = vr === 'AT' ? 4 : VRS[vr].swap;
    const bytes = Buffer.alloc(values.length * size);
    for (const [n, value] of values.entries()) {
      if (value === null) throw new DicomError('bad-model', 'an empty value among numbers', { tag });
      writeNumber(bytes, n * size, vr, value, tag);
    }
    return bytes;
  }
  if (VRS[vr].kind !== 'text') throw new DicomError('bad-model', `values for ${vr}`, { tag });
  const text = values.map((value) => textOf(value, vr)).join('\\');
  const kind: TextKind = textKind(vr);
  if (CHARSET_VRS.has(vr)) return charset.encode(text, kind);
  for (let n = 0; n < text.length; n++) {
    if (text.charCodeAt(n) > 0xff) throw new DicomError('bad-model', `text that ${vr} cannot hold`, { tag });
  }
  return Buffer.from(text, 'latin1');
}

function textOf(value: string | number | bigint | null, vr: VR): string {
  if (value === null) return '';
  if (typeof value !== 'number') return String(value);
  if (vr !== 'DS') return String(value);
  // DS: at most 16 characters (PS3.5 Table 6.2-1).
  for (let text = String(value), digits = 16; ; text = String(Number(value.toPrecision(digits)))) {
    if (text.length <= 16 || --digits < 1) return text;
  }
}

const RANGES: Partial<Record<VR, [number, number]>> = {
  US: [0, 0xffff],
  SS: [-0x8000, 0x7fff],
  UL: [0, 0xffffffff],
  SL: [-0x80000000, 0x7fffffff],
  AT: [0, 0xffffffff],
};

function writeNumber(bytes: Buffer, at: number, vr: VR, value: string | number | bigint, tag: number): void {
  if (vr === 'SV' || vr === 'UV') {
    const big = typeof value === 'bigint' ? value : Number.isInteger(Number(value)) ? BigInt(value) : undefined;
    if (big === undefined || BigInt[vr === 'SV' ? 'asIntN' : 'asUintN'](64, big) !== big)
      throw new DicomError('bad-model', `no ${vr} value`, { tag });
    if (vr === 'SV') bytes.writeBigInt64LE(big, at);
    else bytes.writeBigUInt64LE(big, at);
    return;
  }
  const number = Number(value);
  if (vr === 'FL') bytes.writeFloatLE(number, at);
  else if (vr === 'FD') bytes.writeDoubleLE(number, at);
  else {
    const [least, most] = RANGES[vr]!;
    if (!Number.isInteger(number) || number < least || number > most)
      throw new DicomError('bad-model', `no ${vr} value`, { tag });
    if (vr === 'US') bytes.writeUInt16LE(number, at);
    else if (vr === 'SS') bytes.writeInt16LE(number, at);
    else if (vr === 'UL') bytes.writeUInt32LE(number, at);
    else if (vr === 'SL') bytes.writeInt32LE(number, at);
    else {
      bytes.writeUInt16LE(Math.floor(number / 0x10000), at);
      bytes.writeUInt16LE(number % 0x10000, at + 2);
    }
  }
}
