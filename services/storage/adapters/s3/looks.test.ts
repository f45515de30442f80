import assert from 'node:assert/strict';
import { test } from 'node:test';
import { youngLanes } from '#platform/young-lanes.ts';
import type { Position } from '#proto/storage/v1/log.ts';
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

test('whoever leaves out lanes that have ended is told what stands there now, for one list, however many lanes are open', async () => {
  const store = new ModelStore(() => 0.5);
  store.nowMs = Date.now();
  const options = { ...TEST_OPTIONS, lookMs: 60_000 };
  const writers = await Promise.all([1, 2, 3].map(() => openArchiveIn(store.client(), options)));
  const bucket = store.client();
  const lists: string[] = [];
  const list = bucket.list.bind(bucket);
  bucket.list = (prefix, how) => {
    lists.push(prefix);
    return list(prefix, how);
  };
  const reader = await openArchiveIn(bucket, options);
  const since = youngLanes();
  const heads = async () => (await reader.log.heads('main', since)).sort((a, b) => (a.lane < b.lane ? -1 : 1));
  await heads();
  for (const times of [1, 1, 2]) {
    const positions: Position[] = [];
    for (const writer of writers)
      for (let n = 0; n < times; n++) positions.push((await writer.log.append('main', 'r', [sampleHold()])).position);
    const last = new Map(positions.map((position) => [position.lane, position]));
    assert.deepEqual(
      await heads(),
      [...last.values()].sort((a, b) => (a.lane < b.lane ? -1 : 1)),
    );
  }
  lists.length = 0;
  await heads();
  assert.deepEqual(lists, ['log/main/']);
  for (const archive of [reader, ...writers]) await archive.close();
});
