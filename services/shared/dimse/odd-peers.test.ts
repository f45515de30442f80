/** Scripted peers, each of them seen in the field or in a nightmare (conformance.md, "Odd peers"). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COMMAND, type CommandSet, decodeCommand, encodeCommand } from './command.ts';
import { negotiate } from './negotiate.ts';
import {
  associateRq,
  CT,
  commandPdv,
  dataPdv,
  EXPLICIT,
  FIND,
  IMPLICIT,
  type Parrot,
  parrotServer,
  parrotTo,
  pData,
  VERIFICATION,
} from './parrot.fixture.ts';
import { APPLICATION_CONTEXT, encodePdu, PDU, type Pdu } from './pdu.ts';
import { ABORT, REJECT } from './reasons.ts';
import { connect } from './requestor.ts';
import { CONTEXTS, pattern, STORE, startScp, toScp } from './scp.fixture.ts';
import { echo, find, store } from './scu.ts';
import type { Association } from './types.ts';

const ECHO: CommandSet = {
  commandField: COMMAND.C_ECHO_RQ,
  messageId: 1,
  affectedSopClassUid: VERIFICATION,
  hasData: false,
};

/** An SCP that keeps what is stored. */
async function archive() {
  const stored: Buffer[] = [];
  const scp = await startScp(async (association) => {
    for await (const message of association.messages()) {
      if (message.command.commandField === COMMAND.C_STORE_RQ) stored.push(await message.whole(1e8));
      await association.respond(message, { status: 0 });
    }
  });
  return { ...scp, stored };
}

async function associated(port: number, changes: Parameters<typeof associateRq>[0] = {}): Promise<Parrot> {
  const parrot = await parrotTo(port);
  parrot.say(associateRq(changes));
  const ac = await parrot.hearNext();
  assert.equal(ac?.type, PDU.ASSOCIATE_AC);
  return parrot;
}

async function hearCommand(parrot: Parrot): Promise<CommandSet> {
  const pdu = await parrot.hearNext();
  assert.ok(pdu?.type === PDU.P_DATA_TF, `a command, not ${JSON.stringify(pdu)}`);
  return decodeCommand(pdu.pdvs[0]!.data);
}

test('command and data in one PDU, several PDVs in a P-DATA-TF, several messages in one PDU', async () => {
  const { acceptor, port, stored } = await archive();
  const parrot = await associated(port);
  const data = pattern(5000);
  const rq: CommandSet = { ...STORE, messageId: 1, hasData: true };
  parrot.say(
    pData(
      commandPdv(3, rq),
      dataPdv(3, data.subarray(0, 1000), false),
      dataPdv(3, Buffer.alloc(0), false),
      dataPdv(3, data.subarray(1000, 1001), false),
      dataPdv(3, data.subarray(1001)),
      commandPdv(1, { ...ECHO, messageId: 2 }),
      commandPdv(3, { ...rq, messageId: 3 }),
      dataPdv(3, data),
    ),
  );
  for (const id of [1, 2, 3]) assert.equal((await hearCommand(parrot)).messageIdBeingRespondedTo, id);
  assert.equal(stored.length, 2);
  assert.ok(stored.every((bytes) => bytes.equals(data)));
  parrot.say({ type: PDU.RELEASE_RQ });
  assert.equal((await parrot.hearNext())?.type, PDU.RELEASE_RP);
  parrot.close();
  await acceptor.close(1000);
});

test('bytes one at a time, and PDVs of one byte', async () => {
  const { acceptor, port, stored } = await archive();
  const parrot = await parrotTo(port);
  const data = pattern(64);
  const drip = async (...pdus: Pdu[]) => {
    for (const byte of Buffer.concat(pdus.map(encodePdu))) {
      await new Promise((resolve) => parrot.socket.write(Buffer.from([byte]), resolve));
    }
  };
  await drip(associateRq());
  assert.equal((await parrot.hearNext())?.type, PDU.ASSOCIATE_AC);
  await drip(pData(commandPdv(3, { ...STORE, messageId: 1, hasData: true })));
  for (let n = 0; n < data.length; n++) await drip(pData(dataPdv(3, data.subarray(n, n + 1), n === data.length - 1)));
  assert.equal((await hearCommand(parrot)).status, 0);
  assert.ok(stored[0]!.equals(data));
  parrot.close();
  await acceptor.close(1000);
});

test('data sets interleaved on two contexts: both are whole', async () => {
  const { acceptor, port, stored } = await archive();
  const contexts = [1, 3].map((id) => ({ id, abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }));
  const parrot = await associated(port, { contexts });
  const [one, two] = [pattern(200_000, 1), pattern(200_000, 2)];
  parrot.say(
    pData(commandPdv(1, { ...STORE, messageId: 1, hasData: true })),
    pData(commandPdv(3, { ...STORE, messageId: 2, hasData: true })),
  );
  for (let at = 0; at < one.length; at += 10_000) {
    const last = at + 10_000 === one.length;
    parrot.say(pData(dataPdv(3, two.subarray(at, at + 10_000), last), dataPdv(1, one.subarray(at, at + 10_000), last)));
  }
  assert.equal((await hearCommand(parrot)).messageIdBeingRespondedTo, 1);
  assert.equal((await hearCommand(parrot)).messageIdBeingRespondedTo, 2);
  assert.ok(stored[0]!.equals(one) && stored[1]!.equals(two));
  parrot.close();
  await acceptor.close(1000);
});

test('interleaving beyond what we keep: a clear abort, not a deadlock', async () => {
  const scp = await startScp(
    async (association) => {
      for await (const message of association.messages()) await message.whole(1e9);
    },
    { limits: { interleavedBytesMax: 300_000, receiveQueueBytes: 65536 } },
  );
  const contexts = [1, 3].map((id) => ({ id, abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }));
  const parrot = await associated(scp.port, { contexts });
  parrot.say(
    pData(commandPdv(1, { ...STORE, messageId: 1, hasData: true })),
    pData(commandPdv(3, { ...STORE, messageId: 2, hasData: true })),
  );
  for (let n = 0; n < 40; n++) parrot.say(pData(dataPdv(3, Buffer.alloc(10_000), false)));
  assert.deepEqual(await parrot.hearNext(), { type: PDU.ABORT, source: 0, reason: 0 });
  const reason = await scp.nextClosed();
  assert.equal(reason.kind, 'protocol-error');
  assert.equal(reason.limit, 'interleavedBytesMax');
  parrot.close();
  await scp.acceptor.close(1000);
});

test('close without release, before and after the association: no error, nothing left', async () => {
  const scp = await startScp();
  (await parrotTo(scp.port)).close();
  assert.equal((await scp.nextClosed()).kind, 'connection-lost');
  const parrot = await associated(scp.port);
  parrot.say(pData(commandPdv(1, ECHO)));
  assert.equal((await hearCommand(parrot)).status, 0);
  parrot.close();
  assert.equal((await scp.nextClosed()).kind, 'connection-lost');
  assert.equal(scp.acceptor.associations.size, 0);
  assert.deepEqual(scp.errors, []);
  await scp.acceptor.close(1000);
});

test('close in the middle of a data set: whoever reads it is told', async () => {
  let failed: unknown;
  const scp = await startScp(async (association) => {
    for await (const message of association.messages())
      await message.whole(1e9).catch((error: unknown) => (failed = error));
  });
  const parrot = await associated(scp.port);
  parrot.say(pData(commandPdv(3, { ...STORE, messageId: 1, hasData: true }), dataPdv(3, Buffer.alloc(100), false)));
  parrot.socket.end();
  assert.equal((await scp.nextClosed()).kind, 'connection-lost');
  await scp.acceptor.close(1000);
  assert.match(String(failed), /closed the connection/);
});

test('release while requests are still being served: they are answered first', async () => {
  const scp = await startScp();
  const parrot = await associated(scp.port);
  const one = pData(commandPdv(3, { ...STORE, messageId: 1, hasData: true }), dataPdv(3, pattern(1000)));
  parrot.say(one, pData(commandPdv(1, { ...ECHO, messageId: 2 })), { type: PDU.RELEASE_RQ });
  assert.equal((await hearCommand(parrot)).messageIdBeingRespondedTo, 1);
  assert.equal((await hearCommand(parrot)).messageIdBeingRespondedTo, 2);
  assert.equal((await parrot.hearNext())?.type, PDU.RELEASE_RP);
  parrot.close();
  assert.equal((await scp.nextClosed()).kind, 'released');
  await scp.acceptor.close(1000);
});

test('refusals before any policy: protocol version 1/2/2, application context 1/1/2', async () => {
  const scp = await startScp();
  for (const [changes, { result, source, reason }] of [
    [{ protocolVersion: 2 }, REJECT.protocolVersion],
    [{ applicationContext: '1.2.3' }, REJECT.applicationContext],
  ] as const) {
    const parrot = await parrotTo(scp.port);
    parrot.say(associateRq(changes));
    assert.deepEqual(await parrot.hearNext(), { type: PDU.ASSOCIATE_RJ, result, source, reason });
    assert.equal((await scp.nextClosed()).kind, 'rejected');
    parrot.close();
  }
  // Version bits beyond the first are not tested (PS3.8 §9.3.2).
  const parrot = await associated(scp.port, { protocolVersion: 3 });
  parrot.close();
  await scp.acceptor.close(1000);
});

test('the policy refuses: called 1/1/7, calling 1/1/3, local limit 2/3/2; it throws: 2/3/1', async () => {
  const answers = [REJECT.calledAeTitle, REJECT.callingAeTitle, REJECT.localLimitExceeded];
  const scp = await startScp(undefined, {
    onRequest: async () => {
      const answer = answers.shift();
      if (answer === undefined) throw new Error('the directory of peers is away');
      return answer;
    },
  });
  for (const triple of ['1/1/7', '1/1/3', '2/3/2', '2/3/1']) {
    const parrot = await parrotTo(scp.port);
    parrot.say(associateRq());
    const rj = await parrot.hearNext();
    assert.ok(rj?.type === PDU.ASSOCIATE_RJ);
    assert.equal(`${rj.result}/${rj.source}/${rj.reason}`, triple);
    parrot.close();
  }
  assert.equal(scp.errors.length, 1);
  await scp.acceptor.close(1000);
});

test('the answer: titles as received, async window 1,1 only to who asked, our maximum', async () => {
  const scp = await startScp(undefined, { limits: { pduLengthMax: 65536 } });
  const titles = Buffer.alloc(64);
  titles.write('SCP\0\0\0\0', 0, 'latin1');
  titles.write('  modality      ', 16, 'latin1');
  titles.fill(0x5a, 32);
  const user = { maxPduLength: 0, roles: [], extended: [], commonExtended: [] };
  for (const asyncOperations of [undefined, { invoked: 0, performed: 0 }]) {
    const parrot = await parrotTo(scp.port);
    parrot.say(associateRq({ titles, user: { ...user, asyncOperations } }));
    const ac = await parrot.hearNext();
    assert.ok(ac?.type === PDU.ASSOCIATE_AC);
    assert.deepEqual(ac.titles, titles);
    assert.deepEqual(ac.user.asyncOperations, asyncOperations && { invoked: 1, performed: 1 });
    assert.equal(ac.user.maxPduLength, 65536);
    assert.equal([...scp.acceptor.associations].at(-1)?.callingAeTitle, 'modality');
    parrot.close();
    await scp.nextClosed();
  }
  await scp.acceptor.close(1000);
});

for (const peerMax of [8, 128, 4096, 0]) {
  test(`a peer with a maximum length of ${peerMax}: what we send fits, and is whole`, async () => {
    const sent = pattern(3001);
    const scp = await startScp(async (association) => {
      for await (const message of association.messages()) await association.respond(message, { status: 0xff00 }, sent);
    });
    const parrot = await associated(scp.port, {
      user: { maxPduLength: peerMax, roles: [], extended: [], commonExtended: [] },
    });
    parrot.say(pData(commandPdv(1, ECHO)));
    const data: Buffer[] = [];
    for (let last = false; !last; ) {
      const pdu = await parrot.hearNext();
      assert.ok(pdu?.type === PDU.P_DATA_TF);
      if (peerMax > 0) assert.ok(encodePdu(pdu).length - 6 <= peerMax);
      for (const pdv of pdu.pdvs) {
        if (!pdv.command) data.push(pdv.data);
        last = !pdv.command && pdv.last;
      }
    }
    assert.ok(Buffer.concat(data).equals(sent));
    parrot.close();
    await scp.acceptor.close(1000);
  });
}

test('a maximum length that fits nothing is a protocol error, not a loop', async () => {
  const scp = await startScp();
  const parrot = await parrotTo(scp.port);
  parrot.say(associateRq({ user: { maxPduLength: 7, roles: [], extended: [], commonExtended: [] } }));
  assert.equal((await parrot.hearNext())?.type, PDU.ABORT);
  assert.equal((await scp.nextClosed()).kind, 'protocol-error');
  parrot.close();
  await scp.acceptor.close(1000);
});

const garbage: [string, Buffer, { source: number; reason: number }][] = [
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), { source: 0, reason: 0 }],
  ['a P-DATA-TF before the A-ASSOCIATE-RQ', encodePdu(pData(commandPdv(1, ECHO))), { source: 0, reason: 0 }],
  ['a header of 4 GB', Buffer.from('0100ffffffff', 'hex'), { source: 0, reason: 0 }],
];
for (const [name, bytes, { source, reason }] of garbage) {
  test(`${name} as the first bytes: A-ABORT ${source}/${reason} (AA-1)`, async () => {
    const scp = await startScp();
    const parrot = await parrotTo(scp.port);
    parrot.say(bytes);
    assert.deepEqual(await parrot.hearNext(), { type: PDU.ABORT, source, reason });
    assert.equal((await scp.nextClosed()).kind, 'protocol-error');
    parrot.close();
    await scp.acceptor.close(1000);
  });
}

const wicked: [string, Buffer, number, number][] = [
  ['an unknown PDU type', Buffer.from('2a0000000000', 'hex'), 2, ABORT.unrecognizedPdu],
  ['a second A-ASSOCIATE-RQ', encodePdu(associateRq()), 2, ABORT.unexpectedPdu],
  ['an A-RELEASE-RP that nobody asked for', encodePdu({ type: PDU.RELEASE_RP }), 2, ABORT.unexpectedPdu],
  ['a P-DATA-TF of 4 GB', Buffer.from('0400ffffffff', 'hex'), 2, ABORT.invalidParameterValue],
  [
    'a PDV longer than its PDU',
    Buffer.from('040000000006' + '00000100' + '0103', 'hex'),
    2,
    ABORT.invalidParameterValue,
  ],
  ['a PDV of one byte', Buffer.from('040000000006' + '00000001' + '0103', 'hex'), 2, ABORT.invalidParameterValue],
  ['a context that was not accepted', encodePdu(pData(commandPdv(99, ECHO))), 0, 0],
  ['a data set without a command', encodePdu(pData(dataPdv(1, 'xx'))), 0, 0],
  [
    'a command set of garbage',
    encodePdu(pData({ contextId: 1, command: true, last: true, data: Buffer.from('zzzzzzzzzzzz') })),
    0,
    0,
  ],
  [
    'a response to nothing',
    encodePdu(pData(commandPdv(1, { commandField: 0x8030, messageIdBeingRespondedTo: 4, status: 0, hasData: false }))),
    0,
    0,
  ],
];
for (const [name, bytes, source, reason] of wicked) {
  test(`${name}: A-ABORT ${source}/${reason}, a well-behaved neighbour notices nothing`, async () => {
    const scp = await startScp();
    const neighbour = await connect(toScp(scp.port));
    const parrot = await associated(scp.port);
    parrot.say(bytes);
    assert.deepEqual(await parrot.hearNext(), { type: PDU.ABORT, source, reason });
    const closed = await scp.nextClosed();
    assert.equal(closed.kind, 'protocol-error');
    assert.deepEqual([closed.source, closed.reason], [source, reason]);
    assert.equal((await echo(neighbour)).status, 0);
    await neighbour.release();
    parrot.close();
    await scp.acceptor.close(1000);
    assert.deepEqual(scp.errors, []);
  });
}

test('a peer aborts: its source and reason are told', async () => {
  const scp = await startScp();
  const parrot = await associated(scp.port);
  parrot.say({ type: PDU.ABORT, source: 2, reason: 6 });
  const { kind, source, reason } = await scp.nextClosed();
  assert.deepEqual({ kind, source, reason }, { kind: 'aborted-by-peer', source: 2, reason: 6 });
  await parrot.closed();
  await scp.acceptor.close(1000);
});

// --- scripted SCPs

const ac = (changes: object = {}): Pdu => ({
  type: PDU.ASSOCIATE_AC,
  protocolVersion: 1,
  calledAeTitle: 'SCP',
  callingAeTitle: 'SCU',
  applicationContext: APPLICATION_CONTEXT,
  contexts: CONTEXTS.map((_, n) => ({ id: 2 * n + 1, result: 0, transferSyntax: EXPLICIT })),
  user: { maxPduLength: 16384, roles: [], extended: [], commonExtended: [] },
  ...changes,
});

test('an SCP that rejects, aborts, hangs up or is no SCP', async () => {
  const says: (Pdu | Buffer | undefined)[] = [
    { type: PDU.ASSOCIATE_RJ, result: 1, source: 1, reason: 7 },
    { type: PDU.ABORT, source: 2, reason: 1 },
    undefined,
    Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'),
  ];
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    const what = says.shift();
    if (what === undefined) parrot.close();
    else parrot.say(what);
  });
  for (const code of ['rejected', 'aborted-by-peer', 'connection-lost', 'protocol-error']) {
    await assert.rejects(connect(toScp(server.port)), (error: unknown) => {
      assert.equal((error as { code: string }).code, code, String(error));
      return true;
    });
  }
  server.close();
  await assert.rejects(connect(toScp(1)), { code: 'connect-failed' });
});

test('an SCP that accepts what was not proposed: those contexts do not exist', async () => {
  const contexts = [
    { id: 1, result: 0, transferSyntax: '1.2.840.10008.1.2.4.50' },
    { id: 3, result: 3, transferSyntax: '' },
    { id: 5, result: 0, transferSyntax: `${IMPLICIT}\0` },
    { id: 77, result: 0, transferSyntax: IMPLICIT },
  ];
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac({ contexts }));
  });
  const association = await connect(toScp(server.port));
  assert.deepEqual([...association.contexts.keys()], [5]);
  await assert.rejects(echo(association), { code: 'no-context' });
  association.abort();
  server.close();
});

test('release collision: the requestor answers the acceptor’s A-RELEASE-RQ and both end (AR-8, AR-9, AR-3)', async () => {
  const said: string[] = [];
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac());
    assert.equal((await parrot.hearNext())?.type, PDU.RELEASE_RQ);
    parrot.say({ type: PDU.RELEASE_RQ });
    assert.equal((await parrot.hearNext())?.type, PDU.RELEASE_RP);
    said.push('collision answered');
    parrot.say({ type: PDU.RELEASE_RP });
  });
  const association = await connect(toScp(server.port));
  await association.release();
  assert.equal((await association.closed).kind, 'released');
  assert.deepEqual(said, ['collision answered']);
  server.close();
});

test('an SCP that closes instead of answering the release: the release is over all the same', async () => {
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac());
    await parrot.hearNext();
    parrot.close();
  });
  const association = await connect(toScp(server.port));
  await association.release();
  assert.equal((await association.closed).kind, 'connection-lost');
  server.close();
});

test('a response with the wrong message id is not taken for an acknowledgement', async () => {
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac());
    await parrot.hearNext();
    parrot.say(
      pData(commandPdv(3, { commandField: 0x8001, messageIdBeingRespondedTo: 4711, status: 0, hasData: false })),
    );
  });
  const association = await connect(toScp(server.port));
  const request = { contextId: 3, sopClassUid: CT, sopInstanceUid: '1.2', data: pattern(10) };
  await assert.rejects(store(association, request), { code: 'protocol-error' });
  server.close();
});

test('a thousand responses in one breath, to somebody who waits and to somebody who has left', async () => {
  const pending = { commandField: COMMAND.C_FIND_RSP, status: 0xff00, hasData: true };
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac());
    for (;;) {
      const pdu = await parrot.hearNext();
      if (pdu?.type !== PDU.P_DATA_TF) return;
      if (!pdu.pdvs[0]!.command) continue;
      const { commandField, messageId } = decodeCommand(pdu.pdvs[0]!.data);
      if (commandField !== COMMAND.C_FIND_RQ) continue;
      const one = pData(commandPdv(5, { ...pending, messageIdBeingRespondedTo: messageId }), dataPdv(5, 'xx'));
      const final = { ...pending, messageIdBeingRespondedTo: messageId, status: 0, hasData: false };
      parrot.say(...Array.from({ length: 1000 }, () => one), pData(commandPdv(5, final)));
    }
  });
  const association = await connect(toScp(server.port));
  let matches = 0;
  for await (const { status } of find(association, FIND, Buffer.from('xx'))) if (status === 0xff00) matches++;
  assert.equal(matches, 1000);
  for await (const { status } of find(association, FIND, Buffer.from('xx'))) if (status === 0xff00) break;
  assert.equal((await find(association, FIND, Buffer.from('xx')).next()).value?.status, 0xff00);
  association.abort();
  server.close();
});

test('an SCP that answers before the data set is through, and then aborts', async () => {
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac());
    await parrot.hearNext();
    parrot.say(
      pData(commandPdv(3, { commandField: 0x8001, messageIdBeingRespondedTo: 1, status: 0xa700, hasData: false })),
    );
    parrot.say({ type: PDU.ABORT, source: 0, reason: 0 });
  });
  const association: Association = await connect(toScp(server.port));
  const request = { contextId: 3, sopClassUid: CT, sopInstanceUid: '1.2', data: pattern(30_000_000) };
  await assert.rejects(store(association, request), { code: 'aborted-by-peer' });
  server.close();
});

test('a policy that grants SCP to nobody: role selection does not leak', async () => {
  const scp = await startScp(undefined, {
    onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
  });
  const association = await connect(toScp(scp.port, { roles: [{ sopClassUid: CT, scu: true, scp: true }] }));
  const context = association.findContext(CT)!;
  assert.deepEqual([context.requestorScu, context.requestorScp], [true, false]);
  assert.equal(association.findContext(CT, undefined, 'scp'), undefined);
  const theirs = [...scp.acceptor.associations][0]!;
  assert.equal(theirs.findContext(CT, undefined, 'scu'), undefined);
  assert.equal(theirs.findContext(CT, undefined, 'scp')?.id, context.id);
  await association.release();
  await scp.acceptor.close(1000);
});

test('an unsorted command set without group length, with padded UIDs, is served', async () => {
  const { acceptor, port, stored } = await archive();
  const parrot = await associated(port);
  const encoded = encodeCommand({ ...STORE, messageId: 1, hasData: true });
  const elements: Buffer[] = [];
  for (let at = 12; at < encoded.length; ) {
    const end = at + 8 + encoded.readUInt32LE(at + 4);
    elements.unshift(encoded.subarray(at, end));
    at = end;
  }
  const data = { contextId: 3, command: true, last: true, data: Buffer.concat(elements) };
  parrot.say(pData(data, dataPdv(3, pattern(10))));
  assert.equal((await hearCommand(parrot)).status, 0);
  assert.equal(stored.length, 1);
  parrot.close();
  await acceptor.close(1000);
});
