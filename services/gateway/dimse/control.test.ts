// The door's control side: the same suite called directly and over real grpc-js.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { allSopClasses } from '#dicom/uids.ts';
import { nAction, store } from '#dimse/scu.ts';
import { ERRORS } from '#platform/errors.ts';
import type { Service } from '#platform/rpc.types.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import {
  bytesOf,
  COMMITMENT,
  COMMITMENT_INSTANCE,
  CT,
  house,
  identifier,
  instance,
  type Peer,
  peer,
  type TestHouse,
  until,
} from './house.testing.ts';
import { SERVICES } from './services.ts';

for (const overGrpc of [false, true])
  describe(`control of the DIMSE door ${overGrpc ? 'over gRPC' : 'called directly'}`, () => {
    let archive: TestHouse;
    let listener: Peer;
    let control: Service<typeof DimseService>;
    let refuse = true;

    before(async () => {
      listener = await peer({ answer: () => (refuse ? 0x0110 : 0) });
      archive = await house({
        overGrpc,
        settings: {
          peers: [
            { aeTitle: 'MODALITY', host: '127.0.0.1', port: listener.port, services: ['echo', 'store', 'commitment'] },
            { aeTitle: 'CALLSONLY' },
            { aeTitle: 'AWAY', host: '127.0.0.1', port: 1, connectTimeoutMs: 1000 },
          ],
        },
      });
      control = archive.context.client(DimseService);
    });

    test('listPeers: who is configured, and who we are', async () => {
      const listed = await control.listPeers(archive.context.call(), {});
      assert.deepEqual(
        listed.peers.map(({ aeTitle, host, port, services }) => [aeTitle, host, port, services.length]),
        [
          ['MODALITY', '127.0.0.1', listener.port, 3],
          ['CALLSONLY', '', 104, 6],
          ['AWAY', '127.0.0.1', 1, 6],
        ],
      );
      assert.deepEqual(
        [listed.aeTitle, listed.host, listed.port, listed.acceptsUnknown],
        ['GANTRY', '127.0.0.1', archive.port, false],
      );
    });

    test('echo: a peer that answers, one that does not, one without an address, a stranger', async () => {
      refuse = false;
      const call = archive.context.call();
      const answered = await control.echo(call, { aeTitle: 'MODALITY' });
      assert.deepEqual([answered.ok, answered.detail], [true, 'status 0000']);
      assert.ok(answered.milliseconds > 0);
      refuse = true;
      assert.deepEqual((await control.echo(call, { aeTitle: 'MODALITY' })).ok, false);
      const away = await control.echo(call, { aeTitle: 'AWAY' });
      assert.equal(away.ok, false);
      assert.match(away.detail, /ECONNREFUSED/);
      await assert.rejects(control.echo(call, { aeTitle: 'CALLSONLY' }), { code: 'failed-precondition' });
      await assert.rejects(control.echo(call, { aeTitle: 'STRANGER' }), { code: 'not-found' });
    });

    test('listAssociations: who is connected, and what they have sent', async () => {
      const association = await archive.connect();
      const data = bytesOf(instance(1));
      const contextId = association.findContext(CT)!.id;
      await store(association, { contextId, sopClassUid: CT, sopInstanceUid: instance(1).sop, data });
      const { associations } = await control.listAssociations(archive.context.call(), {});
      const { id, since, ...row } = associations[0]!;
      assert.match(id, /^[0-9A-Z]{26}$/);
      assert.ok(Date.parse(since) <= Date.now());
      assert.deepEqual(row, {
        callingAeTitle: 'MODALITY',
        calledAeTitle: 'GANTRY',
        address: '127.0.0.1',
        state: 'open',
        instances: 1,
        bytes: data.length,
      });
      const other = { ...archive.context.call(), tenant: 'elsewhere' };
      assert.deepEqual((await control.listAssociations(other, {})).associations, []);
      await association.release();
      await until(async () => (await control.listAssociations(archive.context.call(), {})).associations.length === 0);
    });

    test('listCommitments: what waits, since when, and why', async () => {
      refuse = true;
      const association = await archive.connect();
      const request = {
        sopClassUid: COMMITMENT,
        sopInstanceUid: COMMITMENT_INSTANCE,
        actionTypeId: 1,
        data: identifier({
          '00081195': { vr: 'UI', Value: ['1.9.1'] },
          '00081199': {
            vr: 'SQ',
            Value: [{ '00081150': { vr: 'UI', Value: [CT] }, '00081155': { vr: 'UI', Value: [instance(1).sop] } }],
          },
        }),
      };
      assert.equal((await nAction(association, request)).status, 0);
      await association.release();
      const row = await until(async () => {
        const { commitments } = await control.listCommitments(archive.context.call(), {});
        return commitments.find((one) => one.attempts > 0 && one.lastError !== '');
      });
      assert.deepEqual([row.transactionUid, row.aeTitle, row.references], ['1.9.1', 'MODALITY', 1]);
      assert.match(row.lastError, /answered the report with 0110/);
      assert.ok(Date.parse(row.nextAttempt) > Date.now() - 60_000);
      refuse = false;
      await until(async () => (await control.listCommitments(archive.context.call(), {})).commitments.length === 0);
    });

    test('conformance: from the tables that the door runs on', async () => {
      archive.context.change({ 'dimse.associationsMax': 123 });
      const { markdown } = await control.conformance(archive.context.call(), {});
      for (const { name } of SERVICES) assert.ok(markdown.includes(`| ${name} | SCP |`), name);
      for (const { uid } of allSopClasses().filter(({ kind }) => kind === 'storage')) assert.ok(markdown.includes(uid));
      for (const code of Object.keys(ERRORS)) assert.ok(markdown.includes(`| ${code} |`), code);
      assert.match(markdown, /At most 123 associations, 64 of one peer/);
      assert.match(markdown, /Not accepted: .*Hanging Protocol Storage/);
      assert.match(markdown, /Inventory Storage/);
      assert.match(markdown, /asynchronous operations\s+window 1,1/);
      assert.doesNotMatch(markdown, /undefined|NaN|\[object/);
    });
  });
