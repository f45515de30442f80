import { CHUNK_BYTES_MIN } from './settings.ts';

const SLAB_BYTES = 64 * 1024;

/** The bytes of a body in order, as they were handed over. Only small chunks are copied, together, into slabs. */
export class Gathered {
  readonly buffers: Buffer[] = [];
  length = 0;
  #slab: Buffer | undefined;
  #start = 0;
  #used = 0;

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.length += chunk.length;
    if (chunk.length >= CHUNK_BYTES_MIN) {
      this.buffers.push(chunk);
      this.#start = this.#used;
      return;
    }
    if (!this.#slab || this.#used + chunk.length > SLAB_BYTES) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#start = this.#used = 0;
    }
    const extends_ = this.#used > this.#start;
    chunk.copy(this.#slab, this.#used);
    this.#used += chunk.length;
    const view = this.#slab.subarray(this.#start, this.#used);
    if (extends_) this.buffers[this.buffers.length - 1] = view;
    else this.buffers.push(view);
  }
}
