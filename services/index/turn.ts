import type { Lease } from '#platform/ports.ts';

/** Whether it is this process that folds. It only saves work: whoever folds without a turn does no harm. */
export interface Turn {
  readonly held: boolean;
}
/** Of a store that only this process writes. */
export const ALONE: Turn = { held: true };

/** Holds the lease as long as it is given, and asks for it again when it is lost. */
export class LeaseTurn implements Turn {
  held = false;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(lease: Lease, name: string, onHeld: () => void) {
    this.#running = this.#run(lease, name, onHeld);
  }

  async #run(lease: Lease, name: string, onHeld: () => void): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await lease.hold(name, this.#stop.signal, async (signal) => {
          this.held = true;
          onHeld();
          await new Promise<void>((resolve) => {
            const end = (): void => resolve();
            signal.addEventListener('abort', end, { once: true });
            this.#stop.signal.addEventListener('abort', end, { once: true });
            if (signal.aborted || this.#stop.signal.aborted) end();
          });
        });
      } catch {
        // Lost, or nobody gives leases now: it is asked for again, and meanwhile the log is folded by whoever sees nobody doing it.
      } finally {
        this.held = false;
      }
      if (!this.#stop.signal.aborted) await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref());
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
const RETRY_MS = 1_000;
