import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import Fastify, { type FastifyRequest } from 'fastify';
import { SLAB_BYTES, takeBytes } from '#platform/slabs.ts';
import { matchesEtag, type Part, parseRange, sendParts, sendRanged, stream, warn } from './respond.ts';

const BYTES = Buffer.from('0123456789');

/** One resource behind a real Fastify, asked without a socket. */
async function ask(headers: Record<string, string>, method: 'GET' | 'HEAD' = 'GET') {
  const app = Fastify();
  const reads: [number, number][] = [];
  app.get('/', (request, reply) =>
    sendRanged(request, reply, {
      type: 'application/octet-stream',
      etag: '"v1"',
      length: BYTES.length,
      async *read(start, end) {
        reads.push([start, end]);
        yield BYTES.subarray(start, end);
      },
    }),
  );
  const answer = await app.inject({ method, url: '/', headers });
  await app.close();
  return { ...answer, status: answer.statusCode, headers: answer.headers, body: answer.body, reads };
}

describe('Range (RFC 9110 §14)', () => {
  test('forms', () => {
    const cases: [string | undefined, ReturnType<typeof parseRange>][] = [
      [undefined, undefined],
      ['bytes=0-0', { start: 0, end: 1 }],
      ['bytes=2-4', { start: 2, end: 5 }],
      ['bytes=2-', { start: 2, end: 10 }],
      ['bytes=-3', { start: 7, end: 10 }],
      ['bytes=-99', { start: 0, end: 10 }],
      ['bytes=5-99', { start: 5, end: 10 }],
      ['bytes=10-', 'unsatisfiable'],
      ['bytes=99999999999999999999-', 'unsatisfiable'],
      ['bytes=-0', 'unsatisfiable'],
      // Not understood: the whole (§14.2).
      ['bytes=4-2', undefined],
      ['bytes=-', undefined],
      ['bytes=0-1,3-4', undefined],
      ['lines=0-1', undefined],
      ['bytes=a-b', undefined],
    ];
    for (const [header, expected] of cases) assert.deepEqual(parseRange(header, 10), expected, header);
    assert.equal(parseRange('bytes=0-', 0), 'unsatisfiable');
    assert.equal(parseRange('bytes=-1', 0), 'unsatisfiable');
  });

  test('whatever is asked, never outside of the resource', () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(), fc.nat(), fc.nat({ max: 1000 }), (junk, from, to, length) => {
        for (const header of [junk, `bytes=${junk}`, `bytes=${from}-${to}`, `bytes=-${from}`]) {
          const range = parseRange(header, length);
          if (range === undefined || range === 'unsatisfiable') continue;
          assert.ok(range.start >= 0 && range.start < range.end && range.end <= length);
        }
      }),
    );
  });

  test('206 with Content-Range, 416, 304, If-Range; HEAD reads nothing', async () => {
    const part = await ask({ range: 'bytes=2-4' });
    assert.deepEqual([part.status, part.body, part.headers['content-range']], [206, '234', 'bytes 2-4/10']);
    assert.equal(part.headers['content-length'], '3');
    const beyond = await ask({ range: 'bytes=10-' });
    assert.deepEqual([beyond.status, beyond.headers['content-range'], beyond.reads.length], [416, 'bytes */10', 0]);
    const same = await ask({ 'if-none-match': '"v0", W/"v1"' });
    assert.deepEqual([same.status, same.body, same.reads.length], [304, '', 0]);
    assert.equal((await ask({ range: 'bytes=0-1', 'if-range': '"v1"' })).status, 206);
    assert.equal((await ask({ range: 'bytes=0-1', 'if-range': 'W/"v1"' })).status, 200); // §13.1.5: strong comparison
    const head = await ask({}, 'HEAD');
    assert.deepEqual([head.status, head.headers['content-length'], head.reads.length], [200, '10', 0]);
  });
});

test('If-None-Match compares weakly, and never a part of a tag', () => {
  assert.ok(matchesEtag('W/"a"', '"a"') && matchesEtag('"a"', 'W/"a"') && matchesEtag(' * ', '"a"'));
  assert.ok(!matchesEtag('"ab"', '"a"') && !matchesEtag(undefined, '"a"') && !matchesEtag('', '"a"'));
});

test('multipart: its Content-Length is what comes, and a part may hold its boundary marks', async () => {
  const app = Fastify();
  const bodies = [Buffer.from('one'), Buffer.from('\r\n--\r\n--gantry-'), Buffer.alloc(0)];
  const part = (bytes: Buffer, length?: number): Part => ({
    headers: { 'Content-Type': 'x/y' },
    length,
    body: async function* () {
      yield bytes;
    },
  });
  app.get('/known', (_, reply) =>
    sendParts(
      reply,
      'x/y',
      bodies.map((bytes) => part(bytes, bytes.length)),
    ),
  );
  app.get('/unknown', (_, reply) =>
    sendParts(
      reply,
      'x/y',
      bodies.map((bytes) => part(bytes)),
    ),
  );
  for (const url of ['/known', '/unknown']) {
    const answer = await app.inject(url);
    const boundary = /boundary=(.*)$/.exec(String(answer.headers['content-type']))![1];
    const expected = bodies.map((bytes) => `--${boundary}\r\nContent-Type: x/y\r\n\r\n${bytes}\r\n`).join('');
    assert.equal(answer.body, `${expected}--${boundary}--\r\n`);
    assert.equal(answer.headers['content-length'], url === '/known' ? String(answer.rawPayload.length) : undefined);
  }
  await app.close();
});

test('a Warning cannot break out of its quotes, nor out of its line', async () => {
  const app = Fastify();
  app.get('/', (_, reply) => {
    warn(reply, 'a "b" \\ c\r\nX-Evil: 1');
    warn(reply, 'second');
    return reply.send('');
  });
  const answer = await app.inject('/');
  assert.equal(answer.headers.warning, '299 gantry "a ?b? ? c??X-Evil: 1", 299 gantry "second"');
  await app.close();
});

describe('a body that goes out as it is read', () => {
  /** A real server whose one answer is `body`. */
  async function served<T>(body: () => AsyncIterable<Buffer>, ask: (port: number) => Promise<T>) {
    const app = Fastify();
    let request: FastifyRequest | undefined;
    app.decorateRequest('failure', undefined);
    app.get('/', (asked, reply) => {
      request = asked;
      return stream(reply.type('application/octet-stream'), body());
    });
    try {
      await app.listen({ port: 0, host: '127.0.0.1' });
      const answer = await ask((app.server.address() as { port: number }).port);
      return { answer, failure: request?.failure };
    } finally {
      await app.close();
    }
  }
  const get = (port: number) => fetch(`http://127.0.0.1:${port}/`);

  test('an error before its first byte is an answer of its own, one after it cuts the connection', async () => {
    const before = await served(
      // biome-ignore lint/correctness/useYield: it fails first
      async function* () {
        throw Object.assign(new Error('gone'), { statusCode: 404 });
      },
      get,
    );
    assert.deepEqual([before.answer.status, before.failure], [404, undefined]);
    const after = await served(
      async function* () {
        yield Buffer.from('abc');
        await new Promise((resolve) => setImmediate(resolve)); // a disk takes longer; the headers are out
        throw new Error('damaged');
      },
      async (port) => {
        const answer = await get(port);
        await assert.rejects(answer.arrayBuffer());
        return answer.status;
      },
    );
    assert.deepEqual([after.answer, (after.failure as Error).message], [200, 'damaged']);
  });

  test('an empty one is empty', async () => {
    const { answer } = await served(
      async function* () {},
      async (port) => (await get(port)).arrayBuffer(),
    );
    assert.equal(answer.byteLength, 0);
  });

  test('a reader that leaves: the body is told, nobody has failed, and the next one gets its own bytes', async () => {
    let told = (): void => {};
    const left = new Promise<void>((resolve) => (told = resolve));
    let readers = 0;
    async function* body(): AsyncGenerator<Buffer> {
      const number = ++readers;
      try {
        for (let n = 0; n < 40 || number === 1; n++) yield takeBytes(SLAB_BYTES).fill(number);
      } finally {
        if (number === 1) told();
      }
    }
    const { answer, failure } = await served(body, async (port) => {
      const socket = connect(port, '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await once(socket, 'data');
      socket.pause();
      const other = Buffer.from(await (await get(port)).arrayBuffer()); // while the first one's bytes wait for it
      socket.destroy();
      await left;
      return other;
    });
    assert.equal(answer.length, 40 * SLAB_BYTES);
    assert.ok(answer.every((byte) => byte === 2));
    assert.equal(failure, undefined);
  });
});
