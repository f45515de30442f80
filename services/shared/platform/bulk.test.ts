import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { GantryError } from './errors.ts';
import { BULK } from './routes.ts';
import type { BulkHandler, Bytes } from './rpc.types.ts';
import { createTestContext, type TestContext } from './testing.ts';

const READ = { places: [{ object: 'log/a', offset: 1, length: 2, encoding: 0 }] };
const PUT = { expectedBytes: 5 };
const PUT_ANSWER = { object: 'large/x', length: 0, digest: Buffer.alloc(0) };

async function gather(body: Bytes): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}
async function* endless(size = 65_536, counter = { pulled: 0, returned: false }): AsyncGenerator<Buffer> {
  try {
    for (;;) {
      counter.pulled++;
      yield Buffer.alloc(size);
    }
  } finally {
    counter.returned = true;
  }
}
/** Everything that can run has run: a counter that does not move any more. */
async function atRest(read: () => number): Promise<number> {
  let before = -1;
  while (before !== read()) {
    before = read();
    for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
  }
  return before;
}

for (const overGrpc of [false, true])
  describe(overGrpc ? 'bulk over HTTP' : 'bulk direct', () => {
    const withRoutes = async (
      routes: { read?: BulkHandler<typeof READ, { length: number }>; put?: BulkHandler<typeof PUT, typeof PUT_ANSWER> },
      run: (context: TestContext) => Promise<void>,
      settings: Record<string, unknown> = {},
    ) => {
      const context = await createTestContext({ overGrpc, settings });
      try {
        if (routes.read) context.serveBulk(BULK.read, routes.read);
        if (routes.put) context.serveBulk(BULK.putLarge, routes.put);
        await run(context);
      } finally {
        await context.stop();
      }
    };

    test('message and bytes go both ways, whole', async () => {
      const sent = Array.from({ length: 40 }, (_, i) => randomBytes(i * 10_007));
      await withRoutes(
        {
          put: async (call, request, body) => {
            assert.equal(call.tenant, 'süd');
            assert.deepEqual(request, PUT);
            const all = await gather(body);
            return {
              response: { ...PUT_ANSWER, length: all.length },
              body: (async function* () {
                yield all;
                yield Buffer.alloc(0);
                yield Buffer.from('end');
              })(),
            };
          },
        },
        async (context) => {
          const { response, body } = await context.bulk(BULK.putLarge)(context.call({ tenant: 'süd' }), PUT, sent);
          const all = Buffer.concat(sent);
          assert.equal(response.length, all.length);
          assert.ok((await gather(body)).equals(Buffer.concat([all, Buffer.from('end')])));
        },
      );
    });

    test('many requests at once, and one after another on the same connections', () =>
      withRoutes(
        {
          read: async (_call, request) => ({
            response: { length: request.places[0].offset },
            body: endlessOf(request.places[0].offset),
          }),
        },
        async (context) => {
          const read = async (n: number) => {
            const { response, body } = await context.bulk(BULK.read)(context.call(), {
              places: [{ ...READ.places[0], offset: n }],
            });
            assert.equal(response.length, n);
            assert.equal((await gather(body)).length, n);
          };
          for (let round = 0; round < 3; round++)
            await Promise.all(Array.from({ length: 80 }, (_, n) => read(n * 1_000)));
        },
        { 'platform.bulkSockets': 8 },
      ));

    test('a refusal before the body was read: the sender stops, its body is left', () => {
      const counter = { pulled: 0, returned: false };
      return withRoutes(
        {
          put: async () => {
            throw new GantryError('no-space', 'the reserve is reached');
          },
        },
        async (context) => {
          const body = endless(65_536, counter);
          await body.next(); // begun, as a door's body is
          await assert.rejects(context.bulk(BULK.putLarge)(context.call(), PUT, body), {
            code: 'no-space',
            message: 'the reserve is reached',
          });
          await atRest(() => counter.pulled);
          assert.equal(counter.returned, true);
        },
      );
    });

    test('an error inside the answer arrives as itself, after the bytes before it', () =>
      withRoutes(
        {
          read: async () => ({
            response: { length: 10 },
            body: (async function* () {
              yield Buffer.from('abc');
              throw new GantryError('not-found', 'the place has moved');
            })(),
          }),
        },
        async (context) => {
          const { body } = await context.bulk(BULK.read)(context.call(), READ);
          let got = '';
          await assert.rejects(
            async () => {
              for await (const chunk of body) got += chunk;
            },
            { code: 'not-found', message: 'the place has moved' },
          );
          assert.equal(got, 'abc');
        },
      ));

    test('an error inside the body that we send is what the sender sees, and the receiver fails too', () => {
      let received: Promise<unknown> = Promise.resolve();
      let begun = () => {};
      const hasBegun = new Promise<void>((resolve) => (begun = resolve));
      return withRoutes(
        {
          put: async (_call, _request, body) => {
            const all = gather(body);
            begun();
            received = all.then(
              () => 'whole',
              () => 'failed',
            );
            await all;
            return { response: PUT_ANSWER };
          },
        },
        async (context) => {
          const body = (async function* () {
            yield Buffer.from('abc');
            await hasBegun;
            throw new GantryError('unparsable', 'the association was aborted');
          })();
          await assert.rejects(context.bulk(BULK.putLarge)(context.call(), PUT, body), {
            code: 'unparsable',
            message: 'the association was aborted',
          });
          assert.equal(await received, 'failed');
        },
      );
    });

    test('a slow receiver holds the sender back', () => {
      const counter = { pulled: 0, returned: false };
      let release = () => {};
      const held = new Promise<void>((resolve) => (release = resolve));
      return withRoutes(
        {
          put: async (_call, _request, body) => {
            await body[Symbol.asyncIterator]().next();
            await held;
            return { response: PUT_ANSWER };
          },
        },
        async (context) => {
          const answer = context.bulk(BULK.putLarge)(context.call(), PUT, endless(65_536, counter));
          const pulled = await atRest(() => counter.pulled);
          assert.ok(pulled < 400, `${pulled} chunks of 64 KiB were taken for a receiver that wanted one`);
          release();
          await answer;
        },
      );
    });

    test('a slow reader holds the server back, and leaving stops it', () => {
      const counter = { pulled: 0, returned: false };
      let left = () => {};
      const hasLeft = new Promise<void>((resolve) => (left = resolve));
      return withRoutes(
        {
          read: async () => ({
            response: { length: 0 },
            body: (async function* () {
              try {
                yield* endless(65_536, counter);
              } finally {
                left();
              }
            })(),
          }),
        },
        async (context) => {
          const { body } = await context.bulk(BULK.read)(context.call(), READ);
          const reader = body[Symbol.asyncIterator]();
          await reader.next();
          const pulled = await atRest(() => counter.pulled);
          assert.ok(pulled < 400, `${pulled} chunks of 64 KiB were read for a reader that took one`);
          await reader.return?.();
          await hasLeft;
        },
      );
    });

    test('cancelling while the handler works tells it', () => {
      const caller = new AbortController();
      let told: Promise<unknown> = Promise.resolve();
      return withRoutes(
        {
          read: (call) => {
            told = once(call.signal, 'abort');
            caller.abort();
            return new Promise(() => {});
          },
        },
        async (context) => {
          await assert.rejects(context.bulk(BULK.read)(context.call({ signal: caller.signal }), READ), {
            code: 'cancelled',
          });
          await told;
        },
      );
    });

    test('cancelling inside the answer ends it', () => {
      const caller = new AbortController();
      return withRoutes({ read: async () => ({ response: { length: 0 }, body: endless() }) }, async (context) => {
        const { body } = await context.bulk(BULK.read)(context.call({ signal: caller.signal }), READ);
        await assert.rejects(
          async () => {
            for await (const _ of body) caller.abort();
          },
          { code: 'cancelled' },
        );
      });
    });

    test('a deadline ends a handler that does not listen', () =>
      withRoutes({ read: () => new Promise(() => {}) }, async (context) => {
        await assert.rejects(context.bulk(BULK.read)(context.call({ deadline: Date.now() + 100 }), READ), {
          code: 'deadline-exceeded',
        });
      }));

    test('an unexpected error becomes internal and its message does not travel', () =>
      withRoutes(
        {
          read: async () => {
            throw new TypeError('Doe^John');
          },
        },
        async (context) => {
          await assert.rejects(
            context.bulk(BULK.read)(context.call(), READ),
            (error: GantryError) => error.code === 'internal' && !error.message.includes('Doe'),
          );
        },
      ));

    if (overGrpc) {
      test('platform.bulkSockets: a request beyond waits for a connection, and they are used again', () => {
        let now = 0;
        let most = 0;
        return withRoutes(
          {
            read: async () => {
              most = Math.max(most, ++now);
              await new Promise((resolve) => setImmediate(resolve));
              now--;
              return { response: { length: 1 } };
            },
            put: async (_call, _request, body) => ({
              response: { ...PUT_ANSWER, length: (await gather(body)).length },
            }),
          },
          async (context) => {
            let connections = 0;
            const count = () => connections++;
            subscribe('net.server.socket', count);
            try {
              const read = async () => gather((await context.bulk(BULK.read)(context.call(), READ)).body);
              const put = () => context.bulk(BULK.putLarge)(context.call(), PUT, [Buffer.alloc(100_000)]);
              for (let round = 0; round < 5; round++)
                await Promise.all(Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? read() : put())));
            } finally {
              unsubscribe('net.server.socket', count);
            }
            assert.ok(most <= 3, `${most} at once`);
            assert.ok(connections >= 1 && connections <= 3, `${connections} connections were opened`);
          },
          { 'platform.bulkSockets': 3 },
        );
      });

      test('platform.bulkHeaderMax bounds the message before the bytes', () =>
        withRoutes(
          { read: async () => ({ response: { length: 0 } }) },
          async (context) => {
            const places = [{ ...READ.places[0], object: 'x'.repeat(2_000) }];
            await assert.rejects(context.bulk(BULK.read)(context.call(), { places }), { code: 'too-large' });
          },
          { 'platform.bulkHeaderMax': 1_000 },
        ));

      test('platform.bulkIdleMs ends a connection that stands still', () =>
        withRoutes(
          { read: () => new Promise(() => {}) },
          async (context) => {
            await assert.rejects(
              context.bulk(BULK.read)(context.call(), READ),
              (error: GantryError) => error.code === 'deadline-exceeded' || error.code === 'unavailable',
            );
          },
          { 'platform.bulkIdleMs': 100 },
        ));
    }
  });

async function* endlessOf(length: number): AsyncGenerator<Buffer> {
  for (let left = length; left > 0; left -= 1_777) yield Buffer.alloc(Math.min(left, 1_777));
}
