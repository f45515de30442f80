import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuthService } from '#proto/auth/v1/auth.ts';
import { createTestContext } from './testing.ts';

test('a test context serves and calls in one process, with real adapters', async () => {
  const context = await createTestContext({ settings: { 'platform.drainMs': '2s' } });
  try {
    context.serve(AuthService, {
      authenticate: async (call) => ({ principal: { id: call.tenant, kind: 'x', roles: [], tenant: call.tenant } }),
      authorize: async () => ({ allowed: true, reason: '' }),
    });
    const answer = await context.client(AuthService).authenticate(context.call(), { evidence: undefined, address: '' });
    assert.equal(answer.principal?.id, 'main');
    assert.equal(context.settings.number('platform.drainMs'), 2_000);
    const ran = new Promise<string>((resolve) =>
      context.jobs.work('q', { concurrency: 1, attemptsMax: 1, backoffMs: [] }, async (job) =>
        resolve(job.payload.toString()),
      ),
    );
    assert.deepEqual(await context.jobs.add({ queue: 'q', key: 'k', tenant: 'main', payload: Buffer.from('hello') }), {
      added: true,
    });
    assert.equal(await ran, 'hello');
    assert.equal((await context.kv.put('main', 'a/b', Buffer.from('1'), 0)) > 0, true);
    await assert.rejects(context.kv.put('main', 'a/b', Buffer.from('1'), 0), { code: 'conflict' });
    assert.match(await context.metrics.expose(), /gantry_process_resident_memory_bytes/);
  } finally {
    await context.stop();
  }
});
