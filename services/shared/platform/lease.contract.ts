import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Lease } from './ports.ts';

/** What every adapter of Lease must do. `leases` gives two holders that compete, as two processes would. */
export function leaseContract(
  name: string,
  open: () => Promise<{ leases: [Lease, Lease]; close(): Promise<void> }>,
): void {
  const withLeases = async (run: (a: Lease, b: Lease) => Promise<void>) => {
    const { leases, close } = await open();
    try {
      await run(...leases);
    } finally {
      await close();
    }
  };
  const never = () => new AbortController().signal;

  describe(`Lease: ${name}`, () => {
    test('one holder at a time, each has its turn', () =>
      withLeases(async (a, b) => {
        let now = 0;
        const turns: number[] = [];
        const work = (n: number) => async () => {
          assert.equal(++now, 1);
          await new Promise((resolve) => setImmediate(resolve));
          turns.push(n);
          now--;
        };
        await Promise.all([
          a.hold('x', never(), work(1)),
          b.hold('x', never(), work(2)),
          a.hold('x', never(), work(3)),
          b.hold('x', never(), work(4)),
        ]);
        assert.deepEqual(turns.sort(), [1, 2, 3, 4]);
      }));

    test('other names do not wait', () =>
      withLeases(async (a, b) => {
        await a.hold('x', never(), () => b.hold('y', never(), async () => {}));
      }));

    test('a waiter that gives up leaves its place', () =>
      withLeases(async (a, b) => {
        const gone = new AbortController();
        let ran = false;
        await a.hold('x', never(), async () => {
          const waiting = b.hold('x', gone.signal, async () => {
            ran = true;
          });
          gone.abort(new Error('enough'));
          await assert.rejects(waiting, /enough/);
        });
        await b.hold('x', never(), async () => {});
        assert.equal(ran, false);
      }));

    test('work that fails gives the lease back, and its error is the holder’s', () =>
      withLeases(async (a, b) => {
        await assert.rejects(
          a.hold('x', never(), async () => {
            throw new Error('no');
          }),
          /no/,
        );
        await b.hold('x', never(), async () => {});
      }));

    test('the signal reaches the work', () =>
      withLeases(async (a) => {
        const stop = new AbortController();
        await a.hold('x', stop.signal, async (signal) => {
          stop.abort();
          assert.equal(signal.aborted, true);
        });
      }));
  });
}
