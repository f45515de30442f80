import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deadline } from './deadline.ts';

function watched(): { deadline: Deadline; expired: Promise<number> } {
  let tell!: (at: number) => void;
  const expired = new Promise<number>((resolve) => {
    tell = resolve;
  });
  const deadline = new Deadline(() => tell(performance.now()));
  // A deadline does not keep the process alive; this test has to.
  const alive = setInterval(() => undefined, 1000);
  void expired.then(() => clearInterval(alive));
  return { deadline, expired };
}

test('expires once, at the time that was set last', async () => {
  const { deadline, expired } = watched();
  const start = performance.now();
  deadline.arm(20);
  deadline.arm(120);
  assert.ok(deadline.armed);
  assert.ok((await expired) - start >= 118);
  assert.ok(!deadline.armed);
});

test('an earlier time counts too', async () => {
  const { deadline, expired } = watched();
  deadline.arm(3_600_000);
  deadline.arm(10);
  await expired;
});

test('disarmed and armed again before its timer fires', async () => {
  const { deadline, expired } = watched();
  deadline.arm(10);
  deadline.disarm();
  assert.ok(!deadline.armed);
  deadline.arm(30);
  await expired;
});

test('what happens while the process was stalled moves it in time', async () => {
  const { deadline, expired } = watched();
  deadline.arm(10);
  // The timer is overdue when the loop comes back to it; the immediate stands for a socket that has something to read.
  const until = performance.now() + 30;
  while (performance.now() < until);
  let moved = 0;
  setImmediate(() => {
    moved = performance.now();
    deadline.arm(20);
  });
  assert.ok((await expired) > moved + 18);
});
