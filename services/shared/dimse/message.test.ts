import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { COMMAND, type CommandSet, encodeCommand } from './command.ts';
import { fuzzMessages } from './fuzz.ts';
import { MessageAssembler, MessageError } from './message.ts';
import { encodePdu, PDU } from './pdu.ts';

interface Said {
  contextId: number;
  command: CommandSet;
  data?: string;
  ended: boolean;
}

function assemble(fragments: { contextId: number; command: boolean; data: Buffer; last: boolean }[]): Said[] {
  const said: Said[] = [];
  const open = (contextId: number) => said.findLast((message) => message.contextId === contextId)!;
  const assembler = new MessageAssembler(
    [1, 3, 5],
    {
      command: (contextId, command) => {
        said.push({ contextId, command, data: command.hasData ? '' : undefined, ended: !command.hasData });
      },
      data: (contextId, data) => {
        open(contextId).data += data.toString('hex');
      },
      end: (contextId) => {
        open(contextId).ended = true;
      },
    },
    1024,
  );
  for (const { contextId, command, data, last } of fragments) assembler.fragment(contextId, command, data, last);
  assert.equal(assembler.incomplete, said.filter((message) => !message.ended).length);
  return said;
}

const store = (messageId: number): CommandSet => ({ commandField: COMMAND.C_STORE_RQ, messageId, hasData: true });

function cut(contextId: number, command: boolean, data: Buffer, sizes: number[]) {
  const fragments = [];
  let at = 0;
  for (const size of sizes) {
    if (at + size >= data.length) break;
    fragments.push({ contextId, command, data: data.subarray(at, at + size), last: false });
    at += size;
  }
  fragments.push({ contextId, command, data: data.subarray(at), last: true });
  return fragments;
}

test('a message is the same in one fragment and in a thousand', () => {
  const sizes = fc.array(fc.nat(40), { maxLength: 50 });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), sizes, sizes, (bytes, commandCuts, dataCuts) => {
      const data = Buffer.from(bytes);
      const command = encodeCommand(store(9));
      const said = assemble([...cut(3, true, command, commandCuts), ...cut(3, false, data, dataCuts)]);
      assert.deepEqual(said, [{ contextId: 3, command: store(9), data: data.toString('hex'), ended: true }]);
    }),
  );
});

test('messages on different contexts may interleave in any order', () => {
  const streams = [1, 3, 5].map((id) => [
    ...cut(id, true, encodeCommand(store(id)), [10, 10, 10]),
    ...cut(id, false, Buffer.alloc(100, id), [7, 20, 0, 31]),
  ]);
  fc.assert(
    fc.property(fc.array(fc.nat(2), { minLength: 40, maxLength: 60 }), (order) => {
      const queues = streams.map((stream) => [...stream]);
      const mixed = order.flatMap((n) => queues[n]!.splice(0, 1));
      const said = assemble([...mixed, ...queues.flat()]);
      for (const id of [1, 3, 5]) {
        const message = said.find(({ contextId }) => contextId === id);
        assert.deepEqual(message, {
          contextId: id,
          command: store(id),
          data: Buffer.alloc(100, id).toString('hex'),
          ended: true,
        });
      }
    }),
  );
});

test('what no order of messages explains is an error that says why', () => {
  const command = { contextId: 1, command: true, data: encodeCommand(store(1)), last: true };
  const data = { contextId: 1, command: false, data: Buffer.alloc(2), last: false };
  const cases: [Parameters<typeof assemble>[0], RegExp][] = [
    [[{ ...command, contextId: 7 }], /context 7, which was not accepted/],
    [[data], /without a command/],
    [[command, data, command], /inside the data set/],
    [[command, command], /inside the data set/],
    [[{ ...command, data: Buffer.alloc(1025), last: false }], /longer than 1024/],
    [[{ ...command, data: Buffer.from('zz') }], /command set/],
  ];
  for (const [fragments, words] of cases) {
    assert.throws(
      () => assemble(fragments),
      (error: unknown) => error instanceof MessageError && words.test(error.message),
    );
  }
});

test('a response that never has a data set may claim one, and even send it', () => {
  const response: CommandSet = {
    commandField: COMMAND.C_STORE_RSP,
    messageIdBeingRespondedTo: 1,
    status: 0,
    hasData: true,
  };
  const command = { contextId: 1, command: true, data: encodeCommand(response), last: true };
  const stray = { contextId: 1, command: false, data: Buffer.alloc(2), last: true };
  const said = assemble([command, command, stray, command]);
  assert.equal(said.length, 3);
  assert.ok(said.every((message) => message.ended && !message.command.hasData));
});

test('any stream: the named errors or nothing', () => {
  const pdv = fc.record({
    contextId: fc.constantFrom(1, 3, 5, 7),
    command: fc.boolean(),
    last: fc.boolean(),
    data: fc.oneof(
      fc.constant(encodeCommand(store(1))),
      fc.constant(encodeCommand({ commandField: COMMAND.C_ECHO_RQ, hasData: false })),
      fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
    ),
  });
  const pdus = fc.array(fc.array(pdv, { maxLength: 5 }), { maxLength: 8 });
  fc.assert(
    fc.property(pdus, (list) =>
      fuzzMessages(Buffer.concat(list.map((pdvs) => encodePdu({ type: PDU.P_DATA_TF, pdvs })))),
    ),
    { numRuns: 1000 },
  );
});
