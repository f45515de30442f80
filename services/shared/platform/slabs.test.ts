import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { pump } from './pump.ts';
import { giveBack, passOn, SLAB_BYTES, takeBytes } from './slabs.ts';

/** Where its bytes lie. */
const place = ({ buffer, byteOffset }: Buffer): [ArrayBufferLike, number] => [buffer, byteOffset];

test('what was given back is lent again, and only to one', () => {
  const first = takeBytes(SLAB_BYTES);
  const second = takeBytes(SLAB_BYTES);
  assert.notDeepEqual(place(first), place(second));
  giveBack(first);
  giveBack(first);
  const [third, fourth] = [takeBytes(100_000), takeBytes(SLAB_BYTES)];
  assert.equal(third.length, 100_000);
  assert.equal(third.buffer, first.buffer);
  assert.notEqual(fourth.buffer, first.buffer);
  giveBack(first); // lent to somebody else meanwhile
  assert.notEqual(takeBytes(SLAB_BYTES).buffer, first.buffer);
});

test('a slab comes back with the last piece of it, not with one before or with a copy', () => {
  const bytes = takeBytes(SLAB_BYTES).fill(1);
  const pieces = [bytes.subarray(0, 10), bytes.subarray(10)] as const;
  passOn(bytes, pieces[1]);
  for (const other of [bytes, pieces[0], bytes.subarray(10), Buffer.from(pieces[1])]) giveBack(other);
  assert.ok(bytes.every((byte) => byte === 1));
  giveBack(pieces[1]);
  assert.ok(
    bytes.every((byte) => byte === 0xdd),
    'in a test what was given back is overwritten',
  );
});

test('little is not worth a slab, more than one has is refused', () => {
  const little = takeBytes(1000);
  giveBack(little.fill(1));
  assert.equal(little[0], 1);
  assert.throws(() => takeBytes(SLAB_BYTES + 1), RangeError);
});

test('what nobody gives back starves nobody, and what many give back is not all kept', () => {
  for (let i = 0; i < 300; i++) takeBytes(SLAB_BYTES);
  const many = Array.from({ length: 100 }, () => takeBytes(SLAB_BYTES));
  for (const each of many) giveBack(each);
  const again = new Set(Array.from({ length: 100 }, () => takeBytes(SLAB_BYTES).buffer));
  assert.equal(again.size, 100);
  assert.equal(many.filter(({ buffer }) => again.has(buffer)).length, 64);
});

/** Each chunk its number over and over. */
async function* numbered(chunks: number): AsyncGenerator<Buffer> {
  for (let n = 0; n < chunks; n++) yield takeBytes(SLAB_BYTES).fill(n);
}

async function served(chunks: number, look: (answer: IncomingMessage) => Promise<void>): Promise<void> {
  const buffers = new Set<ArrayBufferLike>();
  const server = createServer(async (_request, response) => {
    const left = new AbortController();
    response.once('close', () => left.abort());
    const body = (async function* () {
      for await (const chunk of numbered(chunks)) {
        buffers.add(chunk.buffer);
        yield chunk;
      }
    })();
    await pump(body, response, left.signal).catch(() => undefined); // its reader has left
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    await new Promise<void>((resolve, reject) => {
      request({ port, host: '127.0.0.1', agent: false }, (answer) => look(answer).then(resolve, reject))
        .once('error', reject)
        .end();
    });
    assert.ok(buffers.size < chunks / 2, `${buffers.size} slabs for ${chunks} chunks`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('over a socket: every byte is right although few slabs carry them, and the reader is slow', () =>
  served(64, async (answer) => {
    let at = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      for (let i = 0; i < chunk.length; i++) {
        const expected = Math.floor((at + i) / SLAB_BYTES);
        if (chunk[i] !== expected) assert.fail(`byte ${at + i} is ${chunk[i]}, not ${expected}`);
      }
      at += chunk.length;
      await new Promise((resolve) => setImmediate(resolve)); // the kernel's buffer stays full
    }
    assert.equal(at, 64 * SLAB_BYTES);
  }));
