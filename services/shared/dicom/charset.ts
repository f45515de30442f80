import { isUtf8 } from 'node:buffer';
import { ASCII, CODED_SETS, type CodedSet, designated, MULTI_BYTE, textDecoder } from './charset-tables.ts';
import { DicomError } from './errors.ts';

/** Where code extensions reset (PS3.5 §6.1.2.5.3): `multi`: also at \ · `name`: also at \ ^ = · `text`: at control characters only. */
export type TextKind = 'text' | 'multi' | 'name';

const ESC = 0x1b;

/** What one (0008,0005) means. Immutable and shared: get it from `charsetOf`. */
export class Charset {
  /** Defined terms, as they stand in (0008,0005); empty: not stated. */
  readonly terms: readonly string[];
  readonly #whole: (typeof MULTI_BYTE)[string] | undefined;
  readonly #sets: CodedSet[] = [];
  readonly #g0: CodedSet = ASCII;
  readonly #g1: CodedSet | undefined;
  /** For 8-bit bytes where nothing is designated: senders forget their escape sequences. */
  readonly #g1Fallback: CodedSet | undefined;
  readonly #extensions: boolean;

  constructor(terms: readonly string[]) {
    this.terms = terms;
    const known = terms.map(normaliseTerm);
    const whole = known.find((term) => term in MULTI_BYTE);
    if (whole) this.#whole = MULTI_BYTE[whole];
    const registrations = known.map((term) => (term === '' ? '6' : (/(\d+)$/.exec(term)?.[1] ?? '')));
    for (const registration of registrations) {
      for (const set of CODED_SETS) if (set.term === registration && !this.#sets.includes(set)) this.#sets.push(set);
    }
    if (!this.#sets.includes(ASCII)) this.#sets.push(ASCII);
    const first = CODED_SETS.filter((set) => set.term === registrations[0] && set.bytes === 1);
    this.#g0 = first.find((set) => set.half === 'G0') ?? ASCII;
    this.#g1 = first.find((set) => set.half === 'G1');
    this.#g1Fallback = this.#sets.find((set) => set.half === 'G1');
    this.#extensions = terms.length > 1 || known.some((term) => term.startsWith('ISO 2022'));
  }

  /** The value of (0008,0005). */
  get specificCharacterSet(): string {
    return this.terms.join('\\');
  }

  decode(bytes: Buffer, kind: TextKind = 'multi'): string {
    let eightBit = false;
    let escapes = false;
    for (let n = 0; n < bytes.length; n++) {
      const byte = bytes[n]!;
      if (byte >= 0x80) eightBit = true;
      else if (byte === ESC) escapes = true;
    }
    if (this.#whole) return eightBit ? textDecoder(this.#whole.label).decode(bytes) : bytes.toString('latin1');
    // An escape sequence means what it says, even where (0008,0005) forgot to announce it.
    if (escapes) return this.#decodeExtended(bytes, kind);
    if (!eightBit) return bytes.toString('latin1');
    if (this.#extensions || this.#g1?.bytes === 1 || this.#g1Fallback) return this.#decodeExtended(bytes, kind);
    return bytes.toString(unstatedEncoding(bytes));
  }

  #decodeExtended(bytes: Buffer, kind: TextKind): string {
    let text = '';
    let g0 = this.#g0;
    let g1 = this.#g1;
    let unstated: 'utf8' | 'latin1' | undefined;
    let latest: CodedSet | undefined; // last designated to G1 in this value
    let at = 0;
    while (at < bytes.length) {
      const byte = bytes[at]!;
      if (byte === ESC) {
        const set = designated(bytes, at + 1);
        if (set) {
          at += 1 + set.escape.length;
          if (set.half === 'G0') g0 = set;
          else latest = g1 = set;
        } else at++; // an escape sequence that DICOM does not know: its letters show
        continue;
      }
      let end = at + 1;
      if (byte >= 0x80) {
        while (end < bytes.length && bytes[end]! >= 0x80) end++;
        const set = g1 ?? latest ?? this.#g1Fallback;
        if (set) text += set.decode(bytes.subarray(at, end));
        else text += bytes.toString((unstated ??= unstatedEncoding(bytes)), at, end);
      } else if (g0.bytes === 2 && byte >= 0x21 && byte <= 0x7e) {
        // Here 5C, 5E and 3D are halves of characters, never delimiters.
        while (end < bytes.length && bytes[end]! >= 0x21 && bytes[end]! <= 0x7e) end++;
        text += g0.decode(bytes.subarray(at, end));
      } else {
        if (resets(byte, kind)) {
          g0 = this.#g0;
          g1 = this.#g1;
        }
        while (end < bytes.length && isPlain(bytes[end]!, kind)) end++;
        text += bytes.toString('latin1', at, end);
      }
      at = end;
    }
    return text;
  }

  canEncode(text: string): boolean {
    return this.#encode(text, 'name') !== undefined;
  }

  /** Throws where the set lacks a character: ask `canEncode` first, and answer in ISO_IR 192 then. */
  encode(text: string, kind: TextKind = 'multi'): Buffer {
    const bytes = this.#encode(text, kind);
    if (!bytes)
      throw new DicomError(
        'not-encodable',
        `a text that ${this.specificCharacterSet || 'the default repertoire'} cannot carry`,
      );
    return bytes;
  }

  #encode(text: string, kind: TextKind): Buffer | undefined {
    if (/^[\x00-\x7f]*$/.test(text)) return Buffer.from(text, 'latin1');
    const parts: Buffer[] = [];
    if (this.#whole) {
      if (this.#whole.label === 'utf-8') return text.isWellFormed() ? Buffer.from(text) : undefined;
      for (const character of text) {
        const bytes = this.#whole.encode(character);
        if (!bytes) return undefined;
        parts.push(bytes);
      }
      return Buffer.concat(parts);
    }
    let g0 = this.#g0;
    let g1 = this.#g1;
    const designate = (set: CodedSet): void => {
      parts.push(Buffer.from(`\x1b${set.escape}`, 'latin1'));
      if (set.half === 'G0') g0 = set;
      else g1 = set;
    };
    for (const character of text) {
      const code = character.charCodeAt(0);
      if (code < 0x80) {
        // ASCII, delimiters and control characters: the initial G0 is active again before them.
        if (g0 !== this.#g0) designate(this.#g0);
        if (resets(code, kind)) g1 = this.#g1;
        parts.push(Buffer.from([code]));
        continue;
      }
      const candidates = this.#extensions ? [g0, ...(g1 ? [g1] : []), ...this.#sets] : g1 ? [g1] : [];
      let found = false;
      for (const set of candidates) {
        const bytes = set.encode(character);
        if (!bytes) continue;
        if (set !== g0 && set !== g1) designate(set);
        parts.push(bytes);
        found = true;
        break;
      }
      if (!found) return undefined;
    }
    if (g0 !== this.#g0) designate(this.#g0);
    return Buffer.concat(parts);
  }
}

const isPlain = (byte: number, kind: TextKind): boolean => byte >= 0x20 && byte < 0x80 && !resets(byte, kind);

const resets = (byte: number, kind: TextKind): boolean => {
  if (byte < 0x20) return byte === 0x0a || byte === 0x0c || byte === 0x0d || byte === 0x09;
  if (kind === 'text') return false;
  if (byte === 0x5c) return true;
  return kind === 'name' && (byte === 0x5e || byte === 0x3d);
};

/** 8-bit bytes, and no set that explains them: UTF-8 where they are that, which chance hardly makes, else Latin-1. */
const unstatedEncoding = (bytes: Buffer): 'utf8' | 'latin1' => (isUtf8(bytes) ? 'utf8' : 'latin1');

const ALIASES: Record<string, string> = {
  'UTF-8': 'ISO_IR 192',
  UTF8: 'ISO_IR 192',
  'ISO-8859-1': 'ISO_IR 100',
  'ISO-8859-2': 'ISO_IR 101',
  'ISO-8859-5': 'ISO_IR 144',
  'ISO-8859-7': 'ISO_IR 126',
  'ISO-8859-9': 'ISO_IR 148',
  'WINDOWS-1252': 'ISO_IR 100',
};

/** Senders write `ISO IR 100`, `iso_ir_100`, `ISO2022 IR 87` … */
function normaliseTerm(term: string): string {
  const upper = term.trim().toUpperCase();
  const match = /^ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)$/.exec(upper);
  if (match) return match[1] ? `ISO 2022 IR ${match[2]}` : `ISO_IR ${match[2]}`;
  return ALIASES[upper] ?? upper;
}

const cache = new Map<string, Charset>();
const CACHE_MAX = 256; // hostile terms may not fill memory

/** `(0008,0005)`'s value, one string with backslashes or its values. Undefined or empty: the default repertoire. */
export function charsetOf(specificCharacterSet: string | readonly string[] | undefined): Charset {
  const key =
    specificCharacterSet === undefined
      ? ''
      : typeof specificCharacterSet === 'string'
        ? specificCharacterSet
        : specificCharacterSet.join('\\');
  let charset = cache.get(key);
  if (!charset) {
    const terms = key === '' ? [] : key.split('\\').map((term) => term.trim());
    charset = new Charset(terms.slice(0, 16));
    if (cache.size >= CACHE_MAX) cache.clear();
    cache.set(key, charset);
  }
  return charset;
}

/** Every defined term of PS3.3 C.12.1.1.2. */
export const isDefinedTerm = (term: string): boolean => {
  const normal = normaliseTerm(term);
  if (normal in MULTI_BYTE) return true;
  const registration = /(\d+)$/.exec(normal)?.[1];
  return /^ISO/.test(normal) && CODED_SETS.some((set) => set.term === registration);
};
