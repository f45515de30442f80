import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackPressure } from './back-pressure.ts';
import { IncomingMessage } from './incoming.ts';

const LIMITS = { receiveQueueBytes: 1000, interleavedBytesMax: 3000, queuedMessagesMax: 3 };
const CONTEXT = { id: 1, abstractSyntax: '1.2', transferSyntax: '1.3' };

function bench() {
  const said: string[] = [];
  const say = (what: string) => {
    if (said.at(-1) !== what) said.push(what);
  };
  const flow = new BackPressure(LIMITS, {
    pause: () => say('pause'),
    resume: () => say('resume'),
    overflow: (limit) => say(limit),
  });
  const message = () => {
    const it = new IncomingMessage(CONTEXT, { commandField: 1, hasData: true }, flow);
    flow.announced();
    return it;
  };
  const arrive = (to: IncomingMessage, bytes: number) => {
    to.data!.push(Buffer.alloc(bytes));
    flow.regulate();
    return said.at(-1);
  };
  return { flow, message, arrive, last: () => said.at(-1) };
}

test('stops when full, goes on at half', async () => {
  const { flow, message, arrive, last } = bench();
  const one = message();
  flow.deliver(one);
  assert.equal(arrive(one, 600), 'resume');
  assert.equal(arrive(one, 600), 'pause');
  const other = message();
  flow.deliver(other);
  arrive(other, 550);
  await one.data!.take();
  assert.equal(last(), 'pause', 'more than half is left');
  await other.data!.take();
  assert.equal(last(), 'resume');
});

test('a reader who waits makes it read on at once', async () => {
  const { flow, message, arrive, last } = bench();
  const [one, other] = [message(), message()];
  flow.deliver(one);
  arrive(one, 600);
  assert.equal(arrive(other, 700), 'pause');
  await one.data!.take();
  assert.equal(last(), 'pause', '700 bytes: more than half');
  const waiting = one.data!.take();
  assert.equal(last(), 'resume', 'what is waited for may be behind them');
  assert.equal(arrive(one, 10), 'resume');
  await waiting;
});

test('somebody waits, and what is in the way belongs to nobody: on to the limit, then no further', () => {
  const { flow, message, arrive } = bench();
  const [one, other] = [message(), message()];
  flow.deliver(one);
  void one.data!.take();
  assert.equal(arrive(other, 1500), 'resume');
  assert.equal(arrive(other, 1500), 'resume');
  assert.equal(arrive(other, 10), 'interleavedBytesMax');
});

test('somebody waits, and what is in the way is being read by somebody slow: that is back-pressure', () => {
  const { flow, message, arrive } = bench();
  const [one, other] = [message(), message()];
  flow.deliver(one);
  flow.deliver(other);
  void one.data!.take();
  assert.equal(arrive(other, 5000), 'pause');
});

test('messages count like bytes', () => {
  const { flow, message, last } = bench();
  const messages = [message(), message(), message()];
  flow.regulate();
  assert.equal(last(), 'resume');
  messages.push(message());
  flow.regulate();
  assert.equal(last(), 'pause');
  flow.deliver(messages[0]!);
  assert.equal(last(), 'resume');
  void messages[0]!.data!.take();
  message();
  flow.regulate();
  assert.equal(last(), 'queuedMessagesMax');
});

test('what is forgotten is no burden, before and after it comes', () => {
  const { flow, message, arrive } = bench();
  const one = message();
  flow.deliver(one);
  arrive(one, 5000);
  one.data!.forget();
  assert.equal(arrive(one, 5000), 'resume');
});

test('fragments of a byte are one buffer, in order, among large ones', async () => {
  const { flow, message } = bench();
  const one = message();
  flow.deliver(one);
  const large = Buffer.alloc(2000, 0xff);
  for (let n = 0; n < 1000; n++) one.data!.push(Buffer.from([n & 0xff]));
  one.data!.push(large);
  for (let n = 0; n < 5; n++) one.data!.push(Buffer.from([n]));
  const taken = (await one.data!.take())!;
  assert.equal(taken.length, 3);
  assert.equal(taken[1], large, 'not copied');
  assert.deepEqual(
    [...taken[0]!],
    Array.from({ length: 1000 }, (_, n) => n & 0xff),
  );
  assert.deepEqual([...taken[2]!], [0, 1, 2, 3, 4]);
});
