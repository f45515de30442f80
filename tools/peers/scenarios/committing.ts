// Storage commitment (PS3.4 Annex J): the report says what is held, on the association or the address that the peer chose.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mintUid } from '#dicom/uids.ts';
import type { Association } from '#dimse/types.ts';
import { TITLES } from './deployment.ts';
import { type CommitmentReport, type Reference, reportOf } from './dimse.ts';
import { CT, LARGE_BYTES, MR, type Sent } from './material.ts';
import { eventually, type Scene } from './scene.ts';

/** A report is tried again after 1, 5 and 30 s (BACKOFF_MS of services/gateway/dimse/commitment.ts). */
const REPORT_MS = 120_000;
const NO_SUCH_INSTANCE = 0x0112;
const CLASS_CONFLICT = 0x0119;
const DUPLICATE_TRANSACTION = 0x0131;
const references = (sent: readonly Sent[]): Reference[] => sent.map(({ sopClass, sop }) => [sopClass, sop]);

export function committing(the: () => Scene): void {
  const asReceiver = () => the().deployment.receiver.aeTitle;
  const reported = (transactionUid: string): Promise<CommitmentReport> =>
    eventually(
      'a commitment report',
      () => the().receiver.reports.find((report) => report.transactionUid === transactionUid),
      REPORT_MS,
    );

  test('present and absent instances, right after they were stored, reported on a new association', async () => {
    const { dimse } = the();
    const sent = [...the().makeSeries(4), the().make({ pixelBytes: LARGE_BYTES })];
    const [held, mixed, absent] = [mintUid(), mintUid(), mintUid()];
    await dimse.store(sent, asReceiver());
    await dimse.within({ callingAeTitle: asReceiver() }, async (association) => {
      assert.equal(await dimse.requestCommitment(association, held, references(sent)), 0);
      assert.equal(
        await dimse.requestCommitment(association, mixed, [...references(sent), [CT, absent], [MR, sent[0]!.sop]]),
        0,
      );
      assert.equal(await dimse.requestCommitment(association, held, references(sent)), DUPLICATE_TRANSACTION);
    });
    assert.deepEqual(await reported(held), {
      eventTypeId: 1,
      transactionUid: held,
      held: sent.map(({ sop }) => sop),
      failed: [],
    });
    assert.deepEqual(await reported(mixed), {
      eventTypeId: 2,
      transactionUid: mixed,
      held: sent.map(({ sop }) => sop),
      failed: [
        [absent, NO_SUCH_INSTANCE],
        [sent[0]!.sop, CLASS_CONFLICT],
      ],
    });
  });

  test('on the same association where the peer wants that, after the answer', async () => {
    const { dimse } = the();
    const sent = the().makeSeries(3);
    await dimse.store(sent, TITLES.same);
    const absent = mintUid();
    for (const [asked, eventTypeId, failed] of [
      [references(sent), 1, []],
      [[...references(sent), [CT, absent]], 2, [[absent, NO_SUCH_INSTANCE]]],
    ] as const) {
      const transactionUid = mintUid();
      await dimse.within({ callingAeTitle: TITLES.same }, async (association) => {
        const report = reportOn(association);
        assert.equal(await dimse.requestCommitment(association, transactionUid, asked as Reference[]), 0);
        assert.deepEqual(await report, { eventTypeId, transactionUid, held: sent.map(({ sop }) => sop), failed });
      });
    }
  });

  test('what was deleted is not committed', async () => {
    const { dimse, web } = the();
    const sent = the().makeSeries(2);
    const transactionUid = mintUid();
    await dimse.store(sent, asReceiver());
    assert.equal((await web.remove(`/studies/${sent[0]!.study}`)).status, 204);
    await dimse.within({ callingAeTitle: asReceiver() }, async (association) => {
      assert.equal(await dimse.requestCommitment(association, transactionUid, references(sent)), 0);
    });
    const { held, failed } = await reported(transactionUid);
    assert.deepEqual(held, []);
    assert.deepEqual(
      failed,
      sent.map(({ sop }) => [sop, NO_SUCH_INSTANCE]),
    );
  });
}

async function reportOn(association: Association): Promise<CommitmentReport> {
  for await (const incoming of association.messages()) {
    const report = await reportOf(incoming);
    await association.respond(incoming, { status: 0 });
    return report;
  }
  throw new Error('the association ended without a report');
}
