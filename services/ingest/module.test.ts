import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestContext } from '#platform/testing.ts';
import { module } from './module.ts';
import { settings } from './settings.ts';

const problems = async (changed: Record<string, unknown>) => {
  const context = await createTestContext({ tables: [settings], settings: changed });
  try {
    return module.check!(context.settings);
  } finally {
    await context.stop();
  }
};

test('settings that cannot go together stop the start with a sentence that says what to do', async () => {
  assert.deepEqual(await problems({}), []);
  assert.match((await problems({ 'ingest.permitBytes': 1000 })).join(), /ingest\.permitBytes.*raise it/);
  assert.match((await problems({ 'ingest.streamBytes': '5MiB' })).join(), /ingest\.streamBytes.*lower it/);
});
