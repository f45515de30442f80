/** Entry points for fuzzers: any bytes may come in; only the named errors may come out, and the invariants hold. */
import assert from 'node:assert/strict';
import { CommandError, decodeCommand, encodeCommand } from './command.ts';
import { MessageAssembler, MessageError } from './message.ts';
import { encodePdu, PduError } from './pdu.ts';
import { PduReader } from './reader.ts';

const LIMITS = { controlPduLengthMax: 64 * 1024, pduLengthReceived: 1 << 26 };

/** A stream of PDUs. What was understood can be encoded again. */
export function fuzzPdus(stream: Buffer): void {
  let delivered = 0;
  const reader = new PduReader(
    {
      begin: (_, length) => assert.ok(length <= LIMITS.pduLengthReceived),
      fragment: (_, __, data) => {
        delivered += data.length;
      },
      endOfData: () => {},
      pdu: (pdu) => void encodePdu(pdu),
    },
    LIMITS,
  );
  try {
    reader.push(stream);
  } catch (error) {
    if (!(error instanceof PduError)) throw error;
  }
  assert.ok(delivered <= stream.length);
}

/** A command set: what was understood survives being written and read again. */
export function fuzzCommand(bytes: Buffer): void {
  try {
    const command = decodeCommand(bytes);
    assert.equal(decodeCommand(encodeCommand(command)).commandField, command.commandField);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
  }
}

/** The stream of an established association: PDUs, PDVs, commands, data sets. */
export function fuzzMessages(stream: Buffer): void {
  let open = 0;
  const assembler = new MessageAssembler(
    [1, 3],
    {
      command: (_, command) => {
        if (command.hasData) open++;
      },
      data: () => assert.ok(open > 0, 'data belongs to a message'),
      end: () => {
        open--;
      },
    },
    4096,
  );
  const reader = new PduReader(
    { begin: () => {}, fragment: (...fragment) => assembler.fragment(...fragment), endOfData: () => {}, pdu: () => {} },
    LIMITS,
  );
  try {
    reader.push(stream);
  } catch (error) {
    if (!(error instanceof PduError) && !(error instanceof MessageError)) throw error;
  }
  assert.ok(open >= 0 && open <= 2);
}
