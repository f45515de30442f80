/** Growing output of LEB128 numbers, differences and byte strings: what blocks and header rows are written with. */
export class ByteWriter {
  #bytes = Buffer.allocUnsafe(4096);
  #at = 0;

  number(value: number): void {
    if (this.#at + 10 > this.#bytes.length) this.#grow(10);
    while (value >= 0x80) {
      this.#bytes[this.#at++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    this.#bytes[this.#at++] = value;
  }
  /** Zigzag: small whatever the sign. */
  signed(value: number): void {
    this.number(value < 0 ? -value * 2 - 1 : value * 2);
  }
  raw(value: Uint8Array): void {
    if (this.#at + value.length > this.#bytes.length) this.#grow(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }
  bytes(value: Uint8Array): void {
    this.number(value.length);
    this.raw(value);
  }
  text(value: string): void {
    this.bytes(Buffer.from(value, 'utf8'));
  }
  #grow(by: number): void {
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + by));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
  get length(): number {
    return this.#at;
  }
  end(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }
}

/** Reads what ByteWriter wrote. Rows are our own: one that ends too early is a broken invariant, not an input. */
export class ByteReader {
  readonly #bytes: Buffer;
  #at = 0;
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  number(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new Error('an index row ends too early');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
  }
  signed(): number {
    const value = this.number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
  raw(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new Error('an index row ends too early');
    return this.#bytes.subarray(this.#at, (this.#at = end));
  }
  bytes(): Buffer {
    return this.raw(this.number());
  }
  text(): string {
    return this.bytes().toString('utf8');
  }
  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }
}
