import { bytesPassed } from './young-buffers.ts';

/**
 * Buffers for what is read of the archive, used again. Fresh ones cost the kernel (pages to clear) and V8 (bytes outside its heap start
 * collections, which mark the whole heap where a pause has shrunk its young generation): two thirds of a retrieval's CPU.
 *
 * Whoever reads takes a slab; whoever was the last to need its bytes (a socket, once the kernel has them) gives it back. Nobody must: a
 * slab that is lost on the way, with a reader that left or in a copy, is garbage like any buffer, and the next reader gets another.
 * What is given back is the very Buffer that was lent, or the one that `passOn` put in its place; a view that somebody else made of it
 * gives nothing back. So a body that is changed on its way (re-encoded, swapped, inflated) keeps its slabs from coming back.
 */
export const SLAB_BYTES = 512 * 1024;

/** Kept for the next reader: 32 MiB, two or three for each of a dozen answers at once. What comes back beyond is garbage. */
const FREE_MAX = 64;

/** Below it a slab would be mostly empty, and lost as a whole by a reader that never gives it back. */
const WORTH_A_SLAB = SLAB_BYTES / 8;

/** In tests (node:test says so, and servers that they start inherit it) a slab that came back too early shows as wrong bytes. */
const POISON = process.env.NODE_TEST_CONTEXT === undefined ? undefined : 0xdd;

const free: Buffer[] = [];
const lent = new WeakMap<Buffer, Buffer>();

/** `length` bytes, at most SLAB_BYTES, of anything. */
export function takeBytes(length: number): Buffer {
  if (length > SLAB_BYTES) throw new RangeError(`${length} bytes are more than a slab has`);
  let slab = length >= WORTH_A_SLAB ? free.pop() : undefined;
  if (slab === undefined) {
    bytesPassed(length);
    if (length < WORTH_A_SLAB) return Buffer.allocUnsafe(length);
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  }
  const bytes = slab.subarray(0, length);
  lent.set(bytes, slab);
  return bytes;
}

/** `last` is the end of what anybody will need of `bytes`: who is done with it gives back the whole. */
export function passOn(bytes: Buffer, last: Buffer): void {
  const slab = lent.get(bytes);
  if (slab === undefined) return;
  lent.delete(bytes);
  lent.set(last, slab);
}

/** Nobody looks at these bytes, or at any that were taken with them, any more. Of any other buffer it does nothing. */
export function giveBack(bytes: Buffer): void {
  const slab = lent.get(bytes);
  if (slab === undefined) return;
  lent.delete(bytes);
  if (POISON !== undefined) slab.fill(POISON);
  if (free.length < FREE_MAX) free.push(slab);
}
