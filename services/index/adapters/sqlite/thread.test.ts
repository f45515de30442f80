import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { carry, Thread, uncarry } from './thread.ts';

const worker = (code: string): URL => new URL(`data:text/javascript,${encodeURIComponent(code)}`);
const ANSWERING = `import { parentPort } from 'node:worker_threads';
parentPort.on('message', ({ id, op, args }) => {
  if (op === 'die') throw new Error('as told');
  if (op === 'answer') parentPort.postMessage({ id, value: args });
});`;

test('who waits for a thread that dies is told, and so is who asks later', async () => {
  const deaths: Error[] = [];
  const thread = new Thread(worker(ANSWERING), undefined, (error) => deaths.push(error));
  assert.equal(await thread.ask('answer', 7), 7);
  const silent = assert.rejects(thread.ask('never'), { code: 'unavailable' });
  await assert.rejects(thread.ask('die'), { code: 'unavailable' });
  await silent;
  await assert.rejects(thread.ask('answer', 1), { code: 'unavailable' });
  assert.deepEqual(
    deaths.map((one) => one.message),
    ['as told'],
  );
});

test('a thread that was ended dies of nothing', async () => {
  const deaths: Error[] = [];
  const thread = new Thread(worker(ANSWERING), undefined, (error) => deaths.push(error));
  await thread.ask('answer');
  await thread.end();
  await assert.rejects(thread.ask('answer'), { code: 'unavailable' });
  assert.deepEqual(deaths, []);
});

test('codes survive between threads; anything else becomes internal, its words for the log only', () => {
  const known = uncarry(structuredClone(carry(new GantryError('too-broad', 'too many'))));
  assert.ok(known instanceof GantryError);
  assert.deepEqual([known.code, known.message], ['too-broad', 'too many']);
  const unknown = uncarry(structuredClone(carry(new Error('constraint failed: PN'))));
  assert.ok(unknown instanceof GantryError);
  assert.deepEqual(
    [unknown.code, unknown.message, (unknown.cause as Error).message],
    ['internal', 'the index could not answer', 'constraint failed: PN'],
  );
});
