/** Reads what ByteWriter (#dicom/byte-writer.ts) wrote. Rows are our own: one that ends too early is a broken invariant, not an input. */
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
