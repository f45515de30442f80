import type { TextKind } from './charset.ts';
import type { VR } from './tags.ts';

/** A value's bytes as text and numbers, by its VR (PS3.5 §6.2). */

/** ASCII, and no escape sequence. */
export const PLAIN = /^[\x00-\x1a\x1c-\x7f]*$/;

/** VRs whose text (0008,0005) governs (PS3.5 §6.1.2.3); the rest is ASCII. */
export const CHARSET_VRS: ReadonlySet<VR> = new Set(['SH', 'LO', 'ST', 'LT', 'UC', 'UT', 'PN', 'UN']);
/** Text in which a backslash is a character, and leading spaces mean something. */
const UNSPLIT = new Set<VR>(['ST', 'LT', 'UT', 'UR']);

export const textKind = (vr: VR): TextKind => (vr === 'PN' ? 'name' : UNSPLIT.has(vr) ? 'text' : 'multi');

const isPad = (code: number): boolean => code === 0x20 || code === 0;
export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isPad(text.charCodeAt(end - 1))) end--;
  return end === text.length ? text : text.slice(0, end);
}
function trimBoth(text: string): string {
  const trimmed = trimEnd(text);
  let start = 0;
  while (start < trimmed.length && isPad(trimmed.charCodeAt(start))) start++;
  return start === 0 ? trimmed : trimmed.slice(start);
}

/** Values without padding (PS3.5 Table 6.2-1: leading spaces mean something in ST, LT, UT, UC). All padding: no value. */
export function splitText(text: string, vr: VR): string[] {
  if (UNSPLIT.has(vr)) {
    const value = trimEnd(text);
    return value === '' ? [] : [value];
  }
  const trim = vr === 'UC' ? trimEnd : trimBoth;
  if (!text.includes('\\')) {
    const value = trim(text);
    return value === '' ? [] : [value];
  }
  return text.split('\\').map(trim);
}

/** Names as they are shown: leading spaces are no padding (PS3.5 Table 6.2-1), while whoever searches does not mean them. */
export function splitNames(text: string): string[] {
  const names = text.split('\\').map(trimEnd);
  return names.length === 1 && names[0]!.trimStart() === '' ? [] : names;
}

export function readNumber(bytes: Buffer, at: number, vr: VR, bigEndian: boolean): number | bigint {
  switch (vr) {
    case 'US':
      return bigEndian ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at);
    case 'SS':
      return bigEndian ? bytes.readInt16BE(at) : bytes.readInt16LE(at);
    case 'UL':
      return bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at);
    case 'SL':
      return bigEndian ? bytes.readInt32BE(at) : bytes.readInt32LE(at);
    case 'FL':
      return bigEndian ? bytes.readFloatBE(at) : bytes.readFloatLE(at);
    case 'FD':
      return bigEndian ? bytes.readDoubleBE(at) : bytes.readDoubleLE(at);
    case 'AT': {
      const group = bigEndian ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at);
      const element = bigEndian ? bytes.readUInt16BE(at + 2) : bytes.readUInt16LE(at + 2);
      return group * 0x10000 + element;
    }
    default: {
      const value =
        vr === 'SV'
          ? bigEndian
            ? bytes.readBigInt64BE(at)
            : bytes.readBigInt64LE(at)
          : bigEndian
            ? bytes.readBigUInt64BE(at)
            : bytes.readBigUInt64LE(at);
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
  }
}
