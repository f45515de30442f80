import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleHold } from '../../log/sample.testing.ts';
import { openArchiveIn } from './archive.ts';
import { ModelStore } from './bucket.model.ts';
import { TEST_OPTIONS } from './options.testing.ts';

/** What it costs to ask where the log has come to, which every read by UID does. */
test('who asks for the heads while others are asked for shares the next look, and is told what was there before', async () => {
  const store = new ModelStore(() => 0.5);
  store.nowMs = Date.now();
  const writer = await openArchiveIn(store.client(), TEST_OPTIONS);
  const reader = await openArchiveIn(store.client(), TEST_OPTIONS);
  await writer.log.append('main', 'r', [sampleHold()]);
  await reader.log.heads('main');
  store.requests = 0;
  await reader.log.heads('main');
  const one = store.requests;
  store.requests = 0;
  const first = reader.log.heads('main');
  await new Promise<void>((resolve) => setImmediate(resolve)); // it is on its way
  const { position } = await writer.log.append('main', 'r', [sampleHold()]);
  const answers = await Promise.all(Array.from({ length: 50 }, () => reader.log.heads('main')));
  await first;
  for (const heads of answers) assert.deepEqual(heads, [position]);
  // Two looks, the commit between them, and its table.
  assert.ok(store.requests <= 6 * one, `${store.requests} requests for 50, ${one} for one`);
  await writer.close();
  await reader.close();
});
