/** Growing output of LEB128 numbers, differences and byte strings: what header records and the index's blocks are written with. */
export class ByteWriter {
  #bytes: Buffer;
  #at = 0;

  constructor(expected = 4096) {
    this.#bytes = Buffer.allocUnsafe(expected);
  }

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
