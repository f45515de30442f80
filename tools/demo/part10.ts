// Writes DICOM files for the samples: Explicit VR Little Endian, defined lengths (PS3.5 §7.1.2, PS3.10 §7.1).
// On purpose not services/shared/dicom: what Gantry reads here was not written by Gantry's own encoder.
import { createHash } from 'node:crypto';

export type Value = string | number | number[] | Uint8Array | Element[][];
/** [tag as 8 hex digits, VR, value]; several values of text are joined by a backslash. */
export type Element = [tag: string, vr: string, value: Value];

const EXPLICIT_LITTLE_ENDIAN = '1.2.840.10008.1.2.1';
/** These VRs have two reserved bytes and a 32-bit length (PS3.5 Table 7.1-1). */
const LONG_VRS = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']);

/** A whole file of one instance: preamble, file meta information, data set. `charset` says how its text is written. */
export function part10(elements: Element[], charset: (text: string) => Uint8Array): Uint8Array {
  const value = (tag: string) => elements.find(([t]) => t === tag)?.[2] as string;
  const meta = encode(
    [
      ['00020001', 'OB', Uint8Array.of(0, 1)],
      ['00020002', 'UI', value('00080016')],
      ['00020003', 'UI', value('00080018')],
      ['00020010', 'UI', EXPLICIT_LITTLE_ENDIAN],
      ['00020012', 'UI', uidFor('gantry/samples')],
      ['00020013', 'SH', 'GANTRY_SAMPLES'],
    ],
    latin1,
  );
  const length = encode([['00020000', 'UL', meta.length]], latin1);
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), length, meta, encode(elements, charset)]);
}

export const latin1 = (text: string): Uint8Array => Buffer.from(text, 'latin1');
export const utf8 = (text: string): Uint8Array => Buffer.from(text, 'utf8');

/** The same name, the same UID on every machine: 2.25 and a UUID of its digest (PS3.5 §B.2). */
export function uidFor(name: string): string {
  const digest = createHash('sha256').update(name).digest().subarray(0, 16);
  digest[6] = (digest[6]! & 0x0f) | 0x80;
  digest[8] = (digest[8]! & 0x3f) | 0x80;
  return `2.25.${BigInt(`0x${digest.toString('hex')}`)}`;
}

function encode(elements: Element[], charset: (text: string) => Uint8Array): Buffer {
  const sorted = [...elements].sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat(sorted.flatMap(([tag, vr, value]) => encodeElement(tag, vr, valueBytes(vr, value, charset))));
}

function encodeElement(tag: string, vr: string, value: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(LONG_VRS.has(vr) ? 12 : 8);
  header.writeUInt16LE(Number.parseInt(tag.slice(0, 4), 16), 0);
  header.writeUInt16LE(Number.parseInt(tag.slice(4), 16), 2);
  header.write(vr, 4, 'latin1');
  if (LONG_VRS.has(vr)) header.writeUInt32LE(value.length, 8);
  else header.writeUInt16LE(value.length, 6);
  return [header, value];
}

function valueBytes(vr: string, value: Value, charset: (text: string) => Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return even(value, 0);
  if (vr === 'SQ') {
    return Buffer.concat(
      (value as Element[][]).flatMap((item) => {
        const body = encode(item, charset);
        const header = Buffer.alloc(8);
        header.writeUInt32LE(0xe000fffe, 0);
        header.writeUInt32LE(body.length, 4);
        return [header, body];
      }),
    );
  }
  const numbers = Array.isArray(value) ? (value as number[]) : [value as number];
  if (vr === 'US' || vr === 'SS') return Buffer.from(Uint16Array.from(numbers).buffer);
  if (vr === 'UL') return Buffer.from(Uint32Array.from(numbers).buffer);
  if (vr === 'FD') return Buffer.from(Float64Array.from(numbers).buffer);
  if (vr === 'AT') {
    return Buffer.concat(numbers.map((tag) => Buffer.from(Uint16Array.of(tag >>> 16, tag & 0xffff).buffer)));
  }
  const text = Array.isArray(value) ? numbers.join('\\') : String(value);
  const encoded = ['PN', 'LO', 'SH', 'ST', 'LT', 'UC', 'UT'].includes(vr) ? charset(text) : latin1(text);
  return even(encoded, vr === 'UI' ? 0 : 0x20);
}

/** Values have an even length: UIDs and bytes are padded with a null, text with a space (PS3.5 §6.2). */
function even(bytes: Uint8Array, padding: number): Uint8Array {
  return bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Uint8Array.of(padding)]);
}
