import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  IMPLEMENTATION_VERSION_NAME as NAME_IN_FILES,
  IMPLEMENTATION_CLASS_UID as OURS_IN_FILES,
} from '#dicom/part10.ts';
import { COMMAND, CommandError, type CommandSet, decodeCommand, encodeCommand } from './command.ts';
import { fuzzCommand } from './fuzz.ts';
import { IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME } from './implementation.ts';

const us = fc.integer({ min: 0, max: 0xffff });
const uid = fc.stringMatching(/^[0-9][0-9.]{0,62}[0-9]$/);
const title = fc.stringMatching(/^[A-Z0-9_]{1,16}$/);
const tags = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 5 });
const anyCommand: fc.Arbitrary<CommandSet> = fc.record(
  {
    commandField: us,
    hasData: fc.boolean(),
    messageId: us,
    messageIdBeingRespondedTo: us,
    affectedSopClassUid: uid,
    requestedSopClassUid: uid,
    affectedSopInstanceUid: uid,
    requestedSopInstanceUid: uid,
    status: us,
    priority: us,
    moveDestination: title,
    moveOriginatorAeTitle: title,
    moveOriginatorMessageId: us,
    remainingSubOperations: us,
    completedSubOperations: us,
    failedSubOperations: us,
    warningSubOperations: us,
    offendingElement: tags,
    errorComment: title,
    errorId: us,
    attributeIdentifierList: tags,
    eventTypeId: us,
    actionTypeId: us,
  },
  { requiredKeys: ['commandField', 'hasData'] },
);

function element(group: number, id: number, value: Buffer | string | number): Buffer {
  let bytes: Buffer;
  if (typeof value === 'number') {
    bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(value);
  } else bytes = Buffer.from(value as string, 'latin1');
  const head = Buffer.alloc(8);
  head.writeUInt16LE(group);
  head.writeUInt16LE(id, 2);
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
}

test('what is encoded is decoded the same; even, sorted, with its group length', () => {
  fc.assert(
    fc.property(anyCommand, (command) => {
      const encoded = encodeCommand(command);
      assert.deepEqual(decodeCommand(encoded), { ...command });
      assert.equal(encoded.length % 2, 0);
      assert.equal(encoded.readUInt32LE(8), encoded.length - 12);
      let last = -1;
      for (let at = 0; at < encoded.length; at += 8 + encoded.readUInt32LE(at + 4)) {
        assert.ok(encoded.readUInt16LE(at + 2) > last, 'ascending');
        last = encoded.readUInt16LE(at + 2);
        assert.equal(encoded.readUInt32LE(at + 4) % 2, 0, 'even');
      }
    }),
    { numRuns: 500 },
  );
});

test('what odd peers send: no group length, unsorted, odd and padded UIDs, any CommandDataSetType', () => {
  const command = decodeCommand(
    Buffer.concat([
      element(0, 0x1000, '1.2.840.1 '),
      element(0, 0x0800, 0x0102),
      element(0, 0x0110, 7),
      element(0, 0x0002, '1.2.840.10008.1.1'), // 17 characters, no padding
      element(0, 0x0600, '  dest\0\0'),
      element(0, 0x0010, 'RETIRED '),
      element(0, 0x0900, ''),
      element(0, 0x0100, COMMAND.C_STORE_RQ),
    ]),
  );
  assert.deepEqual(command, {
    affectedSopInstanceUid: '1.2.840.1',
    affectedSopClassUid: '1.2.840.10008.1.1',
    moveDestination: 'dest',
    messageId: 7,
    commandField: COMMAND.C_STORE_RQ,
    hasData: true,
  });
});

test('what cannot be a command set is refused by name', () => {
  const field = element(0, 0x0100, 1);
  const type = element(0, 0x0800, 0x0101);
  for (const [bytes, words] of [
    [Buffer.concat([field]), /Data Set Type/],
    [Buffer.concat([type]), /Command Field/],
    [Buffer.concat([field, type, Buffer.from([1, 2, 3])]), /stray/],
    [Buffer.concat([field, type, element(0x0008, 0x0018, '1.2')]), /group 0008/],
    [Buffer.concat([field, type]).subarray(0, 19), /claims/],
    [Buffer.alloc(0), /Command Field/],
  ] as const) {
    assert.throws(
      () => decodeCommand(bytes),
      (error: unknown) => error instanceof CommandError && words.test(error.message),
    );
  }
});

test('an Error Comment has 64 characters at most and stays one value', () => {
  const sent = encodeCommand({ commandField: 0x8001, hasData: false, errorComment: `a\\b\n${'é'.repeat(100)}` });
  assert.equal(decodeCommand(sent).errorComment, `a?b?${'?'.repeat(60)}`);
});

test('random and damaged bytes: CommandError or nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => fuzzCommand(Buffer.from(bytes))),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(anyCommand, fc.nat(), fc.nat(255), (command, at, to) => {
      const bytes = encodeCommand(command);
      bytes[at % bytes.length] = to;
      fuzzCommand(bytes);
    }),
    { numRuns: 1000 },
  );
});

test('we are one implementation on the wire and in files', () => {
  assert.equal(IMPLEMENTATION_CLASS_UID, OURS_IN_FILES);
  assert.equal(IMPLEMENTATION_VERSION_NAME, NAME_IN_FILES);
});
