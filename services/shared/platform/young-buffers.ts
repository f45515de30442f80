import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Image bytes pass through this process in buffers that die young, but V8 counts them as memory outside its heap: after 64 MB more of
 * them it marks the whole heap, some 15 times a gigabyte, which was a third of the CPU of a retrieval and a fifth of a C-STORE. A
 * collection of the young generation (a millisecond) frees the same buffers, if it comes in time; by itself it comes when small objects
 * fill its space, which big buffers hardly do. So whoever lets many bytes pass says so here.
 *
 * The flag makes that memory count towards the heap's own limit, which grows with what is alive, instead of towards 64 MB whatever
 * is alive. How much it grows V8 guesses from its own speed, 1.3 times on a slow machine, so that is fixed: to three times what is
 * alive, within the heap's maximum. Of the mark-compacts of a C-STORE a twentieth are left (tools/bench/RESULTS.md).
 */
const EVERY_BYTES = 24 * 1024 * 1024;

setFlagsFromString('--external-memory-accounted-in-global-limit');
setFlagsFromString('--heap-growing-percent=200');
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void;
setFlagsFromString('--no-expose-gc');

let bytes = 0;

export function bytesPassed(count: number): void {
  bytes += count;
  if (bytes < EVERY_BYTES) return;
  bytes = 0;
  collect({ type: 'minor' });
}
