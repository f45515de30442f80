// Odd peers and hard moments at the DIMSE door of a real process (conformance.md, "Odd peers").
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { writePart10Prefix } from '#dicom/part10.ts';
import { Tag } from '#dicom/tags.ts';
import { COMMAND, type CommandSet, decodeCommand } from '#dimse/command.ts';
import { associateRq, commandPdv, dataPdv, type Parrot, parrotTo, pData } from '#dimse/parrot.fixture.ts';
import { type AssociateRq, PDU } from '#dimse/pdu.ts';
import { connect } from '#dimse/requestor.ts';
import { echo, nAction, store } from '#dimse/scu.ts';
import type { Association, ConnectOptions } from '#dimse/types.ts';
import {
  bytesOf,
  COMMITMENT,
  COMMITMENT_INSTANCE,
  CT,
  EXPLICIT,
  got,
  IMPLICIT,
  identifier,
  instance,
  keep,
  peer,
  query,
  type Sent,
  type TestHouse,
  until,
  VERIFICATION,
} from '../../services/gateway/dimse/house.testing.ts';
import { freePort, type GantryServer, startServer } from './server.ts';

const CONTEXTS = [VERIFICATION, CT, COMMITMENT].map((abstractSyntax) => ({
  abstractSyntax,
  transferSyntaxes: [EXPLICIT],
}));
const door = (server: GantryServer): TestHouse =>
  ({
    port: server.dimsePort,
    connect: (more: Partial<ConnectOptions> = {}) =>
      connect({
        host: '127.0.0.1',
        port: server.dimsePort,
        callingAeTitle: 'MODALITY',
        calledAeTitle: 'GANTRY',
        contexts: CONTEXTS,
        ...more,
      }),
  }) as TestHouse;

const storeRq = (one: Sent, messageId = 1): CommandSet => ({
  commandField: COMMAND.C_STORE_RQ,
  messageId,
  affectedSopClassUid: one.sopClass,
  affectedSopInstanceUid: one.sop,
  priority: 0,
  hasData: true,
});
const ct = (transferSyntax = EXPLICIT) => [{ abstractSyntax: CT, transferSyntaxes: [transferSyntax] }];
const send = (association: Association, one: Sent, data: Buffer | AsyncIterable<Buffer> = bytesOf(one)) =>
  store(association, {
    contextId: association.findContext(CT)!.id,
    sopClassUid: CT,
    sopInstanceUid: one.sop,
    data,
  });

async function associated(server: GantryServer, changes: Partial<AssociateRq> = {}): Promise<Parrot> {
  const parrot = await parrotTo(server.dimsePort);
  parrot.say(associateRq({ calledAeTitle: 'GANTRY', ...changes }));
  assert.equal((await parrot.hearNext())?.type, PDU.ASSOCIATE_AC);
  return parrot;
}
async function answer(parrot: Parrot): Promise<CommandSet> {
  const pdu = await parrot.hearNext();
  assert.ok(pdu?.type === PDU.P_DATA_TF, `a response, not ${JSON.stringify(pdu)}`);
  return decodeCommand(pdu.pdvs[0]!.data);
}

/** Holds its permit: the command and the beginning of a data set, and then nothing. */
async function stalled(server: GantryServer, one: Sent): Promise<{ parrot: Parrot; finish(): void }> {
  const parrot = await associated(server);
  const data = bytesOf(one);
  parrot.say(pData(commandPdv(3, storeRq(one))), pData(dataPdv(3, data.subarray(0, 600), false)));
  return { parrot, finish: () => parrot.say(pData(dataPdv(3, data.subarray(600)))) };
}

describe('odd peers at the door', { timeout: 5 * 60_000 }, () => {
  let server: GantryServer;
  before(async () => {
    server = await startServer({
      yaml: 'ingest:\n  permitBytes: 8MiB\n  permitBytesPerSender: 8MiB\n  permitWaitMs: 200\n',
    });
  });
  after(() => server?.close());

  /** As the one who stored it: only its own queries wait for what it has just stored. */
  const roundTrip = async (one: Sent, callingAeTitle = 'MODALITY') => {
    const request = query('IMAGE', { study: one.study, series: one.series, sop: one.sop });
    const { responses, received } = await got(door(server), ct(one.transferSyntax), request, () => 0, callingAeTitle);
    assert.equal(responses.at(-1)!.status, 0);
    assert.ok(received[0]!.data.equals(bytesOf(one)), 'byte for byte');
  };

  test('Implicit VR only: kept as it came, and Explicit for who takes only that', async () => {
    const one = instance(1, { transferSyntax: IMPLICIT });
    await keep(door(server), one);
    await roundTrip(one);
    const { received } = await got(door(server), ct(EXPLICIT), query('STUDY', { study: one.study }));
    assert.equal(received[0]!.transferSyntax, EXPLICIT);
    const data = new DataSet({ buffer: received[0]!.data, transferSyntaxUid: EXPLICIT });
    assert.equal(data.string(Tag.SOPInstanceUID), one.sop);
  });

  test('several commands in one PDU, the last with its data', async () => {
    const parrot = await associated(server);
    const echoRq = (messageId: number): CommandSet => ({
      commandField: COMMAND.C_ECHO_RQ,
      messageId,
      affectedSopClassUid: VERIFICATION,
      hasData: false,
    });
    const one = instance(2);
    parrot.say(
      pData(
        commandPdv(1, echoRq(1)),
        commandPdv(1, echoRq(2)),
        commandPdv(3, storeRq(one, 3)),
        dataPdv(3, bytesOf(one)),
        commandPdv(1, echoRq(4)),
      ),
    );
    for (const messageId of [1, 2, 3, 4]) {
      const response = await answer(parrot);
      assert.deepEqual([response.messageIdBeingRespondedTo, response.status], [messageId, 0]);
    }
    parrot.close();
    await roundTrip(one, 'PARROT');
  });

  test('a large instance, beyond storage.smallLimit: byte for byte through C-GET', async () => {
    const one = instance(3, { pixelBytes: 9 * 2 ** 20 });
    await keep(door(server), one);
    await roundTrip(one);
  });

  test('a refusal in the middle of a data set leaves the association usable', async () => {
    const association = await door(server).connect();
    const good = bytesOf(instance(4, { pixelBytes: 2 ** 20 }));
    // An element that claims to be longer than what encloses it, in front of a megabyte that still comes.
    const bad = Buffer.concat([Buffer.from('08001600554900ff', 'hex'), good]);
    const text = Buffer.concat([Buffer.from('this is no data set at all: '), good]);
    assert.equal((await send(association, instance(4), bad)).status, 0xc000);
    assert.equal((await send(association, instance(4), text)).status, 0xc000);
    assert.equal((await send(association, instance(5), good)).status, 0xa900); // its UID is another one
    assert.equal((await send(association, instance(4), good)).status, 0);
    await association.release();
    assert.equal((await association.closed).kind, 'released');
  });

  test('a Part 10 file sent as the data set: C000, and the association goes on', async () => {
    const one = instance(6);
    const prefix = writePart10Prefix({
      sopClassUid: CT,
      sopInstanceUid: one.sop,
      transferSyntaxUid: EXPLICIT,
    });
    const association = await door(server).connect();
    const { status, command } = await send(association, one, Buffer.concat([prefix, bytesOf(one)]));
    assert.equal(status, 0xc000);
    assert.ok((command.errorComment ?? '').length > 0);
    assert.equal((await send(association, one)).status, 0);
    await association.release();
  });

  test('no permit: A700 after the named wait, the association lives, and there is room again', async () => {
    // 8 MiB are two permits of storage.smallLimit.
    const holders = [await stalled(server, instance(10)), await stalled(server, instance(11))];
    const association = await door(server).connect();
    const refused = await until(async () => {
      const response = await send(association, instance(12));
      return response.status !== 0 && response;
    });
    assert.equal(refused.status, 0xa700);
    assert.match(refused.command.errorComment ?? '', /permitWaitMs/);
    assert.equal((await echo(association)).status, 0);
    for (const { parrot, finish } of holders) {
      finish();
      assert.equal((await answer(parrot)).status, 0);
      parrot.close();
    }
    assert.equal((await send(association, instance(12))).status, 0);
    await association.release();
  });

  test('closing without a release in the middle of a data set: nothing of it is kept, its permit is back', async () => {
    const { parrot } = await stalled(server, instance(20));
    const other = await stalled(server, instance(21));
    parrot.close();
    other.parrot.close();
    await keep(door(server), instance(22), instance(23));
    const { received } = await got(door(server), ct(), query('STUDY', { study: '1.2.3' }));
    const uids = received.map(({ command }) => command.affectedSopInstanceUid);
    assert.ok(uids.includes(instance(22).sop));
    assert.ok(!uids.includes(instance(20).sop) && !uids.includes(instance(21).sop));
  });

  test('titles padded with NULs, a UID padded with spaces, a maximum length of 128', async () => {
    const parrot = await associated(server, {
      calledAeTitle: 'GANTRY\0\0',
      callingAeTitle: ' ODD \0',
      user: { maxPduLength: 128, implementationClassUid: '1.2.3', roles: [], extended: [], commonExtended: [] },
    });
    const one = instance(30);
    parrot.say(
      pData(commandPdv(3, { ...storeRq(one), affectedSopInstanceUid: `${one.sop} ` }), dataPdv(3, bytesOf(one))),
    );
    assert.equal((await answer(parrot)).status, 0);
    parrot.close();
    await roundTrip(one, 'ODD');
  });
});

describe('signals and kills', { timeout: 5 * 60_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-odd-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('SIGHUP: peers and limits are read again, and no association is dropped', async () => {
    const config = join(folder, 'gantry.yaml');
    writeFileSync(config, 'peers:\n  - aeTitle: FIRST\n    services: [echo]\n');
    const server = await startServer({ env: { GANTRY_CONFIG: config } });
    try {
      const open = await door(server).connect({ callingAeTitle: 'SECOND' });
      const first = await door(server).connect({ callingAeTitle: 'FIRST' });
      assert.equal(first.findContext(CT), undefined);
      writeFileSync(
        config,
        'dimse:\n  associationsPerPeerMax: 1\npeers:\n  - aeTitle: FIRST\n  - aeTitle: SECOND\n    services: [store]\n',
      );
      server.process.kill('SIGHUP');
      await until(() => server.log().includes('settings were read again'));
      await assert.rejects(door(server).connect({ callingAeTitle: 'FIRST' }), { code: 'rejected' }); // one is open
      await first.release();
      // Refused until our side has seen the release.
      const again = await until(() =>
        door(server)
          .connect({ callingAeTitle: 'FIRST' })
          .catch(() => undefined),
      );
      assert.ok(again.findContext(CT));
      assert.equal((await send(open, instance(1))).status, 0);
      for (const association of [open, again]) await association.release();
      // A file that is wrong changes nothing.
      writeFileSync(config, 'dimse:\n  associationsPerPeerMax: none\n');
      server.process.kill('SIGHUP');
      await until(() => server.log().includes('the old ones stay in force'));
      // Refused, too, until our side has seen the release.
      const still = await until(() =>
        door(server)
          .connect({ callingAeTitle: 'SECOND' })
          .catch(() => undefined),
      );
      assert.equal(still.findContext(VERIFICATION), undefined);
      await still.release();
    } finally {
      await server.close();
    }
  });

  test('SIGTERM: a store in flight is finished and answered, idle associations are ended, and it is there afterwards', async () => {
    const dataDir = join(folder, 'drained');
    const server = await startServer({ dataDir });
    const idle = await door(server).connect();
    const busy = await door(server).connect();
    const one = instance(1, { pixelBytes: 2_000_000 });
    const data = bytesOf(one);
    let finish = () => {};
    const rest = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const stored = send(
      busy,
      one,
      (async function* () {
        yield data.subarray(0, 1_000_000);
        await rest;
        yield data.subarray(1_000_000);
      })(),
    );
    await until(async () => {
      const metrics = await (await fetch(`${server.origin}/metrics`)).text();
      return /^gantry_ingest_permit_bytes(\{.*\})? [1-9]/m.test(metrics); // ingest is reading it
    });
    const exited = server.signal('SIGTERM');
    await idle.closed;
    await assert.rejects(door(server).connect());
    finish();
    assert.equal((await stored).status, 0);
    assert.equal((await busy.closed).kind, 'aborted-by-peer'); // never an A-RELEASE-RQ of ours
    assert.equal(await exited, 0);
    await server.restart();
    const { received } = await got(door(server), ct(), query('STUDY', { study: one.study }));
    assert.ok(received[0]!.data.equals(data));
    await server.close();
  });

  test('killed (-9) between the N-ACTION-RSP and the report: the report comes after the restart', async () => {
    const port = await freePort(); // nobody listens yet
    const server = await startServer({
      dataDir: join(folder, 'killed'),
      yaml: `peers:\n  - aeTitle: MODALITY\n    host: 127.0.0.1\n    port: ${port}\n`,
    });
    const one = instance(1);
    await keep(door(server), one);
    const association = await door(server).connect();
    const data = identifier({
      '00081195': { vr: 'UI', Value: ['1.9.1'] },
      '00081199': {
        vr: 'SQ',
        Value: [{ '00081150': { vr: 'UI', Value: [CT] }, '00081155': { vr: 'UI', Value: [one.sop] } }],
      },
    });
    const request = {
      sopClassUid: COMMITMENT,
      sopInstanceUid: COMMITMENT_INSTANCE,
      actionTypeId: 1,
      data,
    };
    assert.equal((await nAction(association, request)).status, 0);
    await server.signal('SIGKILL');

    const listener = await peer({ port });
    await server.restart();
    await until(() => listener.received.length > 0);
    for (const { data, transferSyntax } of listener.received) {
      const report = new DataSet({ buffer: data, transferSyntaxUid: transferSyntax });
      assert.equal(report.string(Tag.TransactionUID), '1.9.1');
      assert.deepEqual(
        report.items(Tag.ReferencedSOPSequence).map((item) => item.string(Tag.ReferencedSOPInstanceUID)),
        [one.sop],
      );
    }
    // And the Transaction UID is known to be used, across restarts.
    const again = await door(server).connect();
    assert.equal((await nAction(again, request)).status, 0x0131);
    await again.release();
    await server.close();
  });
});
