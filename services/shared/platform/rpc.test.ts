import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { IndexService } from '#proto/index/v1/index.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import type { Call } from './call.ts';
import { ERRORS, type ErrorCode, GantryError } from './errors.ts';
import type { Service } from './rpc.types.ts';
import { createTestContext, type TestContext } from './testing.ts';

// The same suite directly and over grpc-js: whoever calls must not be able to tell which it was.
for (const overGrpc of [false, true])
  describe(overGrpc ? 'over gRPC' : 'direct', () => {
    const unused = async (): Promise<never> => assert.fail('not called here');
    const withData = async (
      handlers: Partial<Service<typeof DataService>>,
      run: (context: TestContext, data: Service<typeof DataService>) => Promise<void>,
    ) => {
      const context = await createTestContext({ overGrpc, settings: { 'platform.rpcMessageMax': '64KiB' } });
      try {
        context.serve(DataService, { heads: unused, append: unused, space: unused, async *readLog() {}, ...handlers });
        await run(context, context.client(DataService));
      } finally {
        await context.stop();
      }
    };
    const commit = (sequence: number) => ({ lane: 'L', sequence, tableOfContents: Buffer.from([sequence]) });

    test('tenant, principal, request id and deadline travel', () => {
      let seen: Call | undefined;
      const heads = async (call: Call) => {
        seen = call;
        return { positions: [] };
      };
      return withData({ heads }, async (context, data) => {
        const principal = { id: 'Ärztin 😀', kind: 'user', roles: ['a', 'b'], tenant: 'nord/süd' };
        const deadline = Date.now() + 60_000;
        await data.heads(context.call({ tenant: 'nord/süd', principal, requestId: 'r-1', deadline }), {});
        assert.equal(seen?.tenant, 'nord/süd');
        assert.deepEqual(seen?.principal, principal);
        assert.equal(seen?.requestId, 'r-1');
        assert.ok(Math.abs(seen!.deadline! - deadline) < 5_000);
      });
    });

    test('messages arrive as the codec gives them: absent fields have their defaults', () =>
      withData(
        {
          append: async (_call, request) => ({
            positions: [{ lane: request.entries[0].stamp, sequence: request.entries.length }],
            ids: [],
          }),
        },
        async (context, data) => {
          const entry = { n: 1, stamp: 'x', kind: { $case: 'closed' as const, value: { reason: 'r', by: 'b' } } };
          const answer = await data.append(context.call(), { entries: [entry] });
          assert.deepEqual(answer, { positions: [{ lane: 'x', sequence: 1 }], ids: [] });
        },
      ));

    test('every error code arrives as itself, with its offending elements', async () => {
      const codes = Object.keys(ERRORS) as ErrorCode[];
      let next = 0;
      await withData(
        {
          heads: async () => {
            throw new GantryError(codes[next++], 'naïve → 1.2.3', { offendingElements: [0x00080018] });
          },
        },
        async (context, data) => {
          for (const code of codes)
            await assert.rejects(data.heads(context.call(), {}), {
              name: 'GantryError',
              code,
              message: 'naïve → 1.2.3',
              offendingElements: [0x00080018],
            });
        },
      );
      assert.equal(next, codes.length);
    });

    test('an unexpected error becomes internal and its message does not travel', () =>
      withData(
        {
          heads: async () => {
            throw new TypeError('Doe^John');
          },
        },
        async (context, data) => {
          await assert.rejects(
            data.heads(context.call(), {}),
            (error: GantryError) => error.code === 'internal' && !error.message.includes('Doe'),
          );
        },
      ));

    test('a deadline ends a call that does not listen, and tells the handler', () => {
      let told: Promise<unknown> = Promise.resolve();
      return withData(
        {
          heads: (call) => {
            told = once(call.signal, 'abort');
            return new Promise(() => {});
          },
        },
        async (context, data) => {
          await assert.rejects(data.heads(context.call({ deadline: Date.now() + 100 }), {}), {
            code: 'deadline-exceeded',
          });
          await told;
        },
      );
    });

    test('without a deadline a unary call has platform.rpcTimeoutMs', () =>
      withData({ heads: () => new Promise(() => {}) }, async (context, data) => {
        context.change({ 'platform.rpcTimeoutMs': 50 });
        await assert.rejects(data.heads(context.call(), {}), { code: 'deadline-exceeded' });
      }));

    test('the caller cancels: it is answered at once and the handler is told', () => {
      const caller = new AbortController();
      let told: Promise<unknown> = Promise.resolve();
      return withData(
        {
          heads: (call) => {
            told = once(call.signal, 'abort');
            caller.abort();
            return new Promise(() => {});
          },
        },
        async (context, data) => {
          await assert.rejects(data.heads(context.call({ signal: caller.signal }), {}), { code: 'cancelled' });
          await told;
          await assert.rejects(data.heads(context.call({ signal: caller.signal }), {}), { code: 'cancelled' });
        },
      );
    });

    test('a stream arrives in order and ends', () =>
      withData(
        {
          async *readLog() {
            for (let i = 0; i < 1_000; i++) yield commit(i);
          },
        },
        async (context, data) => {
          let expected = 0;
          for await (const one of data.readLog(context.call(), { after: [], lanes: [] })) {
            assert.equal(one.sequence, expected++);
            assert.deepEqual([...one.tableOfContents], [one.sequence & 255]);
          }
          assert.equal(expected, 1_000);
        },
      ));

    test('an error inside a stream arrives after the rows before it', () =>
      withData(
        {
          async *readLog() {
            yield commit(1);
            throw new GantryError('damaged', 'here');
          },
        },
        async (context, data) => {
          const rows: number[] = [];
          await assert.rejects(
            async () => {
              for await (const one of data.readLog(context.call(), { after: [], lanes: [] })) rows.push(one.sequence);
            },
            { code: 'damaged', message: 'here' },
          );
          assert.deepEqual(rows, [1]);
        },
      ));

    test('a reader that stops reading stops the handler', async () => {
      let left: () => void;
      const hasLeft = new Promise<void>((resolve) => (left = resolve));
      let produced = 0;
      await withData(
        {
          async *readLog(call) {
            try {
              for (; ; produced++) {
                if (call.signal.aborted) return;
                yield commit(produced);
              }
            } finally {
              left();
            }
          },
        },
        async (context, data) => {
          for await (const one of data.readLog(context.call(), { after: [], lanes: [] })) if (one.sequence === 3) break;
          await hasLeft;
        },
      );
    });

    test('a slow reader holds the handler back', () => {
      let produced = 0;
      return withData(
        {
          async *readLog() {
            for (; produced < 20_000; produced++)
              yield { lane: 'L', sequence: produced, tableOfContents: Buffer.alloc(32_768) };
          },
        },
        async (context, data) => {
          const reader = data.readLog(context.call(), { after: [], lanes: [] })[Symbol.asyncIterator]();
          await reader.next();
          // Let everything run that can: the handler must come to rest by itself, long before its 650 MB.
          let before = -1;
          while (before !== produced) {
            before = produced;
            for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
          }
          assert.ok(produced < 2_000, `${produced} messages were produced for a reader that took one`);
          await reader.return?.();
        },
      );
    });

    test('cancelling a stream that waits ends it', () => {
      const caller = new AbortController();
      return withData(
        {
          async *readLog(call) {
            yield commit(1);
            await once(call.signal, 'abort');
            throw call.signal.reason;
          },
        },
        async (context, data) => {
          const reader = data
            .readLog(context.call({ signal: caller.signal }), { after: [], lanes: [] })
            [Symbol.asyncIterator]();
          await reader.next();
          const waiting = reader.next();
          caller.abort();
          await assert.rejects(waiting, { code: 'cancelled' });
        },
      );
    });

    test('a service that is nowhere is unavailable', async () => {
      const context = await createTestContext({ overGrpc: false });
      try {
        await assert.rejects(context.client(IndexService).counts(context.call(), {}), { code: 'unavailable' });
      } finally {
        await context.stop();
      }
    });

    if (overGrpc)
      test('platform.rpcMessageMax bounds a message', () =>
        withData({ append: async () => ({ positions: [], ids: [] }) }, async (context, data) => {
          const entry = { n: 1, stamp: 'x'.repeat(70_000), kind: undefined };
          await assert.rejects(data.append(context.call(), { entries: [entry] }), { code: 'too-large' });
        }));
  });

test('a service is offered once, whole, and only while its module starts', async () => {
  const context = await createTestContext({
    modules: [{ name: 'm', settings: {}, start: async () => ({ stop: async () => {} }) }],
  });
  try {
    assert.throws(() => context.serve(DataService, {} as never), /while its module starts/);
  } finally {
    await context.stop();
  }
  const other = await createTestContext();
  try {
    assert.throws(() => other.serve(DataService, {} as never), /lacks a handler for heads/);
  } finally {
    await other.stop();
  }
});
