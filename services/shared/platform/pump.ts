import { once } from 'node:events';
import type { OutgoingMessage } from 'node:http';
import type { Bytes } from './rpc.types.ts';
import { giveBack } from './slabs.ts';

/** Writes as fast as the socket takes it: not pulling is the back-pressure. What the kernel has is given back (slabs.ts). */
export async function pump(body: Bytes, to: OutgoingMessage, signal: AbortSignal): Promise<void> {
  for await (const chunk of body) {
    if (signal.aborted || to.destroyed) return;
    // A write that failed may still be under way: its buffer goes to the garbage collector, which waits for it.
    const taken = to.write(chunk, (error) => {
      if (error == null) giveBack(chunk);
    });
    if (!taken) await once(to, 'drain', { signal });
  }
}
