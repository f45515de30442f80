import { DicomError } from './errors.ts';

/**
 * Inflate (RFC 1951), synchronously and chunk by chunk: Node's zlib streams only asynchronously, and its synchronous form needs the
 * whole input and holds the whole output. Output leaves in windows of at most 64 KiB, so a bomb costs time up to the limit and no
 * memory. When input ends within a symbol the decoder goes back to that symbol's start and waits.
 */
const WINDOW = 32768;
const OUT = WINDOW * 2;

const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
  8193, 12289, 16385, 24577,
];
const DISTANCE_BITS = [
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/**
 * A Huffman code: codes of up to 9 bits by table (symbol << 4 | bits), longer ones bit by bit. One table for all 15 bits would let a
 * stream of tiny blocks cost 64 KiB of table each.
 */
interface Code {
  table: Uint16Array;
  tableBits: number;
  bits: number; // of the longest code
  counts: Uint16Array; // of codes, by length
  symbols: Uint16Array; // in the order of their codes
}

const TABLE_BITS = 9;

function huffman(lengths: Uint8Array): Code {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length]!++;
  counts[0] = 0;
  let bits = 15;
  while (bits > 0 && counts[bits] === 0) bits--;
  const next = new Uint16Array(17); // the next code of each length
  const place = new Uint16Array(17); // and where its symbol goes
  let used = 0;
  for (let n = 1; n <= 15; n++) {
    next[n + 1] = (next[n]! + counts[n]!) << 1;
    place[n + 1] = place[n]! + counts[n]!;
    used += counts[n]! << (15 - n);
  }
  // Codes that are not used up are let pass: a symbol that is none is found where it occurs.
  if (used > 1 << 15) throw new DicomError('deflate', 'an impossible Huffman code');
  const tableBits = Math.min(Math.max(bits, 1), TABLE_BITS);
  const table = new Uint16Array(1 << tableBits);
  const symbols = new Uint16Array(lengths.length);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const length = lengths[symbol]!;
    if (length === 0) continue;
    symbols[place[length]!++] = symbol;
    const code = next[length]!++;
    if (length > tableBits) continue;
    let reversed = 0;
    for (let value = code, n = 0; n < length; n++, value >>= 1) reversed = (reversed << 1) | (value & 1);
    for (let at = reversed; at < table.length; at += 1 << length) table[at] = (symbol << 4) | length;
  }
  return { table, tableBits, bits, counts, symbols };
}

const fixedLengths = Uint8Array.from({ length: 288 }, (_, n) => (n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8));
const FIXED_LITERALS = huffman(fixedLengths);
const FIXED_DISTANCES = huffman(new Uint8Array(30).fill(5));

/** The input ends within what is being read. */
const MORE = -1;

type State = 'zlib' | 'block' | 'stored' | 'symbols' | 'done';

export class Inflater {
  readonly #outputMax: number;
  #state: State = 'zlib';
  #final = false;
  #input: Buffer = Buffer.alloc(0);
  #at = 0;
  #hold = 0; // bits taken from the input, not used yet
  #held = 0;
  #storedLeft = 0;
  #literals = FIXED_LITERALS;
  #distances = FIXED_DISTANCES;
  #out = Buffer.allocUnsafe(OUT);
  #outAt = 0;
  #outSent = 0;
  #total = 0;
  #window = 0; // how far back a distance may reach

  constructor(outputBytesMax: number) {
    this.#outputMax = outputBytesMax;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  /** Calls `emit` with each piece; the piece is valid during the call only. Bytes after the stream's end are ignored. */
  write(chunk: Buffer, emit: (piece: Buffer) => void): void {
    if (this.#state === 'done') return;
    const left = this.#input.length - this.#at;
    this.#input = left > 0 ? Buffer.concat([this.#input.subarray(this.#at), chunk]) : chunk;
    this.#at = 0;
    while (this.#step(emit)) {}
    this.#send(emit);
    // Keep no reference to the caller's chunk.
    this.#input = this.done ? Buffer.alloc(0) : Buffer.from(this.#input.subarray(this.#at));
    this.#at = 0;
  }

  /** PS3.5 §A.5: one trailing NUL may follow; a stream that does not end is broken. */
  end(): void {
    if (this.#state !== 'done') throw new DicomError('deflate', 'the deflate stream ends too early');
  }

  #bits(count: number): number {
    while (this.#held < count) {
      if (this.#at >= this.#input.length) return MORE;
      this.#hold |= this.#input[this.#at++]! << this.#held;
      this.#held += 8;
    }
    const value = this.#hold & ((1 << count) - 1);
    this.#hold >>>= count;
    this.#held -= count;
    return value;
  }

  #symbol(code: Code): number {
    while (this.#held < code.bits && this.#at < this.#input.length) {
      this.#hold |= this.#input[this.#at++]! << this.#held;
      this.#held += 8;
    }
    const entry = code.table[this.#hold & ((1 << code.tableBits) - 1)]!;
    const length = entry & 15;
    if (length === 0) return this.#longSymbol(code);
    if (length > this.#held) return MORE;
    this.#hold >>>= length;
    this.#held -= length;
    return entry >>> 4;
  }

  /** Canonical decoding: the codes of each length follow those of the length before. */
  #longSymbol(code: Code): number {
    let value = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= code.bits; length++) {
      if (length > this.#held) return MORE;
      value |= (this.#hold >>> (length - 1)) & 1;
      const count = code.counts[length]!;
      if (value - first < count) {
        this.#hold >>>= length;
        this.#held -= length;
        return code.symbols[index + value - first]!;
      }
      index += count;
      first = (first + count) << 1;
      value <<= 1;
    }
    throw new DicomError('deflate', 'a code that is no symbol');
  }

  /** One step; false when input ran out (state is then as before the step) or the stream has ended. */
  #step(emit: (piece: Buffer) => void): boolean {
    const at = this.#at;
    const hold = this.#hold;
    const held = this.#held;
    const again = (): boolean => {
      this.#at = at;
      this.#hold = hold;
      this.#held = held;
      return false;
    };
    switch (this.#state) {
      case 'zlib': {
        // In the field: a zlib stream (RFC 1950) instead of bare deflate. Its header is no deflate block that occurs.
        if (this.#input.length < 2) return again();
        const first = this.#input[0]!;
        if ((first & 0x0f) === 8 && first >> 4 <= 7 && ((first << 8) | this.#input[1]!) % 31 === 0) this.#at = 2;
        this.#state = 'block';
        return true;
      }
      case 'block':
        return this.#block() || again();
      case 'stored': {
        const take = Math.min(this.#storedLeft, this.#input.length - this.#at, OUT - this.#outAt);
        this.#input.copy(this.#out, this.#outAt, this.#at, this.#at + take);
        this.#at += take;
        this.#storedLeft -= take;
        this.#advance(take, emit);
        if (this.#storedLeft === 0) this.#endBlock();
        else if (take === 0) return false;
        return true;
      }
      case 'symbols':
        return this.#symbols(emit);
      case 'done':
        return false;
    }
  }

  #endBlock(): void {
    this.#state = this.#final ? 'done' : 'block';
  }

  #block(): boolean {
    const header = this.#bits(3);
    if (header === MORE) return false;
    const type = header >> 1;
    if (type === 0) {
      const drop = this.#held & 7;
      this.#bits(drop);
      const length = this.#bits(16);
      const check = length === MORE ? MORE : this.#bits(16);
      if (check === MORE) return false;
      if ((length ^ check) !== 0xffff) throw new DicomError('deflate', 'a stored block whose length does not agree');
      // Whole bytes may still be held: give them back.
      this.#at -= this.#held >> 3;
      this.#hold = this.#held = 0;
      this.#storedLeft = length;
      this.#state = 'stored';
    } else if (type === 1) {
      this.#literals = FIXED_LITERALS;
      this.#distances = FIXED_DISTANCES;
      this.#state = 'symbols';
    } else if (type === 2) {
      if (!this.#dynamic()) return false;
      this.#state = 'symbols';
    } else throw new DicomError('deflate', 'a block of unknown type');
    this.#final = (header & 1) === 1;
    return true;
  }

  #dynamic(): boolean {
    const counts = this.#bits(14);
    if (counts === MORE) return false;
    const literals = (counts & 31) + 257;
    const distances = ((counts >> 5) & 31) + 1;
    const codes = (counts >> 10) + 4;
    if (literals > 286 || distances > 30) throw new DicomError('deflate', 'too many codes');
    const codeLengths = new Uint8Array(19);
    for (let n = 0; n < codes; n++) {
      const length = this.#bits(3);
      if (length === MORE) return false;
      codeLengths[CODE_ORDER[n]!] = length;
    }
    const code = huffman(codeLengths);
    const lengths = new Uint8Array(literals + distances);
    for (let n = 0; n < lengths.length; ) {
      const symbol = this.#symbol(code);
      if (symbol === MORE) return false;
      if (symbol < 16) {
        lengths[n++] = symbol;
        continue;
      }
      const extra = this.#bits(symbol === 16 ? 2 : symbol === 17 ? 3 : 7);
      if (extra === MORE) return false;
      const repeat = symbol === 18 ? 11 + extra : 3 + extra;
      if (n + repeat > lengths.length || (symbol === 16 && n === 0))
        throw new DicomError('deflate', 'a repeat beyond the codes');
      if (symbol === 16) lengths.fill(lengths[n - 1]!, n, n + repeat);
      n += repeat;
    }
    if (lengths[256] === 0) throw new DicomError('deflate', 'a block that cannot end');
    this.#literals = huffman(lengths.subarray(0, literals));
    this.#distances = huffman(lengths.subarray(literals));
    return true;
  }

  #symbols(emit: (piece: Buffer) => void): boolean {
    for (;;) {
      const at = this.#at;
      const hold = this.#hold;
      const held = this.#held;
      const symbol = this.#symbol(this.#literals);
      if (symbol >= 0 && symbol < 256) {
        this.#out[this.#outAt] = symbol;
        this.#advance(1, emit);
        continue;
      }
      if (symbol === 256) {
        this.#endBlock();
        return true;
      }
      const copied = symbol === MORE ? MORE : this.#copy(symbol - 257, emit);
      if (copied === MORE) {
        this.#at = at;
        this.#hold = hold;
        this.#held = held;
        return false;
      }
    }
  }

  #copy(lengthCode: number, emit: (piece: Buffer) => void): number {
    if (lengthCode >= LENGTH_BASE.length) throw new DicomError('deflate', 'an impossible length');
    const lengthExtra = this.#bits(LENGTH_BITS[lengthCode]!);
    const code = lengthExtra === MORE ? MORE : this.#symbol(this.#distances);
    if (code === MORE) return MORE;
    if (code >= DISTANCE_BASE.length) throw new DicomError('deflate', 'an impossible distance');
    const distanceExtra = this.#bits(DISTANCE_BITS[code]!);
    if (distanceExtra === MORE) return MORE;
    const length = LENGTH_BASE[lengthCode]! + lengthExtra;
    const distance = DISTANCE_BASE[code]! + distanceExtra;
    if (distance > this.#window) throw new DicomError('deflate', 'a distance beyond what was inflated');
    if (this.#outAt + length > OUT) this.#slide(emit);
    const out = this.#out;
    const to = this.#outAt;
    if (length <= 16) for (let n = 0; n < length; n++) out[to + n] = out[to + n - distance]!;
    else if (distance === 1) out.fill(out[to - 1]!, to, to + length);
    else {
      // What overlaps repeats: each copy doubles what can be copied next.
      for (
        let done = 0, span = distance;
        done < length;
        done += Math.min(span, length - done), span = distance + done
      ) {
        out.copyWithin(to + done, to - distance, to - distance + Math.min(span, length - done));
      }
    }
    this.#advance(length, emit);
    return length;
  }

  #advance(count: number, emit: (piece: Buffer) => void): void {
    this.#outAt += count;
    this.#total += count;
    this.#window = Math.min(WINDOW, this.#window + count);
    if (this.#total > this.#outputMax) {
      throw new DicomError('inflates-too-far', `the data set inflates to more than ${this.#outputMax} bytes`);
    }
    if (this.#outAt >= OUT) this.#slide(emit);
  }

  #send(emit: (piece: Buffer) => void): void {
    if (this.#outAt > this.#outSent) emit(this.#out.subarray(this.#outSent, this.#outAt));
    this.#outSent = this.#outAt;
  }

  /** Sends what is ready, and moves the last 32 KiB to the front. */
  #slide(emit: (piece: Buffer) => void): void {
    this.#send(emit);
    const keep = Math.min(this.#outAt, WINDOW);
    this.#out.copyWithin(0, this.#outAt - keep, this.#outAt);
    this.#outAt = this.#outSent = keep;
  }
}
