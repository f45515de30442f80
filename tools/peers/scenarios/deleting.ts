// Deleting: gone from every door at once, in the trash, and back byte for byte; purged, it is gone for good.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Sent } from './material.ts';
import { assertFiles, assertTaken, eventually, eventuallyCounted, type Scene, sopsOf, values } from './scene.ts';
import { AS_STORED, instancePath, pathOf } from './web.ts';

interface Trashed {
  studyInstanceUid: string;
  instances: number;
}

export function deleting(the: () => Scene): void {
  const stored = async (): Promise<Sent[]> => {
    const sent = the().makeSeries(3);
    const second = the().makeSeries(2, { like: sent[0]! });
    await the().dimse.store([...sent, ...second]);
    await eventuallyCounted(the().web, sent[0]!.study, 5);
    return [...sent, ...second];
  };
  const trashed = async (study: string): Promise<Trashed | undefined> => {
    const { json } = await the().web.api<{ studies: Trashed[] }>('/trash');
    return json.studies.find(({ studyInstanceUid }) => studyInstanceUid === study);
  };
  /** Every way of finding and retrieving gives these, and nothing else of the study. */
  async function shows(study: string, left: readonly Sent[]): Promise<void> {
    const { dimse, receiver, web } = the();
    const key = { '00080052': { vr: 'CS', Value: ['STUDY'] }, '0020000D': { vr: 'UI', Value: [study] } };
    // By UID: at once.
    if (left.length > 0) assertFiles(await web.wado(pathOf({ study })), left);
    else assert.equal((await web.get(pathOf({ study }), AS_STORED)).status, 404);
    assert.equal(
      (await web.get(`${pathOf({ study })}/metadata`, 'application/dicom+json')).status,
      left.length > 0 ? 200 : 404,
    );
    receiver.taken.length = 0;
    const final = (await dimse.move(key)).at(-1)!;
    assert.equal(final.status, 0);
    assert.equal(final.command.completedSubOperations, left.length);
    assertTaken(receiver.taken, left);
    // Searches of somebody else: soon.
    const instances = () => web.qido('/instances', { StudyInstanceUID: study });
    await eventually('QIDO-RS', async () => {
      assert.deepEqual(values(await instances(), '00080018'), sopsOf(left));
      return true;
    });
    await eventually('C-FIND', async () => (await dimse.find(key)).length === (left.length === 0 ? 0 : 1));
  }
  const removed = async (path: string) => assert.equal((await the().web.remove(path)).status, 204);
  const restored = async (study: string, what: Record<string, string> = {}): Promise<number> => {
    const { status, json } = await the().web.api<{ restored: number }>(`/trash/${study}/restore`, 'POST', what);
    assert.equal(status, 200);
    return json.restored;
  };

  test('an instance, a series, a study deleted: gone everywhere, and restored byte for byte', async () => {
    const { web } = the();
    const sent = await stored();
    const [one] = sent as [Sent];
    const { study, series, sop } = one;
    await shows(study, sent);

    await removed(instancePath(one));
    assert.equal((await web.get(instancePath(one), AS_STORED)).status, 404);
    await shows(study, sent.slice(1));
    assert.equal((await trashed(study))?.instances, 1);
    assert.equal(await restored(study, { instance: sop }), 1);
    await shows(study, sent);

    await removed(pathOf({ study, series }));
    await shows(study, sent.slice(3));
    assert.equal((await trashed(study))?.instances, 3);
    assert.equal(await restored(study, { series }), 3);
    await shows(study, sent);

    await removed(pathOf({ study }));
    await shows(study, []);
    assert.equal((await trashed(study))?.instances, 5);
    assert.equal((await web.remove(pathOf({ study }))).status, 404);
    assert.equal(await restored(study), 5);
    await shows(study, sent);
    assert.equal(await trashed(study), undefined);
    assert.equal((await web.api(`/trash/${study}/restore`, 'POST')).status, 404);
  });

  test('what was just acknowledged is deleted with its study, and what comes later is not', async () => {
    const { dimse } = the();
    for (let n = 0; n < 3; n++) {
      const sent = the().makeSeries(4);
      const { study } = sent[0]!;
      await dimse.store(sent);
      await removed(pathOf({ study }));
      await shows(study, []);
      const late = the().make({ like: sent[0]! });
      await dimse.store([late]);
      await shows(study, [late]);
      await restored(study);
      await shows(study, [...sent, late]);
    }
  });

  test('purged: not in the trash, not to be restored', async () => {
    const { web } = the();
    const sent = await stored();
    const { study } = sent[0]!;
    await removed(pathOf({ study }));
    const { status, json } = await web.api<{ purged: number }>(`/trash/${study}`, 'DELETE');
    assert.equal(status, 200);
    assert.equal(json.purged, 5);
    assert.equal(await trashed(study), undefined);
    assert.equal((await web.api(`/trash/${study}/restore`, 'POST')).status, 404);
    await shows(study, []);
  });

  test('on hold: to the trash and back as ever, but nothing of it is purged until the hold is lifted', async () => {
    const { web } = the();
    const sent = await stored();
    const { study } = sent[0]!;
    const hold = `/studies/${study}/hold`;
    const held = await web.api<{ onHold: boolean }>(hold, 'PUT', { reason: 'an inquiry' });
    assert.deepEqual(held, { status: 200, json: { onHold: true } });
    try {
      await removed(pathOf({ study }));
      await shows(study, []);
      assert.equal((await web.api(`/trash/${study}`, 'DELETE')).status, 409);
      assert.equal(await restored(study), 5);
      await shows(study, sent);
      await removed(pathOf({ study }));
    } finally {
      assert.deepEqual(await web.api(hold, 'DELETE'), { status: 200, json: { onHold: false } });
    }
    const { status, json } = await web.api<{ purged: number }>(`/trash/${study}`, 'DELETE');
    assert.equal(status, 200);
    assert.equal(json.purged, 5);
    await shows(study, []);
  });
}

const PURGES_AT_ONCE = 8; // each waits for the index; together they wait for the same fold

/** What this run stored is taken back: a running archive is as it was, but for its log. */
export async function purgeAll({ web, studies }: Scene): Promise<void> {
  const left = [...studies];
  const purge = async () => {
    for (let study = left.pop(); study !== undefined; study = left.pop()) {
      const deleted = await web.remove(pathOf({ study }));
      assert.ok(deleted.status === 204 || deleted.status === 404, `deleting answered ${deleted.status}`);
      const purged = await web.api(`/trash/${study}`, 'DELETE');
      assert.ok(purged.status === 200 || purged.status === 404, `purging answered ${purged.status}`);
      assert.equal((await web.get(pathOf({ study }), AS_STORED)).status, 404);
    }
  };
  await Promise.all(Array.from({ length: PURGES_AT_ONCE }, purge));
}
