import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseStamp, StampClock } from './clock.ts';

test('stamps only ever rise, whatever the wall clock does and however many fall into one millisecond', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 2, maxLength: 50 }), (times) => {
      let i = 0;
      const clock = new StampClock(() => times[Math.min(i++, times.length - 1)]!);
      let before = '';
      for (let k = 0; k < 2 * times.length; k++) {
        const stamp = clock.next();
        assert.ok(stamp > before);
        assert.match(stamp, /^[0-9a-f]{16}$/);
        before = stamp;
      }
    }),
  );
  const still = new StampClock(() => 1000);
  let before = '';
  for (let i = 0; i < 70_000; i++) {
    const stamp = still.next();
    assert.ok(stamp > before, 'the counter overflows into the next millisecond');
    before = stamp;
  }
});

test('what was observed is below what comes next', () => {
  const clock = new StampClock(() => 5);
  clock.observe('00000000ffff0007');
  assert.equal(clock.next(), '00000000ffff0008');
  clock.observe('0000000000010000');
  assert.equal(clock.next(), '00000000ffff0009', 'an older stamp changes nothing');
  clock.observe('not a stamp');
  assert.deepEqual(parseStamp('00000000ffff0009'), { ms: 0xffff, counter: 9 });
});
