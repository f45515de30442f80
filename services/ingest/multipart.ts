import { GantryError } from '#platform/errors.ts';

/**
 * multipart/related (RFC 2387, RFC 2046 §5.1), read as a stream: whatever the size of a part, at most a chunk of it is held, and a
 * chunk is copied only where a delimiter may lie across its end. Chunk borders mean nothing: pixel data holds CRLFCRLF, dashes,
 * and now and then the first half of a delimiter.
 */
export interface MultipartLimits {
  partsMax: number;
  headerBytesMax: number;
}

export interface Part {
  /** From 0. */
  index: number;
  /** Names in lower case. */
  headers: Map<string, string>;
  /** What has not been read of it is skipped when the next part is asked for. */
  body: AsyncGenerator<Buffer, void, undefined>;
}

const LF = 0x0a;
/** RFC 2046 §5.1.1 says 70; some senders are longer. */
const BOUNDARY_LENGTH_MAX = 256;
/** Blanks that a gateway may have added between a delimiter and its line end. */
const PADDING_MAX = 256;

const malformed = (what: string) => new GantryError('unparsable', `multipart body: ${what}`);

export class MultipartReader {
  readonly #source: AsyncIterator<Buffer>;
  readonly #limits: MultipartLimits;
  readonly #dashBoundary: Buffer;
  #delimiter: Buffer;
  /** Pulled, not yet handed out. */
  #buffer: Buffer = Buffer.from('\n'); // the first delimiter may be the first line
  #current: AsyncGenerator<Buffer, void, undefined> | undefined;
  #insidePart = true; // of the preamble, at first
  #count = 0;
  #closed = false;
  /** The body ended within a part: whoever read that part has seen it fail. */
  brokenWithinPart = false;

  constructor(source: AsyncIterator<Buffer>, boundary: string, limits: MultipartLimits) {
    if (boundary === '' || boundary.length > BOUNDARY_LENGTH_MAX || /[^\x20-\x7e]/.test(boundary))
      throw new GantryError('invalid-argument', 'multipart body: no usable boundary parameter');
    this.#source = source;
    this.#limits = limits;
    this.#dashBoundary = Buffer.from(`--${boundary}`, 'latin1');
    // Until the first delimiter has been seen: lines may end with LF alone (not RFC 2046, but seen). What that one ends with, all do.
    this.#delimiter = Buffer.from(`\n--${boundary}`, 'latin1');
  }

  /** The next part, or undefined after the closing delimiter. Fails where the body ends before that. */
  async next(): Promise<Part | undefined> {
    if (this.#closed) return undefined;
    this.#current ??= this.#body(); // the preamble
    for await (const _ of this.#current); // what was left unread
    if (this.#insidePart) for await (const _ of this.#body()); // its reader gave up in the middle
    if (!(await this.#delimiterLine())) {
      this.#closed = true;
      while (!(await this.#source.next()).done); // the epilogue says nothing
      return undefined;
    }
    if (this.#count >= this.#limits.partsMax)
      throw new GantryError('too-large', `multipart body: more than ${this.#limits.partsMax} parts (ingest.stowParts)`);
    const headers = await this.#headers();
    this.#insidePart = true;
    this.#current = this.#body(await this.#startsWithDashBoundary());
    return { index: this.#count++, headers, body: this.#current };
  }

  async *#body(empty = false): AsyncGenerator<Buffer, void, undefined> {
    if (empty) {
      this.#buffer = this.#buffer.subarray(this.#dashBoundary.length);
      this.#insidePart = false;
      return;
    }
    for (;;) {
      const buffer = this.#buffer;
      const at = buffer.indexOf(this.#delimiter);
      if (at >= 0) {
        this.#buffer = buffer.subarray(at + this.#delimiter.length);
        this.#insidePart = false;
        if (at > 0) yield buffer.subarray(0, at);
        return;
      }
      const keep = tailThatMayBegin(buffer, this.#delimiter);
      this.#buffer = buffer.subarray(buffer.length - keep);
      if (keep < buffer.length) yield buffer.subarray(0, buffer.length - keep);
      if (!(await this.#fill())) {
        this.brokenWithinPart = this.#count > 0;
        throw malformed('it ends before its closing delimiter');
      }
    }
  }

  /** The rest of a delimiter's line. False: it was the closing one. */
  async #delimiterLine(): Promise<boolean> {
    while (this.#buffer.length < 2) if (!(await this.#fill())) break;
    if (this.#buffer.length >= 2 && this.#buffer.toString('latin1', 0, 2) === '--') return false;
    const line = await this.#line(PADDING_MAX);
    if (/[^ \t\r]/.test(line)) throw malformed('something else follows a delimiter on its line');
    if (this.#count === 0 && this.#delimiter[0] === LF && line.endsWith('\r'))
      this.#delimiter = Buffer.concat([Buffer.from('\r'), this.#delimiter]);
    return true;
  }

  async #headers(): Promise<Map<string, string>> {
    const headers = new Map<string, string>();
    let left = this.#limits.headerBytesMax;
    let last: string | undefined;
    for (;;) {
      const raw = await this.#line(left);
      left -= raw.length + 1;
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') return headers;
      if (/^[ \t]/.test(line) && last !== undefined) {
        headers.set(last, `${headers.get(last)} ${line.trim()}`); // folded (RFC 5322 §2.2.3)
        continue;
      }
      const colon = line.indexOf(':');
      if (colon <= 0) throw malformed('a header line of a part has no name');
      last = line.slice(0, colon).trim().toLowerCase();
      if (!headers.has(last)) headers.set(last, line.slice(colon + 1).trim());
    }
  }

  /** Up to, and without, the next LF. */
  async #line(bytesMax: number): Promise<string> {
    let searched = 0;
    for (;;) {
      const at = this.#buffer.indexOf(LF, searched);
      if (at > bytesMax || (at < 0 && this.#buffer.length > bytesMax))
        throw new GantryError('too-large', 'multipart body: the headers of a part are too long');
      if (at >= 0) {
        const line = this.#buffer.toString('latin1', 0, at);
        this.#buffer = this.#buffer.subarray(at + 1);
        return line;
      }
      searched = this.#buffer.length;
      if (!(await this.#fill())) throw malformed('it ends within the headers of a part');
    }
  }

  /** RFC 2046 §5.1.1: a part of headers alone may end with the delimiter whose CRLF is the headers' blank line. */
  async #startsWithDashBoundary(): Promise<boolean> {
    const expected = this.#dashBoundary;
    for (;;) {
      const length = Math.min(this.#buffer.length, expected.length);
      if (this.#buffer.compare(expected, 0, length, 0, length) !== 0) return false;
      if (length === expected.length) return true;
      if (!(await this.#fill())) return false;
    }
  }

  async #fill(): Promise<boolean> {
    const result = await this.#source.next();
    if (result.done) return false;
    this.#buffer = this.#buffer.length === 0 ? result.value : Buffer.concat([this.#buffer, result.value]);
    return true;
  }
}

/** How many bytes at the end of `buffer` are the beginning of `delimiter`. */
function tailThatMayBegin(buffer: Buffer, delimiter: Buffer): number {
  const first = delimiter[0]!;
  let at = Math.max(0, buffer.length - delimiter.length + 1);
  while ((at = buffer.indexOf(first, at)) >= 0) {
    const length = buffer.length - at;
    if (buffer.compare(delimiter, 0, length, at) === 0) return length;
    at++;
  }
  return 0;
}
