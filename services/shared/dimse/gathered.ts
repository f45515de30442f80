/** Bytes that grow by doubling: appending one at a time stays linear. */
export class Gathered {
  private bytes: Buffer = Buffer.alloc(0);
  length = 0;

  append(data: Buffer): void {
    const needed = this.length + data.length;
    if (needed > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length, 256));
      this.bytes.copy(grown, 0, 0, this.length);
      this.bytes = grown;
    }
    data.copy(this.bytes, this.length);
    this.length = needed;
  }

  take(): Buffer {
    const taken = this.bytes.subarray(0, this.length);
    this.bytes = Buffer.alloc(0);
    this.length = 0;
    return taken;
  }
}
