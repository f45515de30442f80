// Storage Commitment Push Model (PS3.4 Annex J) against the real archive.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { Tag } from '#dicom/tags.ts';
import { COMMAND } from '#dimse/command.ts';
import { nAction } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import {
  bytesOf,
  COMMITMENT,
  COMMITMENT_INSTANCE,
  CT,
  house,
  IMPLICIT,
  identifier,
  instance,
  keep,
  MR,
  type Peer,
  peer,
  type TestHouse,
  until,
} from './house.testing.ts';

interface Report {
  eventTypeId: number;
  transactionUid: string;
  held: string[];
  failed: [uid: string, reason: number][];
}
function reportOf({ command, transferSyntax, data }: Peer['received'][number]): Report {
  const dataSet = new DataSet({ buffer: data, transferSyntaxUid: transferSyntax });
  const uid = (item: DataSet) => item.string(Tag.ReferencedSOPInstanceUID) ?? '';
  return {
    eventTypeId: command.eventTypeId!,
    transactionUid: dataSet.string(Tag.TransactionUID)!,
    held: dataSet.items(Tag.ReferencedSOPSequence).map(uid),
    failed: dataSet.items(Tag.FailedSOPSequence).map((item) => [uid(item), item.number(Tag.FailureReason)!]),
  };
}

type Reference = [sopClass: string, sopInstance: string];
const request = (transactionUid: string, references: Reference[]) =>
  identifier({
    ...(transactionUid === '' ? {} : { '00081195': { vr: 'UI', Value: [transactionUid] } }),
    '00081199': {
      vr: 'SQ',
      Value: references.map(([sopClass, uid]) => ({
        '00081150': { vr: 'UI', Value: [sopClass] },
        '00081155': { vr: 'UI', Value: [uid] },
      })),
    },
  });

async function ask(association: Association, data: Buffer, more: { actionTypeId?: number; instance?: string } = {}) {
  const { status, command } = await nAction(association, {
    sopClassUid: COMMITMENT,
    sopInstanceUid: more.instance ?? COMMITMENT_INSTANCE,
    actionTypeId: more.actionTypeId ?? 1,
    data,
  });
  return { status, offendingElement: command.offendingElement };
}

describe('storage commitment', () => {
  let archive: TestHouse;
  let listener: Peer;
  let answers: number[] = [];
  const one: Reference = [CT, '1.2.3.1.1'];
  const two: Reference = [CT, '1.2.3.1.2'];

  before(async () => {
    listener = await peer({ answer: () => answers.shift() ?? 0 });
    archive = await house({
      settings: {
        peers: [
          { aeTitle: 'MODALITY', host: '127.0.0.1', port: listener.port },
          { aeTitle: 'SAME', commitment: 'same' },
          { aeTitle: 'NOADDRESS' },
        ],
      },
    });
    await keep(archive, instance(1), instance(2), instance(3));
  });
  const asked = async (data: Buffer, more: Parameters<typeof ask>[2] & { callingAeTitle?: string } = {}) => {
    const association = await archive.connect({ callingAeTitle: more.callingAeTitle ?? 'MODALITY' });
    const answer = await ask(association, data, more);
    await association.release();
    return answer;
  };
  const reported = async (transactionUid: string) =>
    until(() => {
      const found = listener.received.map(reportOf).find((one) => one.transactionUid === transactionUid);
      return found;
    });
  const idle = () =>
    until(async () => {
      const { commitments } = await archive.context.client(DimseService).listCommitments(archive.context.call(), {});
      return commitments.length === 0;
    });

  test('held: event 1 on a new association, on which we are SCP by role selection, Implicit offered', async () => {
    assert.equal((await asked(request('1.9.1', [one, two]))).status, 0);
    assert.deepEqual(await reported('1.9.1'), {
      eventTypeId: 1,
      transactionUid: '1.9.1',
      held: [one[1], two[1]],
      failed: [],
    });
    const { rq } = listener.associations[0]!;
    assert.deepEqual(rq.user.roles, [{ sopClassUid: COMMITMENT, scu: false, scp: true }]);
    assert.ok(rq.contexts[0]!.transferSyntaxes.includes(IMPLICIT));
    assert.equal(rq.callingAeTitle, 'GANTRY');
    assert.equal(listener.received[0]!.command.commandField, COMMAND.N_EVENT_REPORT_RQ);
    assert.equal(listener.received[0]!.command.affectedSopInstanceUid, COMMITMENT_INSTANCE);
    await idle();
  });

  test('each reason: 0112 not here, 0119 another class, 0122 a class that is not stored', async () => {
    const references: Reference[] = [one, [CT, '9.9'], [MR, '1.2.3.1.2'], ['1.2.840.10008.1.1', '9.8']];
    assert.equal((await asked(request('1.9.2', references))).status, 0);
    const report = await reported('1.9.2');
    assert.equal(report.eventTypeId, 2);
    assert.deepEqual(report.held, [one[1]]);
    assert.deepEqual(report.failed, [
      ['9.9', 0x0112],
      ['1.2.3.1.2', 0x0119],
      ['9.8', 0x0122],
    ]);
  });

  test('what was just sent is waited for: a request right after the C-STORE-RSP is held', async () => {
    for (let n = 10; n < 20; n++) {
      await keep(archive, instance(n));
      assert.equal((await asked(request(`1.9.3.${n}`, [[CT, `1.2.3.1.${n}`]]))).status, 0);
      assert.equal((await reported(`1.9.3.${n}`)).eventTypeId, 1);
    }
  });

  test('a Transaction UID again: 0131, while it is queued and after its report', async () => {
    answers = [0x0110]; // the report is refused once, so it waits for its next attempt
    assert.equal((await asked(request('1.9.4', [one]))).status, 0);
    assert.equal((await asked(request('1.9.4', [one]))).status, 0x0131);
    await until(() => listener.received.filter((one) => reportOf(one).transactionUid === '1.9.4').length === 2);
    await idle();
    assert.equal((await asked(request('1.9.4', [one]))).status, 0x0131);
    // Another sender's own UID is its own.
    const association = await archive.connect({ callingAeTitle: 'SAME' });
    const served = serveOne(association);
    assert.equal((await ask(association, request('1.9.4', [one]))).status, 0);
    assert.equal(reportOf(await served).transactionUid, '1.9.4');
    await association.release();
  });

  test('a report that is refused or not taken is sent again', async () => {
    answers = [0x0110, 0xc000];
    assert.equal((await asked(request('1.9.5', [one]))).status, 0);
    await until(() => listener.received.filter((one) => reportOf(one).transactionUid === '1.9.5').length === 3);
    await idle();
  });

  test('on the same association where the peer wants that, and never before the N-ACTION-RSP', async () => {
    for (let n = 0; n < 20; n++) {
      const association = await archive.connect({ callingAeTitle: 'SAME' });
      const order: string[] = [];
      const served = serveOne(association).then((report) => {
        order.push('report');
        return report;
      });
      const { status } = await ask(association, request(`1.9.6.${n}`, [one]));
      order.push('answer');
      assert.equal(status, 0);
      assert.equal(reportOf(await served).eventTypeId, 1);
      assert.deepEqual(order, ['answer', 'report']);
      await association.release();
      assert.equal((await association.closed).kind, 'released');
    }
  });

  test('a report waits for its N-ACTION-RSP, however long that takes', async () => {
    const { jobs } = archive.context;
    const add = jobs.add.bind(jobs);
    let early: boolean | undefined;
    const known = () => listener.received.some((one) => reportOf(one).transactionUid === '1.9.12');
    // Queued, and then the answer is late: as long as a report would take several times over.
    jobs.add = async (job) => {
      const added = await add(job);
      const late = AbortSignal.timeout(300);
      await until(() => known() || late.aborted);
      early = known();
      return added;
    };
    try {
      assert.equal((await asked(request('1.9.12', [one]))).status, 0);
    } finally {
      jobs.add = add;
    }
    assert.equal(early, false);
    await reported('1.9.12');
  });

  test('without an address for the caller the request is refused', async () => {
    assert.equal((await asked(request('1.9.7', [one]), { callingAeTitle: 'NOADDRESS' })).status, 0x0110);
    assert.equal((await asked(request('1.9.7', [one]), { callingAeTitle: 'STRANGER' })).status, 0x0110);
  });

  test('what a request must have: 0115, 0123, 0112', async () => {
    assert.deepEqual(await asked(request('1.9.8', [])), {
      status: 0x0115,
      offendingElement: [Tag.ReferencedSOPSequence],
    });
    assert.deepEqual(await asked(request('', [one])), { status: 0x0115, offendingElement: [Tag.TransactionUID] });
    assert.deepEqual(await asked(request('1.9.8', [[CT, '']])), {
      status: 0x0115,
      offendingElement: [Tag.ReferencedSOPInstanceUID],
    });
    assert.equal((await asked(request('1.9.8', [one]), { actionTypeId: 2 })).status, 0x0123);
    assert.equal((await asked(request('1.9.8', [one]), { instance: '1.2' })).status, 0x0112);
  });

  test('dimse.commitmentReferencesMax and dimse.identifierMax: 0213', async () => {
    archive.context.change({ 'dimse.commitmentReferencesMax': 1 });
    assert.equal((await asked(request('1.9.9', [one, two]))).status, 0x0213);
    archive.context.change({ 'dimse.commitmentReferencesMax': 20_000, 'dimse.identifierMax': 100 });
    assert.equal((await asked(request('1.9.9', [one, two]))).status, 0x0213);
    archive.context.change({ 'dimse.identifierMax': 4_194_304 });
    assert.equal((await asked(request('1.9.9', [one, two]))).status, 0);
    await reported('1.9.9');
  });

  test('20,000 references in one request, as many as are allowed by default', async () => {
    const references = Array.from(
      { length: 20_000 },
      (_, n): Reference => [CT, `1.2.826.0.1.3680043.2.1125.${'9'.repeat(20)}.${n}`],
    );
    assert.equal((await asked(request('1.9.10', references))).status, 0);
    const report = await reported('1.9.10');
    assert.equal(report.failed.length, 20_000);
  });

  test('bytes that do not match their digest any more are not committed', async () => {
    const damaged = instance(3);
    corrupt(join(archive.context.dataDir, 'archive'), bytesOf(damaged).subarray(-500));
    assert.equal((await asked(request('1.9.11', [one, [CT, damaged.sop]]))).status, 0);
    const report = await reported('1.9.11');
    assert.deepEqual(report.held, [one[1]]);
    assert.deepEqual(report.failed, [[damaged.sop, 0x0110]]);
  });

  test('the audit trail has each request, refused ones too', () => {
    const events = archive.context.audit.recorded
      .map(({ event }) => event)
      .filter(({ useCase }) => useCase === 'dimse.n-action.storage-commitment');
    assert.ok(events.some(({ outcome, objects }) => outcome === 0 && objects[0]!.id === '1.9.1'));
    assert.ok(events.some(({ outcome, objects }) => outcome !== 0 && objects[0]!.id === '1.9.7'));
  });

  test('the audit trail has each report, with every attempt that was not taken', () => {
    const reports = archive.context.audit.recorded.filter(
      ({ event }) => event.useCase === 'dimse.n-event-report.storage-commitment',
    );
    const of = (transaction: string) =>
      reports
        .filter(({ event }) => event.objects.some(({ id }) => id === transaction))
        .map(({ event }) => [event.outcome, event.detail?.held, event.detail?.failed]);
    assert.deepEqual(of('1.9.5'), [
      [4, 1, 0],
      [4, 1, 0],
      [0, 1, 0],
    ]);
    for (const { event } of reports) assert.ok(event.objects.some(({ id }) => ['MODALITY', 'SAME'].includes(id)));
  });
});

/** Takes one N-EVENT-REPORT on an association of ours. */
async function serveOne(association: Association): Promise<Peer['received'][number]> {
  for await (const incoming of association.messages()) {
    const data = await incoming.whole(2 ** 24);
    await association.respond(incoming, { status: 0 });
    return { command: incoming.command, transferSyntax: incoming.transferSyntax, data };
  }
  throw new Error('no report came');
}

/** Flips a bit of these bytes wherever they are on the disk. */
function corrupt(folder: string, bytes: Buffer): void {
  let found = 0;
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    const path = join(folder, name);
    if (!statSync(path).isFile()) continue;
    const content = readFileSync(path);
    const at = content.indexOf(bytes);
    if (at < 0) continue;
    content[at] = content[at]! ^ 1;
    writeFileSync(path, content);
    found++;
  }
  assert.equal(found, 1);
}
