import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Permit, Permits } from './permits.ts';

const never = new AbortController().signal;
const limits =
  (waiters: number, waitMs = 60_000, senderBytes = Infinity) =>
  () => ({ waiters, waitMs, senderBytes });

test('permits are given in order, and never more than there are', async () => {
  const permits = new Permits(10, limits(10));
  const first = await permits.take(6, never);
  const order: string[] = [];
  const noting = (name: string) => (permit: Permit) => {
    order.push(name);
    return permit;
  };
  const large = permits.take(8, never).then(noting('large'));
  const small = permits.take(2, never).then(noting('small'));
  assert.equal(permits.waiting, 2, 'the small one does not overtake: the large one would starve');
  first.release();
  first.release();
  const [one, two] = await Promise.all([large, small]);
  assert.deepEqual(order, ['large', 'small']);
  assert.equal(permits.inUse, 10);
  one.shrinkTo(3);
  one.shrinkTo(5);
  assert.equal(permits.inUse, 5, 'a permit does not grow');
  one.release();
  two.release();
  assert.equal(permits.inUse, 0);
});

test('the queue and the wait are bounded', async () => {
  const permits = new Permits(1, limits(1, 0));
  const held = await permits.take(1, never);
  const waiting = permits.take(1, never);
  await assert.rejects(permits.take(1, never), { code: 'no-permit', message: /permitWaiters/ });
  await assert.rejects(waiting, { code: 'no-permit', message: /permitWaitMs/ });
  assert.equal(permits.waiting, 0);
  held.release();
});

test('who gives up makes room for the next, also when more was asked for in front', async () => {
  const permits = new Permits(10, limits(5));
  const held = await permits.take(6, never);
  const abort = new AbortController();
  const large = permits.take(8, abort.signal);
  const small = permits.take(4, never);
  abort.abort();
  await assert.rejects(large, { code: 'cancelled' });
  (await small).release();
  held.release();
  await assert.rejects(permits.take(1, abort.signal), { code: 'cancelled' });
  assert.equal(permits.inUse, 0);
  assert.throws(() => void permits.take(11, never), RangeError);
});

test('one sender never holds all', async () => {
  const permits = new Permits(10, limits(10, 60_000, 6));
  const slow = [await permits.take(3, never, 'slow'), await permits.take(3, never, 'slow')];
  const order: string[] = [];
  const third = permits.take(3, never, 'slow').then(() => order.push('slow'));
  const other = await permits.take(4, never, 'other');
  const next = permits.take(2, never, 'other').then(() => order.push('other'));
  assert.equal(permits.waiting, 2);
  other.release();
  await next;
  assert.deepEqual(order, ['other'], 'there is memory, but not for the slow one');
  slow[0]!.release();
  await third;
  assert.equal(permits.waiting, 0);
  const greedy = new Permits(10, limits(10, 60_000, 2));
  assert.equal((await greedy.take(8, never, 'x')).constructor.name, 'Permit', 'one is always allowed');
});

test('whatever happens, what is in use is what is held', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('take' as const), bytes: fc.integer({ min: 1, max: 10 }) }),
    fc.record({ kind: fc.constantFrom('release' as const, 'abort' as const, 'shrink' as const), at: fc.nat(20) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const permits = new Permits(10, limits(3));
      const asked: { abort: AbortController; permit?: Permit; bytes: number }[] = [];
      for (const one of steps) {
        if (one.kind === 'take') {
          const entry: (typeof asked)[number] = { abort: new AbortController(), bytes: one.bytes };
          asked.push(entry);
          permits.take(one.bytes, entry.abort.signal).then(
            (permit) => (entry.permit = permit),
            () => (entry.bytes = 0),
          );
        } else {
          const entry = asked[one.at % Math.max(asked.length, 1)];
          if (one.kind === 'abort') entry?.abort.abort();
          else if (entry?.permit) {
            if (one.kind === 'shrink') entry.bytes = Math.min(entry.bytes, 1);
            else entry.bytes = 0;
            entry.permit.shrinkTo(entry.bytes);
          }
        }
        await new Promise((resolve) => setImmediate(resolve));
        const held = asked.filter(({ permit }) => permit).reduce((sum, { bytes }) => sum + bytes, 0);
        assert.equal(permits.inUse, held);
        assert.ok(held <= 10);
      }
      for (const { abort } of asked) abort.abort();
      await new Promise((resolve) => setImmediate(resolve));
      for (const { permit } of asked) permit?.release();
      assert.deepEqual([permits.inUse, permits.waiting], [0, 0]);
    }),
    { numRuns: 50 },
  );
});
