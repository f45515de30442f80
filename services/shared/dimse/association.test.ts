import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COMMAND } from './command.ts';
import { negotiate } from './negotiate.ts';
import { CT, EXPLICIT, FIND, GET, VERIFICATION } from './parrot.fixture.ts';
import { connect } from './requestor.ts';
import { pattern, startScp, toScp } from './scp.fixture.ts';
import { echo, find, get, move, nAction, nCreate, nEventReport, nGet, nSet, store } from './scu.ts';
import { CERTIFICATE, KEY } from './tls.fixture.ts';
import type { Association } from './types.ts';

const BOTH_ROLES = { roles: [{ sopClassUid: CT, scu: true, scp: true }] };

function ctContext(association: Association): number {
  return association.findContext(CT)!.id;
}

const toStore = (association: Association, data: Parameters<Association['send']>[2]) => ({
  contextId: ctContext(association),
  sopClassUid: CT,
  sopInstanceUid: '1.2.3',
  data: data!,
});

test('echo, store, find, move, get over one association', async () => {
  const stored: Buffer[] = [];
  const { port, acceptor, nextClosed } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      switch (message.command.commandField) {
        case COMMAND.C_STORE_RQ:
          stored.push(await message.whole(1e9));
          await association.respond(message, { status: 0 });
          break;
        case COMMAND.C_FIND_RQ:
        case COMMAND.C_MOVE_RQ:
          assert.equal((await message.whole(1e6)).toString(), 'identifier');
          for (let n = 0; n < 3; n++) await association.respond(message, { status: 0xff00 }, Buffer.from([n, 0]));
          await association.respond(message, { status: 0, remainingSubOperations: 0 });
          break;
        case COMMAND.C_GET_RQ: {
          await message.whole(1e6);
          const contextId = association.findContext(CT, undefined, 'scu')!.id;
          for (let n = 0; n < 3; n++) {
            const data = pattern(1_000_000, n);
            const result = await store(association, { contextId, sopClassUid: CT, sopInstanceUid: `1.${n}`, data });
            assert.equal(result.status, n === 1 ? 0xb000 : 0);
          }
          await association.respond(message, { status: 0, completedSubOperations: 3 });
          break;
        }
        default:
          await association.respond(message, { status: 0 });
      }
    }
  });
  const association = await connect(toScp(port, BOTH_ROLES));
  assert.equal((await echo(association)).status, 0);
  const data = pattern(3_000_001);
  assert.equal(association.findContext(CT)!.transferSyntax, EXPLICIT);
  for (const source of [data, [data.subarray(0, 7), data.subarray(7)], streamOf(data, 65_537)]) {
    assert.equal((await store(association, toStore(association, source))).status, 0);
  }
  assert.ok(stored.length === 3 && stored.every((bytes) => bytes.equals(data)));
  for (const responses of [
    find(association, FIND, Buffer.from('identifier')),
    move(association, FIND, 'DEST', Buffer.from('identifier')),
  ]) {
    const seen: (number | string | undefined)[][] = [];
    for await (const { status, data } of responses) seen.push([status, data?.toString('hex')]);
    assert.deepEqual(seen, [
      [0xff00, '0000'],
      [0xff00, '0100'],
      [0xff00, '0200'],
      [0, undefined],
    ]);
  }
  const got: Buffer[] = [];
  const retrieved = get(association, GET, Buffer.from('ab'), async (incoming) => {
    got.push(await incoming.whole(1e7));
    return got.length === 2 ? 0xb000 : 0;
  });
  for await (const response of retrieved) assert.equal(response.command.completedSubOperations, 3);
  assert.deepEqual(
    got.map((bytes, n) => bytes.equals(pattern(1_000_000, n))),
    [true, true, true],
  );
  await association.release();
  assert.equal((await association.closed).kind, 'released');
  assert.equal((await nextClosed()).kind, 'released');
  assert.equal(acceptor.associations.size, 0);
});

async function* streamOf(data: Buffer, step: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += step) yield data.subarray(at, at + step);
}

test('DIMSE-N: the class and instance are named as each service wants it', async () => {
  const seen: string[] = [];
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      const { commandField, affectedSopClassUid, requestedSopClassUid, actionTypeId, eventTypeId } = message.command;
      const data = (await message.whole(100)).toString();
      seen.push(
        [commandField.toString(16), affectedSopClassUid, requestedSopClassUid, actionTypeId, eventTypeId, data].join(
          ' ',
        ),
      );
      await association.respond(message, { status: 0, affectedSopInstanceUid: '9.9' }, Buffer.from('ok'));
    }
  });
  const association = await connect(toScp(port));
  const request = { sopClassUid: FIND, sopInstanceUid: '1.2', data: Buffer.from('xx') };
  const responses = [
    await nAction(association, { ...request, actionTypeId: 1 }),
    await nEventReport(association, { ...request, eventTypeId: 2 }),
    await nCreate(association, request),
    await nSet(association, request),
    await nGet(association, { ...request, data: undefined, attributeIdentifierList: [0x00100010] }),
  ];
  for (const { status, data, command } of responses) {
    assert.deepEqual([status, data?.toString(), command.affectedSopInstanceUid], [0, 'ok', '9.9']);
  }
  assert.deepEqual(seen, [
    `130  ${FIND} 1  xx`,
    `100 ${FIND}   2 xx`,
    `140 ${FIND}    xx`,
    `120  ${FIND}   xx`,
    `110  ${FIND}   `,
  ]);
  await association.release();
});

test('C-CANCEL is seen while a C-FIND is served; the association goes on', async () => {
  let sent = 0;
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      await message.data?.discard();
      if (message.command.commandField === COMMAND.C_FIND_RQ) {
        for (sent = 0; !message.cancelSignal.aborted; sent++) {
          await association.respond(message, { status: 0xff00 }, Buffer.from('zz'));
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      await association.respond(message, { status: message.cancelSignal.aborted ? 0xfe00 : 0 });
    }
  });
  const association = await connect(toScp(port));
  // By leaving the loop …
  let matches = 0;
  for await (const response of find(association, FIND, Buffer.from('xx'))) {
    assert.equal(response.status, 0xff00);
    if (++matches === 3) break;
  }
  assert.ok(sent >= 3);
  assert.equal((await echo(association)).status, 0);
  // … and by a signal: then the final response is seen.
  const controller = new AbortController();
  let last: number | undefined;
  for await (const response of find(association, FIND, Buffer.from('xx'), { signal: controller.signal })) {
    last = response.status;
    controller.abort();
  }
  assert.equal(last, 0xfe00);
  assert.equal((await echo(association)).status, 0);
  await association.release();
});

test('C-CANCEL is seen while a C-GET sends its sub-operations', async () => {
  let stored = 0;
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      await message.data?.discard();
      const contextId = association.findContext(CT, undefined, 'scu')!.id;
      while (!message.cancelSignal.aborted) {
        await store(association, { contextId, sopClassUid: CT, sopInstanceUid: '1.2', data: pattern(100_000) });
        await association.respond(message, { status: 0xff00, completedSubOperations: ++stored });
      }
      await association.respond(message, { status: 0xfe00, completedSubOperations: stored });
    }
  });
  const association = await connect(toScp(port, BOTH_ROLES));
  const controller = new AbortController();
  let received = 0;
  let last: [number, number | undefined] | undefined;
  const onStore = async (incoming: { whole(max: number): Promise<Buffer> }) => {
    received += (await incoming.whole(1e6)).length / 100_000;
    return 0;
  };
  for await (const { status, command } of get(association, GET, Buffer.from('xx'), onStore, {
    signal: controller.signal,
  })) {
    last = [status, command.completedSubOperations];
    if (received >= 2) controller.abort();
  }
  assert.deepEqual(last, [0xfe00, stored]);
  assert.equal(received, stored);
  await association.release();
});

test('a data set that nobody reads is forgotten, one that is too long too: the association goes on', async () => {
  const codes: string[] = [];
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      if (codes.length === 0) await message.whole(1000).catch((error: { code: string }) => codes.push(error.code));
      await association.respond(message, { status: 0xa700 });
    }
  });
  const association = await connect(toScp(port));
  for (let n = 0; n < 3; n++) {
    assert.equal((await store(association, toStore(association, pattern(5_000_000)))).status, 0xa700);
  }
  assert.deepEqual(codes, ['too-large']);
  await association.release();
});

test('a source that fails before its first byte costs only its message; later, the association', async () => {
  const { port } = await startScp();
  const association = await connect(toScp(port));
  const failing = async function* (before: number) {
    yield Buffer.alloc(before);
    throw new Error('the disk is gone');
  };
  await assert.rejects(store(association, toStore(association, failing(10))), /the disk is gone/);
  assert.equal((await echo(association)).status, 0);
  await assert.rejects(store(association, toStore(association, failing(2_000_000))), /the disk is gone/);
  assert.equal((await association.closed).kind, 'aborted');
});

test('a response whose data set nobody reads does not stop the next request', async () => {
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      await association.respond(
        message,
        { status: 0 },
        message.command.commandField === COMMAND.N_GET_RQ ? pattern(3_000_000) : undefined,
      );
    }
  });
  const association = await connect(toScp(port));
  const { id } = association.findContext(FIND)!;
  await association.request(id, { commandField: COMMAND.N_GET_RQ, requestedSopClassUid: FIND });
  assert.equal((await echo(association)).status, 0);
  await association.release();
});

test('what has arrived in full can be read although the peer is gone', async () => {
  let read!: () => void;
  const gone = new Promise<void>((resolve) => {
    read = resolve;
  });
  const lengths: number[] = [];
  const codes: string[] = [];
  const { port, nextClosed } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      await gone;
      lengths.push((await message.whole(1e6)).length);
      await association.respond(message, { status: 0 }).catch((error: { code: string }) => codes.push(error.code));
    }
  });
  const association = await connect(toScp(port));
  const { id } = association.findContext(CT)!;
  await association.send(
    id,
    { commandField: COMMAND.C_STORE_RQ, messageId: 1, affectedSopClassUid: CT },
    pattern(10_000),
  );
  association.abort();
  assert.equal((await nextClosed()).kind, 'aborted-by-peer');
  read();
  while (codes.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([lengths, codes], [[10_000], ['aborted-by-peer']]);
});

test('sub-operations are signs of life while a C-GET has no response yet', async () => {
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      await message.data?.discard();
      const contextId = association.findContext(CT, undefined, 'scu')!.id;
      const until = performance.now() + 500;
      while (performance.now() < until) {
        await store(association, { contextId, sopClassUid: CT, sopInstanceUid: '1.2', data: pattern(100) });
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await association.respond(message, { status: 0 });
    }
  });
  const association = await connect(toScp(port, BOTH_ROLES));
  const responses = get(association, GET, Buffer.from('xx'), async () => 0, { responseTimeoutMs: 150 });
  assert.equal((await responses.next()).value?.status, 0);
  await association.release();
});

test('sends of several callers queue behind each other', async () => {
  const lengths: number[] = [];
  const { port } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      const data = await message.whole(1e7);
      assert.ok(data.every((byte) => byte === data[0]));
      lengths.push(data.length);
      await association.respond(message, { status: 0 });
    }
  });
  const association = await connect(toScp(port));
  const responses = await Promise.all(
    [300_000, 2, 500_000, 100].map((length, n) => store(association, toStore(association, Buffer.alloc(length, n)))),
  );
  assert.ok(responses.every(({ status }) => status === 0));
  assert.deepEqual(lengths, [300_000, 2, 500_000, 100]);
  await association.release();
});

test('a handler that throws: the association is aborted, its error is told, others live on', async () => {
  const { port, errors, nextClosed } = await startScp(async (association) => {
    for await (const message of association.messages()) {
      if (message.command.commandField === COMMAND.C_STORE_RQ) throw new Error('our own fault');
      await association.respond(message, { status: 0 });
    }
  });
  const [one, other] = [await connect(toScp(port)), await connect(toScp(port))];
  await assert.rejects(store(one, toStore(one, pattern(100))), { code: 'aborted-by-peer' });
  assert.equal((await nextClosed()).kind, 'aborted');
  assert.match(String(errors[0]), /our own fault/);
  assert.equal((await echo(other)).status, 0);
  await other.release();
});

test('shutdown: idle associations end at once, busy ones after their answer', async () => {
  let release!: () => void;
  let started!: () => void;
  const busy = new Promise<void>((resolve) => {
    started = resolve;
  });
  const scp = await startScp(async (association) => {
    for await (const message of association.messages()) {
      started();
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      await message.data?.discard();
      await association.respond(message, { status: 0 });
    }
  });
  const [idle, working] = [await connect(toScp(scp.port)), await connect(toScp(scp.port))];
  const answer = store(working, toStore(working, pattern(1000)));
  await busy;
  const closing = scp.acceptor.close(60_000);
  assert.equal((await idle.closed).kind, 'aborted-by-peer');
  release();
  assert.equal((await answer).status, 0);
  assert.equal((await working.closed).kind, 'aborted-by-peer');
  await closing;
  await assert.rejects(connect(toScp(scp.port)), { code: 'connect-failed' });
});

test('shutdown does not wait for a handler longer than it was told', async () => {
  let started!: () => void;
  const busy = new Promise<void>((resolve) => {
    started = resolve;
  });
  const scp = await startScp(async (association) => {
    for await (const _ of association.messages()) {
      started();
      await new Promise(() => undefined);
    }
  });
  const association = await connect(toScp(scp.port));
  const answer = assert.rejects(echo(association), { code: 'aborted-by-peer' });
  await busy;
  await scp.acceptor.close(100);
  await answer;
});

test('connect: cancelled by a signal', async () => {
  const { port } = await startScp(undefined, { onRequest: () => new Promise(() => undefined) });
  const controller = new AbortController();
  const connecting = connect(toScp(port, { signal: controller.signal }));
  setImmediate(() => controller.abort());
  await assert.rejects(connecting, { code: 'cancelled' });
  await assert.rejects(connect(toScp(port, { signal: controller.signal })), { code: 'cancelled' });
});

test('TLS, with the peer’s certificate known; user identity and its answer', async () => {
  const peers: unknown[] = [];
  const scp = await startScp(undefined, {
    tls: { cert: CERTIFICATE, key: KEY, ca: CERTIFICATE, requestCert: true, rejectUnauthorized: true },
    onRequest: (rq, peer) => {
      peers.push([peer.tls?.authorized, peer.tls?.subject, rq.user.userIdentity?.primary.toString()]);
      const policy = { abstractSyntax: () => true, transferSyntax: () => true };
      return { ...negotiate(rq, policy), userIdentityResponse: Buffer.from('ticket') };
    },
  });
  const tls = { ca: CERTIFICATE, cert: CERTIFICATE, key: KEY };
  const userIdentity = {
    type: 2,
    positiveResponseRequested: true,
    primary: Buffer.from('somebody'),
    secondary: Buffer.from('secret'),
  };
  const association = await connect(toScp(scp.port, { tls, userIdentity }));
  assert.equal(association.peerUser.userIdentityResponse?.toString(), 'ticket');
  assert.equal(association.peer.tls?.authorized, true);
  assert.equal((await store(association, toStore(association, pattern(2_000_000)))).status, 0);
  assert.deepEqual(peers, [[true, 'localhost', 'somebody']]);
  assert.equal(scp.acceptor.unnegotiated, 0);
  await association.release();
  // Without a certificate, and without TLS: told, and nothing stays behind.
  const nobody = await connect(toScp(scp.port, { tls: { ca: CERTIFICATE } })).catch((error: unknown) => error);
  assert.ok(nobody instanceof Error);
  await assert.rejects(connect(toScp(scp.port)));
  while (scp.acceptor.unnegotiated > 0) await new Promise((resolve) => setImmediate(resolve));
});

test('new limits hold for the associations that follow', async () => {
  const scp = await startScp();
  const before = await connect(toScp(scp.port));
  scp.acceptor.setLimits({ pduLengthMax: 8192 });
  const after = await connect(toScp(scp.port));
  assert.deepEqual([before.ac.user.maxPduLength, after.ac.user.maxPduLength], [131072, 8192]);
  await Promise.all([before.release(), after.release()]);
});

test('more than 128 contexts cannot be asked for', async () => {
  const contexts = Array.from({ length: 129 }, () => ({ abstractSyntax: VERIFICATION, transferSyntaxes: [EXPLICIT] }));
  await assert.rejects(connect(toScp(1, { contexts })), RangeError);
});
