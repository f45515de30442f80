import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PDU } from './pdu.ts';
import { PduReader } from './reader.ts';
import { MessageWriter, payloadMax } from './writer.ts';

async function* asynchronously(buffers: Buffer[]): AsyncGenerator<Buffer> {
  yield* buffers;
}

test('fragments: within the peer’s maximum, even but for the last, whole, in order', async () => {
  const parts = fc.array(
    fc.uint8Array({ maxLength: 700 }).map((bytes) => Buffer.from(bytes)),
    { maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(
      parts,
      fc.integer({ min: 8, max: 600 }),
      fc.nat(2),
      fc.nat(200),
      async (buffers, peerMax, kind, commandLength) => {
        const sent: Buffer[] = [];
        const max = payloadMax(peerMax, 131072);
        const writer = new MessageWriter(async (batch) => void sent.push(...batch), max, 2000);
        const command = Buffer.alloc(commandLength, 1);
        const data = Buffer.concat(buffers);
        await writer.message(3, command, kind === 0 ? data : kind === 1 ? buffers : asynchronously(buffers));
        const gathered: Record<'command' | 'data', Buffer[]> = { command: [], data: [] };
        const lasts: string[] = [];
        const reader = new PduReader(
          {
            begin: (type, length) => {
              assert.equal(type, PDU.P_DATA_TF);
              assert.ok(length <= peerMax, `${length} of ${peerMax}`);
            },
            fragment: (contextId, isCommand, bytes, last) => {
              assert.equal(contextId, 3);
              const what = isCommand ? 'command' : 'data';
              assert.ok(!lasts.includes(what));
              gathered[what].push(bytes);
              if (last) lasts.push(what);
              else assert.equal(bytes.length % 2, 0);
              // A last fragment without content is legal, but some peers stumble over it.
              assert.ok(bytes.length > 0 || (isCommand ? command : data).length === 0);
            },
            endOfData: () => {},
            pdu: () => assert.fail(),
          },
          { controlPduLengthMax: 1024, pduLengthReceived: 131072 },
        );
        reader.push(Buffer.concat(sent));
        assert.equal(reader.insidePdu, false);
        assert.deepEqual(lasts, ['command', 'data']);
        assert.ok(Buffer.concat(gathered.command).equals(command));
        assert.ok(Buffer.concat(gathered.data).equals(data));
      },
    ),
    { numRuns: 200 },
  );
});

test('a maximum of 0 means ours', () => {
  assert.equal(payloadMax(0, 131072), 131066);
  assert.equal(payloadMax(16384, 131072), 16378);
  assert.equal(payloadMax(1 << 30, 131072), 131066);
  assert.equal(payloadMax(129, 131072), 122);
});

test('a source that fails before anything went out leaves nothing behind', async () => {
  const sent: Buffer[] = [];
  const writer = new MessageWriter(async (batch) => void sent.push(...batch), 100, 1000);
  await assert.rejects(
    writer.message(
      1,
      Buffer.alloc(10),
      (async function* () {
        yield Buffer.alloc(50);
        throw new Error('the disk is gone');
      })(),
    ),
    /the disk is gone/,
  );
  assert.equal(writer.started, false);
  await writer.message(1, Buffer.alloc(10, 1), Buffer.alloc(2, 2));
  assert.equal(
    Buffer.concat(sent).toString('hex'),
    `040000000010${'0000000c0103'}${'01'.repeat(10)}040000000008000000040102${'0202'}`,
  );
});

test('lent buffers are taken once each, in order, when the write that ends them is done, and not when it failed', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 12 }),
      fc.integer({ min: 8, max: 600 }),
      fc.option(fc.nat(6), { nil: undefined }),
      async (lengths, peerMax, failing) => {
        const buffers: Buffer[] = lengths.map((length, n) => Buffer.alloc(length, 100 + n)); // never what a PDU header begins with
        let written = -50; // the command
        let writes = 0;
        const taken: Buffer[] = [];
        const writer = new MessageWriter(
          async (batch) => {
            const bytes = batch.filter((buffer) => buffer.length !== 12 || buffer[0] !== PDU.P_DATA_TF);
            await new Promise((resolve) => setImmediate(resolve));
            if (writes++ === failing) throw new Error('the peer has gone');
            for (const buffer of bytes) written += buffer.length;
          },
          payloadMax(peerMax, 131072),
          2000,
        );
        const data = Object.assign(asynchronously(buffers), {
          taken: (buffer: Buffer) => {
            taken.push(buffer);
            const ends = buffers.slice(0, buffers.indexOf(buffer) + 1).reduce((sum, { length }) => sum + length, 0);
            assert.ok(ends <= written, `${ends} of ${written} bytes`);
          },
        });
        const sent = await writer.message(3, Buffer.alloc(50, 99), data).then(
          () => true,
          () => false,
        );
        assert.deepEqual(taken, buffers.slice(0, taken.length));
        if (sent) assert.equal(taken.length, buffers.length);
        else assert.ok(taken.length < buffers.length || buffers.length === 0, 'the last write failed');
      },
    ),
  );
});
