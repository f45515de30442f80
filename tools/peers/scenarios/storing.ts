// Storing: by every door, many at once, the same again, and something else under the same name.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { JsonDataSet } from '#dicom/json.ts';
import { sha } from '../files.ts';
import { TITLES } from './deployment.ts';
import { LARGE_BYTES, type Sent } from './material.ts';
import { assertFiles, eventually, eventuallyCounted, first, own, type Scene, sopsOf, values } from './scene.ts';
import { AS_STORED, type Asking, instancePath, oneConnection, pathOf } from './web.ts';

export function storing(the: () => Scene): void {
  test('C-STORE over four associations at once, a large instance on each: all there, byte for byte', async () => {
    const { dimse, web } = the();
    const sent = the().makeSeries(40);
    const large = Array.from({ length: 4 }, () => the().make({ like: sent[0]!, pixelBytes: LARGE_BYTES }));
    await Promise.all(
      large.map((one, n) =>
        dimse.store([...sent.slice(n * 10, n * 10 + 5), one, ...sent.slice(n * 10 + 5, n * 10 + 10)]),
      ),
    );
    await eventuallyCounted(web, sent[0]!.study, 44);
    assertFiles(await web.wado(pathOf({ study: sent[0]!.study })), [...sent, ...large]);
  });

  test('STOW-RS, small and large in one request: 200, each referenced, each file comes back as it was sent', async () => {
    const { web } = the();
    const sent = [...the().makeSeries(5), the().make({ pixelBytes: LARGE_BYTES })];
    const { status, answer } = await web.stow(sent.map(({ part10 }) => part10));
    assert.equal(status, 200);
    assert.equal(answer['00081198'], undefined);
    const referenced = answer['00081199']!.Value as JsonDataSet[];
    assert.deepEqual(values(referenced, '00081155'), sopsOf(sent));
    for (const one of sent) {
      const got = await web.get(instancePath(one), AS_STORED);
      assert.equal(got.status, 200);
      assert.ok(got.body.equals(one.part10));
      const row = referenced.find((item) => first(item, '00081155') === one.sop);
      const again = await web.ask(String(first(row, '00081190')), { headers: { Accept: AS_STORED } });
      assert.ok(again.body.equals(one.part10), 'the Retrieve URL leads elsewhere');
    }
  });

  test('real files, one of each transfer syntax, by C-STORE and by STOW-RS', async () => {
    const { dimse, web } = the();
    const files = await the().realFiles();
    const byStow = await the().realFiles();
    await dimse.store(files);
    for (const one of byStow) assert.equal((await web.stow([one.part10])).status, 200);
    // By UID: at once.
    const fileOf = async (one: Sent) => {
      const { status, body } = await web.get(instancePath(one), AS_STORED);
      assert.equal(status, 200, one.transferSyntax);
      return body;
    };
    for (const one of files) assertFiles([await fileOf(one)], [one]);
    for (const one of byStow) assert.equal(sha(await fileOf(one)), sha(one.part10), one.transferSyntax);
  });

  test('the same bytes again count once, whatever door they come by', async () => {
    const { dimse, web } = the();
    const sent = the().makeSeries(3);
    await dimse.store(sent);
    await dimse.store(sent);
    await Promise.all([dimse.store(sent), dimse.store(sent), web.stow(sent.map(({ part10 }) => part10))]);
    const { status, answer } = await web.stow(sent.map(({ part10 }) => part10));
    assert.equal(status, 200);
    assert.deepEqual(values(answer['00081199']!.Value as JsonDataSet[], '00081155'), sopsOf(sent));
    // Another instance of the study after all the repeats: it shows, so they are folded.
    const after = the().make({ like: sent[0]! });
    await web.stow([after.part10]);
    await eventuallyCounted(web, sent[0]!.study, 4);
    assertFiles(await web.wado(pathOf({ study: sent[0]!.study })), [...sent, after]);
    assert.equal((await web.qido(`/studies/${sent[0]!.study}/instances`)).length, 4);
    assert.deepEqual(await conflictsOf(the(), sent[0]!.study), []);
  });

  test('other bytes under a known UID: the first shows everywhere, and the conflict is told', async () => {
    const { dimse, web } = the();
    const kept = the().make();
    const other = the().make({ like: kept, sop: kept.sop });
    await dimse.store([kept]);
    await eventuallyCounted(web, kept.study, 1);
    await dimse.store([other]); // taken: nothing that is acknowledged is thrown away
    assert.equal((await web.stow([other.part10])).status, 200);
    // The index on Elasticsearch tells conflicts when a study has settled, a minute after its last instance.
    const [conflict] = await eventually(
      'the conflict',
      async () => {
        const found = await conflictsOf(the(), kept.study);
        return found.length > 0 && found;
      },
      150_000,
    );
    assert.equal(conflict!.sopInstanceUid, kept.sop);
    assertFiles(await web.wado(pathOf({ study: kept.study })), [kept]);
    const { taken } = await dimse.get(
      { '00080052': { vr: 'CS', Value: ['STUDY'] }, '0020000D': { vr: 'UI', Value: [kept.study] } },
      [kept],
    );
    assert.deepEqual(
      taken.map(({ dataSet }) => sha(dataSet)),
      [sha(kept.dataSet)],
    );
    await eventuallyCounted(web, kept.study, 1);
  });

  test('forty associations at once, each storing five: two hundred instances, each once', async () => {
    const { dimse, web } = the();
    const sent = the().makeSeries(200);
    const associations = await Promise.all(Array.from({ length: 40 }, () => dimse.open()));
    // All are open before the first one stores.
    await Promise.all(
      associations.map(async (association, n) => {
        for (const one of sent.slice(n * 5, n * 5 + 5)) assert.equal(await dimse.storeOn(association, one), 0);
        await association.release();
      }),
    );
    await eventuallyCounted(web, sent[0]!.study, 200);
    const rows = await web.qido(`/studies/${sent[0]!.study}/instances`, { limit: '1000' });
    assert.deepEqual(values(rows, '00080018'), sopsOf(sent));
    assertFiles(await web.wado(pathOf({ study: sent[0]!.study })), sent);
  });

  test('an instance is read whole while many others are stored', async () => {
    const { dimse, web } = the();
    const read = the().make({ pixelBytes: 2 ** 18 });
    assert.equal((await web.stow([read.part10])).status, 200);
    const load = Array.from({ length: 4 }, () => the().makeSeries(60, { pixelBytes: 2 ** 15 }));
    let storing = true;
    const stored = Promise.all(load.map((part) => dimse.store(part))).finally(() => {
      storing = false;
    });
    const agent = oneConnection();
    let reads = 0;
    for (; storing || reads < 10; reads++) {
      const { status, body } = await web.get(instancePath(read), AS_STORED, { agent });
      assert.equal(status, 200);
      assert.ok(body.equals(read.part10));
    }
    agent.destroy();
    await stored;
    for (const part of load) await eventuallyCounted(web, part[0]!.study, part.length);
  });

  test('a sender finds what it stored: C-FIND on the same association waits for it, and the next one has it', async () => {
    const { dimse } = the();
    const sent = the().makeSeries(10);
    const image = {
      '00080052': { vr: 'CS', Value: ['IMAGE'] },
      ...study(sent[0]!),
      '0020000E': { vr: 'UI', Value: [sent[0]!.series] },
      '00080018': { vr: 'UI' },
    };
    const holds = (rows: JsonDataSet[], count: number) =>
      isDeepStrictEqual(values(rows, '00080018'), sopsOf(sent.slice(0, count)));
    await dimse.within({}, async (association) => {
      for (const [n, one] of sent.entries()) {
        assert.equal(await dimse.storeOn(association, one), 0);
        await own('C-FIND', async () => holds(await dimse.findOn(association, image), n + 1));
      }
    });
    await eventually('C-FIND on another association', async () => holds(await dimse.find(image), sent.length));
  });

  test('a sender finds what it stored: QIDO-RS on the same connection waits for it, and a new one has it', async () => {
    const { web } = the();
    const agent = oneConnection();
    for (let n = 0; n < 8; n++) {
      const one = the().make();
      const has = async (asking: Asking) =>
        isDeepStrictEqual(values(await web.qido('/instances', { StudyInstanceUID: one.study }, asking), '00080018'), [
          one.sop,
        ]);
      assert.equal((await web.stow([one.part10], { agent })).status, 200);
      await own('QIDO-RS', () => has({ agent }));
      await eventually('QIDO-RS on a new connection', () => has({}));
    }
    agent.destroy();
  });

  test('what came by one door shows at the other, to somebody who did not send it', async () => {
    const { dimse, web } = the();
    const [byStore, byStow] = [the().make(), the().make()];
    await Promise.all([dimse.store([byStore]), web.stow([byStow.part10])]);
    for (const [one, other] of [
      [byStore, TITLES.reader],
      [byStow, TITLES.sender],
    ] as const) {
      await eventually(
        'QIDO-RS',
        async () => (await web.qido('/studies', { StudyInstanceUID: one.study })).length === 1,
      );
      await eventually('C-FIND', async () => {
        const keys = { '00080052': { vr: 'CS', Value: ['STUDY'] }, ...study(one) };
        return (await dimse.find(keys, undefined, other)).length === 1;
      });
    }
  });
}

const study = (one: Sent) => ({ '0020000D': { vr: 'UI', Value: [one.study] } });

interface Conflict {
  studyInstanceUid: string;
  sopInstanceUid: string;
}
async function conflictsOf({ web }: Scene, uid: string): Promise<Conflict[]> {
  const { status, json } = await web.api<{ conflicts: Conflict[] }>('/conflicts');
  assert.equal(status, 200);
  return json.conflicts.filter(({ studyInstanceUid }) => studyInstanceUid === uid);
}
