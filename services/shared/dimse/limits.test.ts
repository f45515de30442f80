/** Every row of LIMITS is driven to what it promises; a limit without a case here fails the last test. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { COMMAND, type CommandSet } from './command.ts';
import { LIMITS, type Limits, withDefaults } from './limits.ts';
import { negotiate } from './negotiate.ts';
import {
  associateRq,
  CT,
  commandPdv,
  dataPdv,
  FIND,
  type Parrot,
  parrotServer,
  parrotTo,
  pData,
  VERIFICATION,
} from './parrot.fixture.ts';
import { APPLICATION_CONTEXT, encodePdu, PDU, type Pdu } from './pdu.ts';
import { connect } from './requestor.ts';
import { pattern, STORE, startScp, toScp } from './scp.fixture.ts';
import { echo, find, store } from './scu.ts';
import type { Association } from './types.ts';
import { UpperLayer } from './upper-layer.ts';
import { MessageWriter } from './writer.ts';

const driven = new Set<keyof Limits>();
function limit(name: keyof Limits, what: string, run: () => Promise<void> | void): void {
  driven.add(name);
  test(`${name}: ${what}`, run);
}

const ECHO: CommandSet = {
  commandField: COMMAND.C_ECHO_RQ,
  messageId: 1,
  affectedSopClassUid: VERIFICATION,
  hasData: false,
};
const storeRq = (messageId: number) => commandPdv(3, { ...STORE, messageId, hasData: true });
const ABORT_TIMEOUT = { type: PDU.ABORT, source: 2, reason: 0 };

async function associated(port: number): Promise<Parrot> {
  const parrot = await parrotTo(port);
  parrot.say(associateRq());
  assert.equal((await parrot.hearNext())?.type, PDU.ASSOCIATE_AC);
  return parrot;
}

/** Reads data sets to their end; what ends the association ends this too. */
async function readAll(association: Association): Promise<void> {
  for await (const message of association.messages()) {
    for (let part = await message.data?.take(); part !== undefined; part = await message.data?.take());
    await association.respond(message, { status: 0 });
  }
}

/** Never reads a thing until told to. */
function lazy() {
  let start!: () => void;
  const started = new Promise<void>((resolve) => {
    start = resolve;
  });
  const serve = async (association: Association) => {
    await started;
    await readAll(association);
  };
  return { serve, start: () => start() };
}

/** Keeps writing until the socket takes no more: how many bytes the other side let us send. */
async function fillUp(parrot: Parrot, pdu: Buffer, most: number): Promise<number> {
  let sent = 0;
  while (sent < most) {
    parrot.socket.write(pdu);
    sent += pdu.length;
    if (parrot.socket.writableLength < 4 * pdu.length) continue;
    // Full for now. Full for good is: nothing drained in many turns of the loop in which the other side could have read.
    let turns = 0;
    const before = parrot.socket.writableLength;
    while (parrot.socket.writableLength === before && turns++ < 300)
      await new Promise((resolve) => setImmediate(resolve));
    if (parrot.socket.writableLength === before) return sent - before;
  }
  return sent;
}

limit('pduLengthMax', 'is what we offer, as acceptor and as requestor', async () => {
  const scp = await startScp(readAll, { limits: { pduLengthMax: 4096 } });
  const association = await connect(toScp(scp.port, { limits: { pduLengthMax: 5000 } }));
  assert.equal(association.ac.user.maxPduLength, 4096);
  assert.equal([...scp.acceptor.associations][0]!.rq.user.maxPduLength, 5000);
  await association.release();
  // A decision may offer one peer less.
  const { acceptor } = await startScp(readAll, {
    onRequest: (rq) => ({
      ...negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
      pduLengthMax: 2048,
    }),
  });
  const other = await connect(toScp(acceptor.port));
  assert.equal(other.ac.user.maxPduLength, 2048);
  await other.release();
});

limit('pduLengthSent', 'holds when the peer would take any length', async () => {
  const scp = await startScp(
    async (association) => {
      for await (const message of association.messages())
        await association.respond(message, { status: 0xff00 }, pattern(1000));
    },
    { limits: { pduLengthSent: 200 } },
  );
  const parrot = await parrotTo(scp.port);
  parrot.say(associateRq({ user: { maxPduLength: 0, roles: [], extended: [], commonExtended: [] } }));
  await parrot.hearNext();
  parrot.say(pData(commandPdv(1, ECHO)));
  for (let last = false; !last; ) {
    const pdu = await parrot.hearNext();
    assert.ok(pdu?.type === PDU.P_DATA_TF && encodePdu(pdu).length <= 206);
    last = pdu.pdvs.some((pdv) => !pdv.command && pdv.last);
  }
  parrot.close();
});

for (const [name, bytes] of [
  ['pduLengthReceived', '0400' + '00010001'],
  ['controlPduLengthMax', '0500' + '00010001'],
] as const) {
  limit(name, 'a longer PDU is refused by its header', async () => {
    const scp = await startScp(readAll, { limits: { [name]: 65536 } });
    const parrot = await associated(scp.port);
    parrot.say(Buffer.from(bytes, 'hex'));
    assert.deepEqual(await parrot.hearNext(), { type: PDU.ABORT, source: 2, reason: 6 });
    assert.equal((await scp.nextClosed()).limit, name);
    parrot.close();
  });
}

limit('commandLengthMax', 'a longer command set is refused while it arrives', async () => {
  const scp = await startScp(readAll, { limits: { commandLengthMax: 1024 } });
  const parrot = await associated(scp.port);
  for (let n = 0; n < 11; n++) parrot.say(pData({ contextId: 1, command: true, last: false, data: Buffer.alloc(100) }));
  assert.deepEqual(await parrot.hearNext(), { type: PDU.ABORT, source: 0, reason: 0 });
  assert.equal((await scp.nextClosed()).limit, 'commandLengthMax');
  parrot.close();
});

limit('receiveQueueBytes', 'what is not pulled stops the sender’s socket, and pulling lets it go on', async () => {
  const { serve, start } = lazy();
  const scp = await startScp(serve, { limits: { receiveQueueBytes: 65536 } });
  const parrot = await associated(scp.port);
  parrot.say(pData(storeRq(1)));
  const fragment = encodePdu(pData(dataPdv(3, Buffer.alloc(65536), false)));
  const most = 64 * 1024 * 1024;
  const sent = await fillUp(parrot, fragment, most);
  assert.ok(sent < most, 'the kernel’s buffers on both sides, and no more');
  const ours = [...scp.acceptor.associations][0]!;
  assert.ok(ours.counters.bytesReceived < 65536 * 4, `${ours.counters.bytesReceived} bytes were read`);
  start();
  if (parrot.socket.writableNeedDrain) await once(parrot.socket, 'drain');
  parrot.say(pData(dataPdv(3, Buffer.alloc(2))));
  assert.equal((await parrot.hearNext())?.type, PDU.P_DATA_TF);
  parrot.close();
});

limit('queuedMessagesMax', 'requests sent ahead stop the sender, and are all answered in the end', async () => {
  const { serve, start } = lazy();
  const scp = await startScp(serve, { limits: { queuedMessagesMax: 4 } });
  const parrot = await associated(scp.port);
  const many = encodePdu(pData(...Array.from({ length: 100 }, () => commandPdv(1, ECHO))));
  for (let n = 0; n < 200; n++) parrot.socket.write(many);
  // The first turn that finds it paused: at most what one read of the socket held was taken.
  const ours = [...scp.acceptor.associations][0]!;
  while (ours.counters.messagesReceived <= 4) await new Promise((resolve) => setImmediate(resolve));
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(ours.counters.messagesReceived < 5000, `${ours.counters.messagesReceived} commands were read`);
  start();
  for (let n = 0; n < 20_000; n++) assert.equal((await parrot.hearNext())?.type, PDU.P_DATA_TF);
  parrot.close();
});

limit(
  'interleavedBytesMax',
  'data of a request that waits for its turn, before the response that we wait for',
  async () => {
    const scp = await startScp(
      async (association) => {
        for await (const message of association.messages()) {
          await message.data?.discard();
          const context = association.findContext(CT)!;
          await store(association, {
            contextId: context.id,
            sopClassUid: CT,
            sopInstanceUid: '1.2',
            data: pattern(100),
          });
        }
      },
      { limits: { interleavedBytesMax: 65536 * 2, receiveQueueBytes: 65536 } },
    );
    const parrot = await associated(scp.port);
    parrot.say(
      pData(
        commandPdv(5, { commandField: COMMAND.C_FIND_RQ, messageId: 1, affectedSopClassUid: FIND, hasData: true }),
        dataPdv(5, 'xx'),
      ),
    );
    assert.equal((await parrot.hearNext())?.type, PDU.P_DATA_TF);
    parrot.say(pData(storeRq(2)));
    for (let n = 0; n < 10; n++) parrot.say(pData(dataPdv(3, Buffer.alloc(60_000), false)));
    assert.equal((await scp.nextClosed()).limit, 'interleavedBytesMax');
    parrot.close();
  },
);

limit('lingerBytes', 'who goes on sending after our A-ABORT is reset', async () => {
  const scp = await startScp(readAll, { limits: { lingerBytes: 100_000 } });
  const parrot = await associated(scp.port);
  parrot.say(pData(dataPdv(3, 'x')));
  assert.equal((await parrot.hearNext())?.type, PDU.ABORT);
  while (!parrot.isClosed) {
    parrot.socket.write(Buffer.alloc(50_000));
    await new Promise((resolve) => setImmediate(resolve));
  }
});

limit('artimMs', 'silence after the connection, or after our rejection, closes it', async () => {
  const scp = await startScp(readAll, { limits: { artimMs: 100 } });
  const silent = await parrotTo(scp.port);
  await silent.closed();
  assert.equal((await scp.nextClosed()).limit, 'artimMs');
  const rejected = await parrotTo(scp.port);
  rejected.say(associateRq({ protocolVersion: 2 }));
  assert.equal((await rejected.hearNext())?.type, PDU.ASSOCIATE_RJ);
  await rejected.closed();
  while (scp.acceptor.unnegotiated > 0) await new Promise((resolve) => setImmediate(resolve));
});

const ac: Pdu = {
  type: PDU.ASSOCIATE_AC,
  protocolVersion: 1,
  calledAeTitle: 'SCP',
  callingAeTitle: 'SCU',
  applicationContext: APPLICATION_CONTEXT,
  contexts: [1, 3, 5].map((id) => ({ id, result: 0, transferSyntax: '1.2.840.10008.1.2.1' })),
  user: { maxPduLength: 16384, roles: [], extended: [], commonExtended: [] },
};

limit('acceptTimeoutMs', 'an SCP that says nothing', async () => {
  const server = await parrotServer(async () => {});
  await assert.rejects(connect(toScp(server.port, { limits: { acceptTimeoutMs: 100 } })), {
    code: 'timeout',
    closeReason: { kind: 'timeout', limit: 'acceptTimeoutMs', detail: 'no association within 100 ms' },
  });
  server.close();
});

limit('releaseTimeoutMs', 'an SCP that does not answer the release gets an A-ABORT', async () => {
  let heard: Pdu | undefined;
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac);
    await parrot.hearNext();
    heard = await parrot.hearNext();
    parrot.close();
  });
  const association = await connect(toScp(server.port, { limits: { releaseTimeoutMs: 100 } }));
  await association.release();
  assert.equal((await association.closed).limit, 'releaseTimeoutMs');
  while (heard === undefined) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(heard, ABORT_TIMEOUT);
  server.close();
});

/** `bytes` one by one, each after a while, for as long as the other side listens. */
async function drip(parrot: Parrot, next: () => Buffer): Promise<void> {
  while (!parrot.isClosed && parrot.heard.length === 0) {
    parrot.socket.write(next());
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

limit('pduTimeoutMs', 'a byte at a time is cut off, before and after the A-ASSOCIATE-RQ', async () => {
  const scp = await startScp(readAll, { limits: { pduTimeoutMs: 100 } });
  const slow = await parrotTo(scp.port);
  const rq = encodePdu(associateRq());
  let at = 0;
  await drip(slow, () => rq.subarray(at, ++at));
  assert.equal((await slow.hearNext())?.type, PDU.ABORT);
  assert.equal((await scp.nextClosed()).limit, 'pduTimeoutMs');
  slow.close();
  const parrot = await associated(scp.port);
  parrot.say(pData(storeRq(1)), Buffer.from('0400' + '00010000' + '0000fffc' + '0300', 'hex'));
  await drip(parrot, () => Buffer.from([0]));
  assert.deepEqual(await parrot.hearNext(), ABORT_TIMEOUT);
  assert.equal((await scp.nextClosed()).limit, 'pduTimeoutMs');
  parrot.close();
});

test('pduTimeoutMs: a long PDU may take long while it moves', async () => {
  const scp = await startScp(readAll, { limits: { pduTimeoutMs: 150, messageTimeoutMs: 150, progressBytes: 10_000 } });
  const parrot = await associated(scp.port);
  parrot.say(pData(storeRq(1)));
  const pdu = encodePdu(pData(dataPdv(3, Buffer.alloc(400_000))));
  for (let at = 0; at < pdu.length; at += 20_000) {
    parrot.socket.write(pdu.subarray(at, at + 20_000));
    await new Promise((resolve) => setTimeout(resolve, 20)); // 400 ms in all
  }
  assert.equal((await parrot.hearNext())?.type, PDU.P_DATA_TF);
  parrot.close();
});

test('pduTimeoutMs, messageTimeoutMs: our own slowness is not held against the peer, its silence afterwards is', async () => {
  const { serve, start } = lazy();
  const scp = await startScp(serve, {
    limits: { pduTimeoutMs: 100, messageTimeoutMs: 100, receiveQueueBytes: 65536 },
  });
  const parrot = await associated(scp.port);
  parrot.say(pData(storeRq(1)));
  // A PDU whose end never comes.
  parrot.socket.write(encodePdu(pData(dataPdv(3, Buffer.alloc(8_000_000)))).subarray(0, 7_000_000));
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.equal(scp.acceptor.associations.size, 1, 'it is we who do not read');
  start();
  assert.deepEqual(await parrot.hearNext(), ABORT_TIMEOUT);
  const ended = await scp.nextClosed();
  assert.ok(ended.limit === 'pduTimeoutMs' || ended.limit === 'messageTimeoutMs');
  parrot.close();
});

limit('messageTimeoutMs', 'half a data set and then silence', async () => {
  const scp = await startScp(readAll, { limits: { messageTimeoutMs: 100 } });
  const parrot = await associated(scp.port);
  parrot.say(pData(storeRq(1), dataPdv(3, Buffer.alloc(50_000), false)));
  assert.deepEqual(await parrot.hearNext(), ABORT_TIMEOUT);
  assert.equal((await scp.nextClosed()).limit, 'messageTimeoutMs');
  parrot.close();
});

limit('progressBytes', 'PDUs of one byte are no progress', async () => {
  const scp = await startScp(readAll, { limits: { messageTimeoutMs: 200, progressBytes: 10_000 } });
  const parrot = await associated(scp.port);
  parrot.say(pData(storeRq(1)));
  await drip(parrot, () => encodePdu(pData(dataPdv(3, 'x', false))));
  assert.deepEqual(await parrot.hearNext(), ABORT_TIMEOUT);
  assert.equal((await scp.nextClosed()).limit, 'messageTimeoutMs');
  parrot.close();
});

limit('idleMs', 'an idle association is aborted, never released; one at work is not', async () => {
  let finish!: () => void;
  const scp = await startScp(
    async (association) => {
      for await (const message of association.messages()) {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        await association.respond(message, { status: 0 });
      }
    },
    { limits: { idleMs: 100 } },
  );
  const parrot = await associated(scp.port);
  parrot.say(pData(commandPdv(1, ECHO)));
  // Longer than idleMs: the request is being served.
  await new Promise((resolve) => setTimeout(resolve, 300));
  finish();
  assert.equal((await parrot.hearNext())?.type, PDU.P_DATA_TF);
  assert.deepEqual(await parrot.hearNext(), ABORT_TIMEOUT);
  assert.equal((await scp.nextClosed()).limit, 'idleMs');
  parrot.close();
});

limit('sendTimeoutMs', 'a peer that does not take our data', async () => {
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac);
    parrot.socket.pause();
  });
  const association = await connect(toScp(server.port, { limits: { sendTimeoutMs: 100 } }));
  const request = { contextId: 3, sopClassUid: CT, sopInstanceUid: '1.2', data: Buffer.alloc(64 * 1024 * 1024) };
  await assert.rejects(store(association, request), { code: 'timeout' });
  assert.equal((await association.closed).limit, 'sendTimeoutMs');
  server.close();
});

limit('responseTimeoutMs', 'a peer that does not answer', async () => {
  const server = await parrotServer(async (parrot) => {
    await parrot.hearNext();
    parrot.say(ac);
  });
  const association = await connect(toScp(server.port, { limits: { responseTimeoutMs: 100 } }));
  await assert.rejects(echo(association), { code: 'timeout' });
  assert.equal((await association.closed).limit, 'responseTimeoutMs');
  const other = await connect(toScp(server.port));
  const search = find(other, FIND, Buffer.alloc(2), { responseTimeoutMs: 100 });
  await assert.rejects(search.next(), { code: 'timeout' });
  server.close();
});

limit('sendBatchBytes', 'no write is much longer', async () => {
  const lengths: number[] = [];
  const write = async (buffers: readonly Buffer[]) => {
    lengths.push(buffers.reduce((sum, buffer) => sum + buffer.length, 0));
  };
  await new MessageWriter(write, 1000, 10_000).message(1, Buffer.alloc(100), Buffer.alloc(1_000_000));
  assert.ok(Math.max(...lengths) <= 11_024);
  assert.ok(lengths.length > 90);
});

limit('unnegotiatedMax', 'idle connections lose to newer ones, a modality gets in all the same', async () => {
  const scp = await startScp(readAll, { limits: { unnegotiatedMax: 10 } });
  const idle = await Promise.all(Array.from({ length: 40 }, () => parrotTo(scp.port)));
  const association = await connect(toScp(scp.port));
  assert.equal((await echo(association)).status, 0);
  while (scp.acceptor.unnegotiated > 10) await new Promise((resolve) => setImmediate(resolve));
  while (idle.filter((parrot) => parrot.isClosed).length < 30) await new Promise((resolve) => setImmediate(resolve));
  assert.equal((await scp.nextClosed()).limit, 'unnegotiatedMax');
  for (const parrot of idle) parrot.close();
  await association.release();
});

limit('unnegotiatedMax', 'one too many closes one, not all that wait', async () => {
  const scp = await startScp(readAll, { limits: { unnegotiatedMax: 10 } });
  const idle = await Promise.all(Array.from({ length: 11 }, () => parrotTo(scp.port)));
  await scp.nextClosed();
  const association = await connect(toScp(scp.port));
  assert.equal(scp.acceptor.unnegotiated, 10);
  for (const parrot of idle) parrot.close();
  await association.release();
});

limit('unnegotiatedMax', 'who comes shortly before others are judged has its own time', async () => {
  const scp = await startScp(readAll, { limits: { unnegotiatedMax: 10 } });
  const open = async () => {
    const began = performance.now();
    const parrot = await parrotTo(scp.port);
    return { parrot, age: parrot.closed().then(() => performance.now() - began) };
  };
  const idle = await Promise.all(Array.from({ length: 11 }, open));
  await new Promise((resolve) => setTimeout(resolve, 70));
  const late = await Promise.all(Array.from({ length: 25 }, open));
  while (scp.acceptor.unnegotiated > 10) await scp.nextClosed();
  for (const { parrot } of [...idle, ...late]) parrot.close();
  const closed = await Promise.all(idle.concat(late.slice(0, 15)).map(({ age }) => age));
  assert.ok(Math.min(...closed) >= 99, `the youngest was closed after ${Math.min(...closed)} ms`);
});

limit('unnegotiatedMax', 'who comes first in a storm is not judged before its request was read', async () => {
  const scp = await startScp(readAll, { limits: { unnegotiatedMax: 10 } });
  // All connect in one turn, and are accepted in one.
  const modality = net.connect(scp.port, '127.0.0.1');
  modality.write(encodePdu(associateRq({})));
  const storm = Array.from({ length: 30 }, () => net.connect(scp.port, '127.0.0.1').on('error', () => undefined));
  const [answer] = (await once(modality, 'data')) as [Buffer];
  assert.equal(answer[0], PDU.ASSOCIATE_AC);
  for (const socket of [modality, ...storm]) socket.destroy();
});

limit('keepAliveMs', 'is set on the socket', () => {
  const calls: unknown[] = [];
  const socket = new Duplex({ read() {}, write: (_, __, done) => done() }) as unknown as Socket;
  const record =
    (name: string) =>
    (...values: unknown[]) => {
      calls.push([name, ...values]);
      return socket;
    };
  Object.assign(socket, { setNoDelay: record('noDelay'), setKeepAlive: record('keepAlive') });
  const nobody = {
    associateIndication() {},
    associateConfirm() {},
    fragment() {},
    received() {},
    releaseIndication() {},
  };
  new UpperLayer(
    socket,
    'acceptor',
    { ...nobody, ended() {}, socketClosed() {}, failed() {} },
    withDefaults({ keepAliveMs: 5000 }),
  );
  assert.deepEqual(calls, [
    ['noDelay', true],
    ['keepAlive', true, 5000],
  ]);
});

test('every limit has a case; values outside the table are refused', () => {
  assert.deepEqual([...driven].sort(), Object.keys(LIMITS).sort());
  for (const [name, row] of Object.entries(LIMITS)) {
    assert.ok(row.min <= row.default && row.default <= row.max && row.reason.length > 10, name);
    assert.throws(() => withDefaults({ [name]: row.min - 1 }), RangeError);
    assert.throws(() => withDefaults({ [name]: row.max + 1 }), RangeError);
  }
  assert.throws(() => withDefaults({ nonsense: 1 } as Partial<Limits>), RangeError);
});
