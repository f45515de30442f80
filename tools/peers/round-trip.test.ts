// Every file goes in by C-STORE and by STOW-RS and comes out by WADO-RS, C-GET and C-MOVE byte for byte, or is refused as the table says.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { encodeDataSet } from '#dicom/write.ts';
import { listen } from '#dimse/acceptor.ts';
import { negotiate } from '#dimse/negotiate.ts';
import { connect } from '#dimse/requestor.ts';
import { get, move, store } from '#dimse/scu.ts';
import type { Acceptor } from '#dimse/types.ts';
import { sha, type TestFile, testFiles } from './files.ts';
import { REFUSALS } from './refused.ts';
import { freePort, type GantryServer, startServer } from './server.ts';
import { stowRequest } from './stow-request.ts';

const STUDY_ROOT_GET = '1.2.840.10008.5.1.4.1.2.2.3';
const STUDY_ROOT_MOVE = '1.2.840.10008.5.1.4.1.2.2.2';
const EXPLICIT = '1.2.840.10008.1.2.1';

/** What each door must answer to a file: refused.ts names every refused one and why; all others are kept. */
const refusals = new Map(REFUSALS.flatMap((refusal) => refusal.files.map((name) => [name, refusal] as const)));
const expected = (file: TestFile, door: 'C-STORE' | 'STOW'): number => {
  const refusal = refusals.get(file.row.name);
  return refusal === undefined || (door === 'C-STORE' && refusal.onlyWithMeta) ? 0 : refusal.status;
};

interface Stored {
  file: TestFile;
  status: number;
}
const identity = (file: TestFile): string =>
  `${file.studyInstanceUid}|${file.seriesInstanceUid}|${file.sopInstanceUid}`;

/** What must show: the first that was stored of each SOP instance (keep-first), and every rendition stays retrievable besides. */
function shownOf(stored: Stored[]): TestFile[] {
  const shown = new Map<string, TestFile>();
  for (const { file, status } of stored)
    if (status === 0 && !shown.has(identity(file))) shown.set(identity(file), file);
  return [...shown.values()];
}

describe('every file, in by each door and out by each way', { timeout: 20 * 60_000 }, () => {
  let files: TestFile[];
  let byStore: GantryServer;
  let byStow: GantryServer;
  let receiver: Acceptor;
  const stored: Stored[] = [];
  const stowed: Stored[] = [];
  const moved = new Map<string, { dataSet: string; transferSyntax: string }[]>();

  before(async () => {
    ({ files } = await testFiles());
    const port = await freePort();
    receiver = await listen({
      host: '127.0.0.1',
      port,
      onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
      onAssociation: async (association) => {
        for await (const incoming of association.messages()) {
          const bytes = await incoming.whole(2 ** 30);
          const uid = incoming.command.affectedSopInstanceUid!;
          moved.set(uid, [...(moved.get(uid) ?? []), { dataSet: sha(bytes), transferSyntax: incoming.transferSyntax }]);
          await association.respond(incoming, { status: 0 });
        }
      },
    });
    byStore = await startServer({ yaml: `peers:\n  - aeTitle: RECEIVER\n    host: 127.0.0.1\n    port: ${port}\n` });
    byStow = await startServer();
  });
  after(async () => {
    await byStore?.close();
    await byStow?.close();
    await receiver?.close(0);
  });

  test('C-STORE answers each file as the table says', async () => {
    const contexts = [
      ...new Map(files.map((file) => [`${file.sopClassUid} ${file.transferSyntaxUid}`, file])).values(),
    ];
    const wrong: string[] = [];
    for (let at = 0; at < contexts.length; at += 128) {
      const part = contexts.slice(at, at + 128);
      const association = await connect({
        host: '127.0.0.1',
        port: byStore.dimsePort,
        callingAeTitle: 'ROUNDTRIP',
        calledAeTitle: 'GANTRY',
        contexts: part.map((file) => ({
          abstractSyntax: file.sopClassUid || '1.2.840.10008.5.1.4.1.1.7',
          transferSyntaxes: [file.transferSyntaxUid],
        })),
      });
      for (const file of files) {
        if (
          !part.some((one) => one.sopClassUid === file.sopClassUid && one.transferSyntaxUid === file.transferSyntaxUid)
        )
          continue;
        const sopClassUid = file.sopClassUid || '1.2.840.10008.5.1.4.1.1.7';
        const context = association.findContext(sopClassUid, file.transferSyntaxUid);
        const status =
          context === undefined
            ? 0x0122 // refused in negotiation
            : (
                await store(association, {
                  contextId: context.id,
                  sopClassUid,
                  sopInstanceUid: file.sopInstanceUid || '1.2.3',
                  data: file.dataSet,
                })
              ).status;
        stored.push({ file, status });
        if (status !== expected(file, 'C-STORE'))
          wrong.push(`${file.row.name} (${file.row.class}): ${status.toString(16)}`);
      }
      await association.release();
    }
    assert.equal(stored.length, files.length);
    assert.deepEqual(wrong, []);
  });

  test('STOW-RS answers each file as the table says', async () => {
    const wrong: string[] = [];
    for (const file of files) {
      const answer = await fetch(`${byStow.dicomWeb}/studies`, stowRequest([file.bytes]));
      const json = (await answer.json()) as Record<string, { Value?: Record<string, { Value?: number[] }>[] }>;
      const failed = json['00081198']?.Value?.[0] ?? json['0008119A']?.Value?.[0];
      const status = failed === undefined ? 0 : failed['00081197']!.Value![0]!;
      stowed.push({ file, status });
      assert.equal(answer.status, status === 0 ? 200 : 409, file.row.name);
      if (status !== expected(file, 'STOW')) wrong.push(`${file.row.name} (${file.row.class}): ${status.toString(16)}`);
    }
    assert.deepEqual(wrong, []);
  });

  for (const door of ['C-STORE', 'STOW'] as const) {
    test(`what came by ${door} comes out by WADO-RS byte for byte`, async () => {
      const server = door === 'STOW' ? byStow : byStore;
      const wrong: string[] = [];
      for (const file of shownOf(door === 'STOW' ? stowed : stored)) {
        const path = [file.studyInstanceUid, file.seriesInstanceUid, file.sopInstanceUid].map(encodeURIComponent);
        const answer = await fetch(`${server.dicomWeb}/studies/${path[0]}/series/${path[1]}/instances/${path[2]}`, {
          headers: { Accept: 'application/dicom; transfer-syntax=*' },
        });
        const bytes = Buffer.from(await answer.arrayBuffer());
        // By STOW a valid preamble and meta are kept too; by C-STORE they are ours.
        const same =
          door === 'STOW' && file.hasMeta
            ? bytes.equals(file.bytes)
            : bytes.subarray(bytes.length - file.dataSet.length).equals(file.dataSet);
        if (answer.status !== 200 || !same) wrong.push(`${file.row.name}: ${answer.status}`);
      }
      assert.deepEqual(wrong, []);
    });
  }

  test('C-GET gives the stored data sets', async () => {
    const shown = shownOf(stored);
    const wrong: string[] = [];
    for (const [study, members] of Map.groupBy(shown, (file) => file.studyInstanceUid)) {
      const contexts = [
        ...new Map(members.map((file) => [`${file.sopClassUid} ${file.transferSyntaxUid}`, file])).values(),
      ];
      const association = await connect({
        host: '127.0.0.1',
        port: byStore.dimsePort,
        callingAeTitle: 'ROUNDTRIP',
        calledAeTitle: 'GANTRY',
        contexts: [
          { abstractSyntax: STUDY_ROOT_GET, transferSyntaxes: [EXPLICIT] },
          ...contexts.map((file) => ({ abstractSyntax: file.sopClassUid, transferSyntaxes: [file.transferSyntaxUid] })),
        ],
        roles: [...new Set(contexts.map((file) => file.sopClassUid))].map((sopClassUid) => ({
          sopClassUid,
          scu: false,
          scp: true,
        })),
      });
      const got = new Map<string, string>();
      const identifier = encodeDataSet(
        { '00080052': { vr: 'CS', Value: ['STUDY'] }, '0020000D': { vr: 'UI', Value: [study] } },
        { transferSyntaxUid: EXPLICIT },
      );
      let final = -1;
      for await (const response of get(association, STUDY_ROOT_GET, identifier, async (incoming) => {
        got.set(incoming.command.affectedSopInstanceUid!, sha(await incoming.whole(2 ** 30)));
        return 0;
      })) {
        final = response.status;
      }
      await association.release();
      for (const file of members) if (got.get(file.sopInstanceUid) !== sha(file.dataSet)) wrong.push(file.row.name);
      if (final !== 0) wrong.push(`${study}: ${final.toString(16)}`);
    }
    assert.deepEqual(wrong, []);
  });

  test('C-MOVE gives the stored data sets', async () => {
    const shown = shownOf(stored);
    const association = await connect({
      host: '127.0.0.1',
      port: byStore.dimsePort,
      callingAeTitle: 'ROUNDTRIP',
      calledAeTitle: 'GANTRY',
      contexts: [{ abstractSyntax: STUDY_ROOT_MOVE, transferSyntaxes: [EXPLICIT] }],
    });
    const wrong: string[] = [];
    for (const study of new Set(shown.map((file) => file.studyInstanceUid))) {
      const identifier = encodeDataSet(
        { '00080052': { vr: 'CS', Value: ['STUDY'] }, '0020000D': { vr: 'UI', Value: [study] } },
        { transferSyntaxUid: EXPLICIT },
      );
      let final = -1;
      for await (const response of move(association, STUDY_ROOT_MOVE, 'RECEIVER', identifier)) final = response.status;
      if (final !== 0) wrong.push(`${study}: ${final.toString(16)}`);
    }
    await association.release();
    for (const file of shown) {
      const same = moved
        .get(file.sopInstanceUid)
        ?.some((one) => one.dataSet === sha(file.dataSet) && one.transferSyntax === file.transferSyntaxUid);
      if (!same) wrong.push(file.row.name);
    }
    assert.deepEqual(wrong, []);
  });
});
