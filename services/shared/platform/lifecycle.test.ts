import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuthService } from '#proto/auth/v1/auth.ts';
import type { Context, Module } from './module.ts';
import { createTestContext, startModules } from './testing.ts';

const events: string[] = [];
const module = (
  name: string,
  more: Partial<{ start(context: Context): void; drain: (signal: AbortSignal) => Promise<void>; stop(): void }> = {},
): Module => ({
  name,
  settings: {},
  async start(context) {
    more.start?.(context);
    events.push(`start ${name}`);
    return {
      drain: more.drain,
      async stop() {
        events.push(`stop ${name}`);
        more.stop?.();
      },
    };
  },
});
const fresh = () => events.splice(0);

test('modules start in order and stop in reverse', async () => {
  fresh();
  const { stop } = await startModules([module('a'), module('b'), module('c')]);
  await stop();
  assert.deepEqual(fresh(), ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a']);
});

test('ready only after all have started, and not any more once draining', async () => {
  const seen: boolean[] = [];
  const { context, stop } = await startModules([
    module('a', { start: ({ ready }) => seen.push(ready()) }),
    module('b', { start: ({ readiness }) => readiness(() => ({ ready: false, detail: 'rebuilding' })) }),
  ]);
  assert.deepEqual(seen, [false]);
  assert.equal(context.ready(), true);
  assert.deepEqual(context.health(), [
    { module: 'process', ready: true, detail: 'ready' },
    { module: 'b', ready: false, detail: 'rebuilding' },
  ]);
  context.readiness(() => {
    throw new Error('broken');
  });
  assert.deepEqual(context.health().at(-1), { module: '', ready: false, detail: 'its own check failed' });
  await context.drain();
  assert.equal(context.ready(), false);
  await stop();
});

test('a module that cannot start stops those before it, and says why', async () => {
  fresh();
  const failing = module('b', {
    start: () => {
      throw new Error('no disk');
    },
  });
  await assert.rejects(createTestContext({ modules: [module('a'), failing, module('c')] }), /no disk/);
  assert.deepEqual(fresh(), ['start a', 'stop a']);
});

test('one that does not stop properly does not keep the others from it', async () => {
  fresh();
  const failing = module('b', {
    stop: () => {
      throw new Error('stuck');
    },
  });
  const context = await createTestContext({ modules: [module('a'), failing] });
  await assert.rejects(context.stop(), /not every module stopped properly/);
  assert.deepEqual(fresh().slice(-1), ['stop a']);
});

test('a drain runs everywhere at once and is bounded', async () => {
  const time = new AbortController();
  let draining = 0;
  const slow = () => {
    if (++draining === 2) time.abort();
    return new Promise<void>(() => {});
  };
  const { context, stop } = await startModules([module('a', { drain: slow }), module('b', { drain: slow })]);
  await context.drain(time.signal);
  assert.equal(draining, 2);
  await stop();
});

test('a module may hold clients of services that start later', async () => {
  let ask: (() => Promise<unknown>) | undefined;
  const first = module('a', {
    start: (context) => {
      const auth = context.client(AuthService);
      ask = () =>
        auth.authorize(
          {
            tenant: 'main',
            principal: { id: '', kind: '', roles: [], tenant: 'main' },
            requestId: '',
            signal: new AbortController().signal,
          },
          { principal: undefined, action: '', resource: '' },
        );
    },
  });
  const second = module('b', {
    start: (context) =>
      context.serve(AuthService, {
        authenticate: async () => ({ principal: undefined }),
        authorize: async () => ({ allowed: true, reason: 'b' }),
      }),
  });
  const { stop } = await startModules([first, second]);
  assert.deepEqual(await ask!(), { allowed: true, reason: 'b' });
  await stop();
});

test('two modules may not mean different things by one setting', async () => {
  const row = { type: 'integer', default: 1, doc: '' } as const;
  const one: Module = { ...module('a'), settings: { 'x.y': row } };
  await assert.rejects(
    createTestContext({ modules: [one, { ...module('b'), settings: { 'x.y': { ...row, default: 2 } } }] }),
    /declare the setting x.y differently/,
  );
});
