import { DicomError } from './errors.ts';

/** The bytes that are kept, in a buffer that grows to its limit. */
export class Skeleton {
  readonly #bytesMax: number;
  #bytes = Buffer.allocUnsafe(8192);
  length = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  keep(from: Buffer, start: number, end: number): void {
    if (end <= start) return;
    const length = this.length + end - start;
    this.expect(length);
    if (length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.length);
      this.#bytes = larger;
    }
    from.copy(this.#bytes, this.length, start, end);
    this.length = length;
  }

  /** Throws when it would be longer than it may be. */
  expect(length: number): void {
    if (length > this.#bytesMax)
      throw new DicomError('header-too-large', `more than ${this.#bytesMax} bytes without bulk`);
  }

  /** An exact copy: the growing buffer may be twice as large, and a Head may live long. */
  toBuffer(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.length));
  }
}
