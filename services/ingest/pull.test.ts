import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pull } from './pull.ts';

const chunk = Buffer.from('x');

function source(count: number, options: { stall?: boolean; fail?: Error } = {}) {
  const seen = { pulled: 0, closed: 0 };
  async function* body() {
    try {
      for (; seen.pulled < count; seen.pulled++) yield chunk;
      if (options.fail) throw options.fail;
      if (options.stall) await new Promise(() => {});
    } finally {
      seen.closed++;
    }
  }
  return { seen, body: body() };
}

test('what is pulled is what came, to the end', async () => {
  const { body, seen } = source(3);
  const pull = new Pull(body, new AbortController().signal);
  assert.equal((await Array.fromAsync(pull)).length, 3);
  assert.deepEqual([await pull.next(), seen.closed], [{ done: true, value: undefined }, 1]);
});

test('an abort answers at once though the sender is silent, and closes the body', async () => {
  const { body } = source(1, { stall: true });
  const abort = new AbortController();
  const pull = new Pull(body, abort.signal);
  await pull.next();
  const waiting = pull.next();
  const behind = pull.next();
  abort.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
  await assert.rejects(behind, { code: 'cancelled' });
  await assert.rejects(pull.next(), { code: 'cancelled' });
  await assert.rejects(pull.drain(), { code: 'cancelled' });
});

test('an abort between chunks closes the body', async () => {
  const { body, seen } = source(5);
  const abort = new AbortController();
  const pull = new Pull(body, abort.signal);
  await pull.next();
  abort.abort();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([seen.closed, seen.pulled], [1, 0]);
});

test('two readers take turns', async () => {
  const { body } = source(3);
  const pull = new Pull(body, new AbortController().signal);
  const results = await Promise.all([pull.next(), pull.next(), pull.next(), pull.next(), pull.next()]);
  assert.deepEqual(
    results.map(({ done }) => done === true),
    [false, false, false, true, true],
  );
});

test('a body that breaks off is its sender’s doing', async () => {
  const { body } = source(0, { fail: new Error('ECONNRESET') });
  const pull = new Pull(body, new AbortController().signal);
  await assert.rejects(pull.next(), { code: 'cancelled' });
  assert.equal((await pull.next()).done, true);
});

test('returning early closes the body, once, and leaves no listener', async () => {
  const { body, seen } = source(5);
  const abort = new AbortController();
  for await (const _ of new Pull(body, abort.signal)) break;
  abort.abort();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(seen.closed, 1);
});
