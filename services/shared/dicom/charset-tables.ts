import { TextDecoder } from 'node:util';

/**
 * Character repertoires of PS3.3 C.12.1.1.2 (Tables C.12-2 to C.12-5), and how each is decoded and encoded. Decoding is Node's ICU;
 * encoding turns the decoder round, once, when first needed.
 */

/** One coded character set, as ISO 2022 designates it. */
export interface CodedSet {
  term: string; // number of the ISO registration
  escape: string; // after ESC
  half: 'G0' | 'G1'; // bytes below 0x80, or from 0x80
  bytes: 1 | 2; // a character
  /** Decodes a run of this set's bytes only. */
  decode(bytes: Buffer): string;
  /** The bytes of one character, or undefined. */
  encode(character: string): Buffer | undefined;
}

const decoders = new Map<string, TextDecoder>();
export function textDecoder(label: string): TextDecoder {
  let decoder = decoders.get(label);
  if (!decoder) decoders.set(label, (decoder = new TextDecoder(label)));
  return decoder;
}

type Table = Map<string, Buffer>;
const tables = new Map<string, Table>();
/** Turns a decoder round: every byte string of `candidates` that decodes to one character encodes it. The first wins. */
function reversed(name: string, decode: (bytes: Buffer) => string, candidates: () => Iterable<Buffer>): Table {
  let table = tables.get(name);
  if (!table) {
    tables.set(name, (table = new Map()));
    for (const bytes of candidates()) {
      const character = decode(bytes);
      if (character !== '\ufffd' && [...character].length === 1 && !table.has(character)) table.set(character, bytes);
    }
  }
  return table;
}

function* singles(from: number, to: number): Iterable<Buffer> {
  for (let byte = from; byte <= to; byte++) yield Buffer.from([byte]);
}
function* pairs(leadFrom: number, leadTo: number, trailFrom: number, trailTo: number): Iterable<Buffer> {
  for (let lead = leadFrom; lead <= leadTo; lead++) {
    for (let trail = trailFrom; trail <= trailTo; trail++) yield Buffer.from([lead, trail]);
  }
}

function single(term: string, escapeSequence: string, label: string): CodedSet {
  // WHATWG reads "iso-8859-1" as windows-1252, but ISO_IR 100 leaves 80–9F to control characters.
  let table: string[] | undefined;
  const decode = (bytes: Buffer): string => {
    if (label === 'latin1') return bytes.toString('latin1');
    table ??= Array.from({ length: 256 }, (_, byte) => textDecoder(label).decode(Uint8Array.of(byte)));
    let text = '';
    for (const byte of bytes) text += table[byte]!;
    return text;
  };
  return {
    term,
    escape: escapeSequence,
    half: 'G1',
    bytes: 1,
    decode,
    encode: (c) => reversed(term, decode, () => singles(0xa0, 0xff)).get(c),
  };
}

/** PS3.3 Table C.12-4. */
const double = (
  term: string,
  escapeSequence: string,
  half: 'G0' | 'G1',
  decode: (bytes: Buffer) => string,
): CodedSet => {
  const [from, to] = half === 'G0' ? [0x21, 0x7e] : [0xa1, 0xfe];
  return {
    term,
    escape: escapeSequence,
    half,
    bytes: 2,
    decode,
    encode: (c) => reversed(term, decode, () => pairs(from, to, from, to)).get(c),
  };
};

const high = (bytes: Buffer): Buffer => {
  const out = Buffer.allocUnsafe(bytes.length);
  for (let n = 0; n < bytes.length; n++) out[n] = bytes[n]! | 0x80;
  return out;
};
/** JIS X 0212 is EUC-JP's code set 3: 8F before each character. */
const jisX0212 = (bytes: Buffer): string => {
  const out = Buffer.alloc((bytes.length >> 1) * 3);
  for (let n = 0, at = 0; n + 1 < bytes.length; n += 2) {
    out[at++] = 0x8f;
    out[at++] = bytes[n]! | 0x80;
    out[at++] = bytes[n + 1]! | 0x80;
  }
  return textDecoder('euc-jp').decode(out);
};
const ascii = (term: string, escapeSequence: string): CodedSet => ({
  term,
  escape: escapeSequence,
  half: 'G0',
  bytes: 1,
  decode: (bytes) => bytes.toString('latin1'),
  encode: (c) => (c.charCodeAt(0) < 0x80 ? Buffer.from(c, 'latin1') : undefined),
});
const katakana: CodedSet = {
  term: '13',
  escape: ')I',
  half: 'G1',
  bytes: 1,
  decode: (bytes) => {
    let text = '';
    for (const byte of bytes)
      text += byte >= 0xa1 && byte <= 0xdf ? String.fromCharCode(0xff61 + byte - 0xa1) : '\ufffd';
    return text;
  },
  encode: (c) => {
    const code = c.charCodeAt(0);
    return code >= 0xff61 && code <= 0xff9f ? Buffer.from([code - 0xff61 + 0xa1]) : undefined;
  },
};

export const ASCII = ascii('6', '(B');
/** ISO-IR 14: its 5C is a yen sign on paper and the value delimiter in DICOM (PS3.5 §6.1.2.5.3): we read ASCII. */
const ROMAJI = ascii('13', '(J');

export const CODED_SETS: CodedSet[] = [
  ASCII,
  single('100', '-A', 'latin1'),
  single('101', '-B', 'iso-8859-2'),
  single('109', '-C', 'iso-8859-3'),
  single('110', '-D', 'iso-8859-4'),
  single('144', '-L', 'iso-8859-5'),
  single('127', '-G', 'iso-8859-6'),
  single('126', '-F', 'iso-8859-7'),
  single('138', '-H', 'iso-8859-8'),
  single('148', '-M', 'iso-8859-9'),
  single('203', '-b', 'iso-8859-15'),
  single('166', '-T', 'windows-874'),
  ROMAJI,
  katakana,
  double('87', '$B', 'G0', (bytes) => textDecoder('euc-jp').decode(high(bytes))),
  double('159', '$(D', 'G0', jisX0212),
  double('149', '$)C', 'G1', (bytes) => textDecoder('euc-kr').decode(bytes)),
  double('58', '$)A', 'G1', (bytes) => textDecoder('gbk').decode(bytes)),
];

/** By the bytes after ESC: two, or three where the first is $ and the second a parenthesis. */
const BY_ESCAPE = new Map(CODED_SETS.map((set) => [escapeKey(Buffer.from(set.escape, 'latin1'), 0), set]));

function escapeKey(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  const key = (first << 8) | second;
  return first === 0x24 && (second === 0x28 || second === 0x29) ? (key << 8) | (bytes[at + 2] ?? 0) : key;
}

/** The set that the escape sequence behind an ESC designates. */
export const designated = (bytes: Buffer, at: number): CodedSet | undefined => BY_ESCAPE.get(escapeKey(bytes, at));

/** Sets without code extensions (PS3.3 Table C.12-5). */
export const MULTI_BYTE: Record<string, { label: string; encode(character: string): Buffer | undefined }> = {
  'ISO_IR 192': { label: 'utf-8', encode: (c) => (c.isWellFormed() ? Buffer.from(c) : undefined) },
  GB18030: { label: 'gb18030', encode: (c) => gbk(c) ?? gb18030(c) },
  GBK: { label: 'gbk', encode: gbk },
};

function gbk(character: string): Buffer | undefined {
  if (character.charCodeAt(0) < 0x80) return Buffer.from(character, 'latin1');
  return reversed(
    'gbk',
    (bytes) => textDecoder('gbk').decode(bytes),
    () => pairs(0x81, 0xfe, 0x40, 0xfe),
  ).get(character);
}

const four = (index: number): Buffer =>
  Buffer.from([
    0x81 + Math.floor(index / 12600),
    0x30 + (Math.floor(index / 1260) % 10),
    0x81 + (Math.floor(index / 10) % 126),
    0x30 + (index % 10),
  ]);
function* fours(): Iterable<Buffer> {
  for (let index = 0; index < 39420; index++) yield four(index);
}
function gb18030(character: string): Buffer | undefined {
  const code = character.codePointAt(0)!;
  // Beyond the Basic Multilingual Plane the mapping is linear, from 90308130 on.
  if (code >= 0x10000) return four(189000 + code - 0x10000);
  return reversed('gb18030', (bytes) => textDecoder('gb18030').decode(bytes), fours).get(character);
}
