import type { Lease } from '../../ports.ts';

/** One process owns the data directory, so its leases are turns in a queue; none is ever lost while the process lives. */
export function localLease(): Lease {
  const tails = new Map<string, Promise<void>>();
  return {
    async hold(name, signal, work) {
      const before = tails.get(name) ?? Promise.resolve();
      let leave: () => void = () => {};
      const turn = before.then(() => new Promise<void>((resolve) => (leave = resolve)));
      tails.set(name, turn);
      try {
        await abortable(before, signal);
        await work(signal);
      } finally {
        // A waiter that gave up before its turn leaves as soon as the turn comes.
        void before.then(() => leave());
        if (tails.get(name) === turn) void turn.then(() => tails.get(name) === turn && tails.delete(name));
      }
    },
  };
}

function abortable(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const give = () => reject(signal.reason);
    if (signal.aborted) return give();
    signal.addEventListener('abort', give, { once: true });
    promise.then(() => {
      signal.removeEventListener('abort', give);
      resolve();
    });
  });
}
