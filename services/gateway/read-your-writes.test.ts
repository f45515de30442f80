import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Wake } from '#platform/ports.ts';
import { createTestContext } from '#platform/testing.ts';
import { type AwaitRequest, IndexService } from '#proto/index/v1/index.ts';
import { createReadYourWrites } from './read-your-writes.ts';

test('what was stored through one process is waited for in another', async () => {
  const context = await createTestContext();
  const asked: AwaitRequest[] = [];
  let reached = false;
  const nobody = async () => assert.fail('not asked here');
  const nothing = async function* () {};
  context.serve(IndexService, {
    await: async (_call, request) => {
      asked.push(request);
      return { reached };
    },
    counts: nobody,
    search: nothing,
    locate: nothing,
    trash: nothing,
    conflicts: nothing,
    entries: nothing,
    rebuild: nothing,
    settled: nothing,
    fates: nothing,
  });
  // The bus between two processes: what one publishes both hear.
  const listeners = new Set<Parameters<Wake['subscribe']>[1]>();
  let told = Promise.withResolvers<void>();
  let messages = 0;
  const wake: Wake = {
    publish: (_subject, tenant, payload) => {
      messages++;
      for (const listener of listeners) listener(tenant, payload);
      told.resolve();
    },
    subscribe: (_subject, listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  try {
    const [here, there] = [createReadYourWrites({ ...context, wake }), createReadYourWrites({ ...context, wake })];
    for (let sequence = 1; sequence <= 5; sequence++) here.note('main', 'CT1@10.0.0.1', { lane: 'L', sequence });
    await told.promise;
    assert.equal(messages, 1, 'one turn of the loop is one message for a writer and lane');
    await there.settle(context.call(), 'CT1@10.0.0.1');
    await there.settle(context.call(), 'CT2@10.0.0.1');
    await there.settle(context.call({ tenant: 'other' }), 'CT1@10.0.0.1');
    assert.deepEqual(asked, [{ positions: [{ lane: 'L', sequence: 5 }], limitMs: 5000, byUid: undefined }]);
    // Not reached: it is waited for again; reached: no more.
    reached = true;
    await there.settle(context.call(), 'CT1@10.0.0.1');
    await there.settle(context.call(), 'CT1@10.0.0.1');
    assert.equal(asked.length, 2);
    // What is no message of ours, and a process that has left, change nothing.
    for (const listener of listeners) listener('main', Buffer.from([0xff, 0xff]));
    there.stop();
    told = Promise.withResolvers();
    here.note('main', 'CT3@10.0.0.1', { lane: 'L', sequence: 9 });
    await told.promise;
    await there.settle(context.call(), 'CT3@10.0.0.1');
    assert.equal(asked.length, 2);
  } finally {
    await context.stop();
  }
});
