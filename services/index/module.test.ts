import assert from 'node:assert/strict';
import { readdirSync, rmSync, truncateSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BULK } from '#platform/routes.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { IndexService, LocateRequest, StudyEvent } from '#proto/index/v1/index.ts';
import type { Entry, Position } from '#proto/storage/v1/log.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import { loadRole } from '../roles.ts';
import { collect, type Made, storeInstance } from './instances.testing.ts';

const STUDY = '1.2.826.0.1.1';
const SERIES = `${STUDY}.1`;
const made = (n: number, more: Partial<Made> = {}): Made => ({
  study: STUDY,
  series: SERIES,
  sop: `${SERIES}.${n}`,
  number: n,
  ...more,
});

async function house(options: Parameters<typeof createTestContext>[0] = {}): Promise<TestContext> {
  const { modules } = await loadRole('all');
  return createTestContext({
    modules: modules.filter(({ name }) => name === 'storage/data' || name === 'index'),
    ...options,
  });
}

async function store(context: TestContext, ...instances: Made[]): Promise<Position[]> {
  const answers = await Promise.all(instances.map((one) => storeInstance(context, context.call(), one)));
  return answers.map((one) => one.position!);
}

async function reached(context: TestContext, positions: Position[]): Promise<void> {
  const { reached: done } = await context.client(IndexService).await(context.call(), { positions, limitMs: 10_000 });
  assert.ok(done);
}

async function control(context: TestContext, ...kinds: NonNullable<Entry['kind']>[]): Promise<void> {
  const entries = kinds.map((kind) => ({ n: 0, stamp: '', kind }));
  const { positions } = await context.client(DataService).append(context.call(), { entries });
  await reached(context, positions);
}

const locate = (context: TestContext, request: Partial<LocateRequest>) =>
  collect(context.client(IndexService).locate(context.call(), LocateRequest.fromPartial(request)));
const counts = (context: TestContext) => context.client(IndexService).counts(context.call(), {});

async function bytesOf(body: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await collect(body));
}

async function metadata(context: TestContext, more: { series?: string; sop?: string } = {}) {
  const { response, body } = await context.bulk(BULK.metadata)(context.call(), {
    studyInstanceUid: STUDY,
    seriesInstanceUid: more.series ?? '',
    sopInstanceUid: more.sop ?? '',
    bulkDataRoot: 'http://archive/"dicom-web',
  });
  const text = (await bytesOf(body)).toString();
  return {
    ...response,
    instances:
      text === ''
        ? []
        : (JSON.parse(text) as Record<string, { vr: string; Value?: unknown[]; BulkDataURI?: string }>[]),
  };
}

for (const overGrpc of [false, true])
  test(`what was stored is found by whoever waits for its position (${overGrpc ? 'gRPC' : 'direct'})`, async () => {
    const context = await house({ overGrpc });
    try {
      await reached(
        context,
        await store(
          context,
          made(2),
          made(10),
          made(1),
          made(1, { series: `${STUDY}.2`, sop: `${STUDY}.2.1`, modality: 'SR' }),
        ),
      );
      const located = await locate(context, { studyInstanceUids: [STUDY], withHead: true });
      // By instance number, not as text; series by series.
      assert.deepEqual(
        located.map((one) => one.sopInstanceUid),
        [`${SERIES}.1`, `${SERIES}.2`, `${SERIES}.10`, `${STUDY}.2.1`],
      );
      assert.ok(located.every((one) => one.head.length > 0 && one.overlayJson.length === 0 && !one.rendition));
      // The place is where the bytes are.
      const { body } = await context.bulk(BULK.read)(context.call(), { places: [located[0]!.place!] });
      assert.equal((await bytesOf(body)).subarray(128, 132).toString(), 'DICM');
      const one = await locate(context, { sopInstanceUids: [`${STUDY}.2.1`] });
      assert.deepEqual(
        one.map((row) => row.seriesInstanceUid),
        [`${STUDY}.2`],
      );
      assert.deepEqual((await locate(context, { patientId: 'P1' })).length, 4);
      assert.deepEqual((await locate(context, { patientId: 'p1' })).length, 0);
      assert.deepEqual(await locate(context, { studyInstanceUids: ['1.9'] }), []);
      await assert.rejects(locate(context, {}), { code: 'invalid-argument' });
      const all = await counts(context);
      assert.deepEqual(
        [all.patients, all.studies, all.series, all.instances, all.inTrash, all.conflicts],
        [1, 1, 2, 4, 0, 0],
      );
      assert.equal(all.lagCommits, 0);
      assert.deepEqual(all.alarms, []);
    } finally {
      await context.stop();
    }
  });

test('await says so when a position is not reached in time', async () => {
  const context = await house();
  try {
    const positions = [{ lane: '01JUNKNOWN', sequence: 7 }];
    assert.deepEqual(await context.client(IndexService).await(context.call(), { positions, limitMs: 5 }), {
      reached: false,
    });
    // The setting bounds what anybody asks for.
    context.change({ 'index.awaitMaxMs': 5 });
    assert.deepEqual(await context.client(IndexService).await(context.call(), { positions, limitMs: 1_000_000_000 }), {
      reached: false,
    });
  } finally {
    await context.stop();
  }
});

test('deleted is in the trash, restored is back, arriving again is live again, purged is gone', async () => {
  const context = await house();
  try {
    const index = context.client(IndexService);
    await reached(context, await store(context, made(1), made(2)));
    const entries = async (inTrash: boolean) =>
      collect(
        index.entries(context.call(), { studyInstanceUid: STUDY, seriesInstanceUid: '', sopInstanceUid: '', inTrash }),
      );
    const first = (await entries(false)).map((one) => one.id!);
    assert.equal(first.length, 2);
    const deletion = { entries: first, studyInstanceUid: STUDY, reason: 'wrong patient', actor: 'ana', purge: false };
    await control(context, { $case: 'delete', value: deletion });
    assert.deepEqual(await locate(context, { studyInstanceUids: [STUDY] }), []);
    assert.equal((await metadata(context)).found, false);
    const [row] = await collect(index.trash(context.call(), { studyInstanceUid: '' }));
    assert.deepEqual([row!.instances, row!.actor, row!.reason, row!.entries.length], [2, 'ana', 'wrong patient', 2]);
    assert.match(row!.deletedAt, /^20\d\d-.*Z$/);
    assert.deepEqual((await counts(context)).patients, 0);

    await control(context, {
      $case: 'restore',
      value: { entries: [first[0]!], studyInstanceUid: STUDY, actor: 'ana' },
    });
    assert.deepEqual(
      (await locate(context, { studyInstanceUids: [STUDY] })).map((one) => one.entry),
      [first[0]],
    );
    // Sent again: live again, whatever the trash says of its older entry.
    await reached(context, await store(context, made(2)));
    assert.equal((await locate(context, { studyInstanceUids: [STUDY] })).length, 2);
    assert.equal((await counts(context)).inTrash, 0);
    assert.equal((await metadata(context)).instances.length, 2);

    const all = [...(await entries(false)), ...(await entries(true))].map((one) => one.id!);
    assert.equal(all.length, 3);
    await control(context, { $case: 'delete', value: { ...deletion, entries: all, purge: true } });
    await control(context, { $case: 'restore', value: { entries: all, studyInstanceUid: STUDY, actor: 'ana' } });
    assert.deepEqual(await locate(context, { studyInstanceUids: [STUDY] }), []);
    const fates = await collect(
      index.fates(context.call(), { studyInstanceUid: STUDY, entries: [...all, { lane: 'x', sequence: 1, n: 0 }] }),
    );
    assert.deepEqual(fates.map((one) => one.state).sort(), ['purged', 'purged', 'purged', 'unknown']);
  } finally {
    await context.stop();
  }
});

test('other bytes under one UID: the first shows, the conflict is told, a decision settles it; equal bytes are one', async () => {
  const context = await house();
  try {
    const index = context.client(IndexService);
    await reached(context, await store(context, made(1)));
    await reached(context, await store(context, made(1)));
    assert.equal((await counts(context)).conflicts, 0);
    await reached(context, await store(context, made(1, { pixel: 9, patientName: 'Roe^Rich' })));
    const shown = await locate(context, { studyInstanceUids: [STUDY] });
    assert.equal(shown.length, 1);
    const conflicts = await collect(index.conflicts(context.call(), { studyInstanceUid: '' }));
    assert.deepEqual(
      conflicts.map((one) => [one.kind, one.sopInstanceUid, one.entries.length]),
      [['versions', `${SERIES}.1`, 2]],
    );
    const other = conflicts[0]!.entries.find((id) => id.sequence !== shown[0]!.entry!.sequence)!;
    await control(context, {
      $case: 'decision',
      value: { subject: STUDY, entries: [other], verdict: 'show', actor: 'ana' },
    });
    assert.deepEqual(
      (await locate(context, { studyInstanceUids: [STUDY] })).map((one) => one.entry),
      [other],
    );
    assert.equal((await counts(context)).conflicts, 0);
    const [settled] = await collect(index.settled(context.call(), { limit: 0, studyInstanceUid: STUDY }));
    assert.deepEqual([settled!.live.length, settled!.spare.length, settled!.purged.length], [2, 1, 0]);
    // The same SOP instance in another study is served in both, and told.
    await reached(context, await store(context, made(1, { study: `${STUDY}.9`, series: `${STUDY}.9.1` })));
    assert.equal((await locate(context, { sopInstanceUids: [`${SERIES}.1`] })).length, 2);
    const told = await collect(index.conflicts(context.call(), { studyInstanceUid: `${STUDY}.9` }));
    assert.deepEqual(
      told.map((one) => one.kind),
      ['shared-uid'],
    );
  } finally {
    await context.stop();
  }
});

test('corrections and merges show in metadata and travel with what is located; the original stays', async () => {
  const context = await house();
  try {
    await reached(context, await store(context, made(1), made(2)));
    const json = {
      '00100010': { vr: 'PN', Value: [{ Alphabetic: 'Right^Name' }] },
      '00080018': { vr: 'UI', Value: ['9.9'] },
    };
    await control(
      context,
      {
        $case: 'overlay',
        value: {
          studyInstanceUid: STUDY,
          seriesInstanceUid: '',
          sopInstanceUid: `${SERIES}.2`,
          dataSetJson: Buffer.from(JSON.stringify(json)),
          reason: '',
          actor: '',
        },
      },
      {
        $case: 'identity',
        value: { kind: 'merge', fromPatient: 'P1', fromIssuer: '', toPatient: 'P2', toIssuer: 'HOSP', actor: '' },
      },
    );
    const { instances } = await metadata(context);
    assert.deepEqual(
      instances.map((one) => [
        one['00080018']!.Value![0],
        one['00100010']!.Value![0],
        one['00100020']!.Value![0],
        one['00100021']!.Value![0],
      ]),
      [
        [`${SERIES}.1`, { Alphabetic: 'Doe^Jane' }, 'P2', 'HOSP'],
        [`${SERIES}.2`, { Alphabetic: 'Right^Name' }, 'P2', 'HOSP'],
      ],
    );
    const located = await locate(context, { patientId: 'P2' });
    assert.deepEqual(Object.keys(JSON.parse(located[1]!.overlayJson.toString()) as object).sort(), [
      '00100010',
      '00100020',
      '00100021',
    ]);
    assert.deepEqual(await locate(context, { patientId: 'P1' }), []);
  } finally {
    await context.stop();
  }
});

const settledEvent = (context: TestContext): Promise<StudyEvent> =>
  new Promise((resolve) =>
    context.wake.subscribe('study.settled', (_tenant, payload) => resolve(StudyEvent.decode(payload))),
  );

test('metadata: whole from the first second, the same when settled, after a restart, and when its object was lost or torn', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-index-'));
  const nested = {
    vr: 'SQ',
    Value: [{ '54001010': { vr: 'OW', InlineBinary: Buffer.alloc(70_000, 7).toString('base64') } }],
  };
  try {
    let context = await house({ dataDir, settings: { 'index.settleMs': 100 } });
    const event = settledEvent(context);
    await reached(
      context,
      await store(
        context,
        ...Array.from({ length: 70 }, (_, n) => made(n + 1, n === 0 ? { more: { '54000100': nested } } : {})),
        ...[1, 2].map((n) => made(n, { series: `${STUDY}.2`, sop: `${STUDY}.2.${n}` })),
      ),
    );
    const fresh = await metadata(context);
    assert.equal(fresh.instances.length, 72);
    const root = `http://archive/"dicom-web/studies/${STUDY}/series/${SERIES}/instances/${SERIES}.1/bulkdata/`;
    assert.equal(
      (fresh.instances[0]!['54000100']!.Value as typeof fresh.instances)[0]!['54001010']!.BulkDataURI,
      `${root}54000100/1/54001010`,
    );
    assert.equal(fresh.instances[0]!['7FE00010']!.BulkDataURI, `${root}7FE00010`);
    assert.deepEqual(await event, { tenant: 'main', studyInstanceUid: STUDY });
    assert.deepEqual((await metadata(context)).instances, fresh.instances);
    assert.equal((await metadata(context, { sop: `${SERIES}.5` })).instances.length, 1);
    assert.equal((await metadata(context, { series: '1.9' })).found, false);
    assert.equal((await context.jobs.list('study.settled')).length, 1);
    await context.stop();

    const objects = () =>
      readdirSync(join(dataDir, 'derived', 'metadata'), { recursive: true, withFileTypes: true }).filter((one) =>
        one.isFile(),
      );
    assert.equal(objects().length, 2);
    context = await house({ dataDir });
    assert.deepEqual((await metadata(context)).instances, fresh.instances);
    await context.stop();

    const [object] = objects();
    truncateSync(join(object!.parentPath, object!.name), 1000);
    context = await house({ dataDir });
    assert.deepEqual((await metadata(context)).instances, fresh.instances);
    await context.stop();
    rmSync(join(dataDir, 'derived', 'metadata'), { recursive: true });
    context = await house({ dataDir, settings: { 'index.settleMs': 100 } });
    assert.deepEqual((await metadata(context)).instances, fresh.instances);
    assert.ok(
      (await locate(context, { studyInstanceUids: [STUDY], withHead: true })).every((one) => one.head.length > 0),
    );
    await context.stop();
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});

test('an index that is lost, damaged, of another policy or behind is built again from the log; rebuilding while in use changes nothing', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-index-'));
  const derived = join(dataDir, 'derived');
  const files = () => readdirSync(derived).filter((name) => name.endsWith('.sqlite'));
  try {
    let context = await house({ dataDir });
    const positions = await store(context, ...Array.from({ length: 40 }, (_, n) => made(n + 1)), made(1, { pixel: 3 }));
    await reached(context, positions);
    const before = await locate(context, { studyInstanceUids: [STUDY] });
    const progress = await collect(context.client(IndexService).rebuild(context.call(), {}));
    assert.deepEqual(progress.at(-1)!.done, true);
    assert.equal(progress.at(-1)!.instances, 41);
    assert.deepEqual(await locate(context, { studyInstanceUids: [STUDY] }), before);
    assert.deepEqual(files(), ['index-2.sqlite']);
    await reached(context, await store(context, made(41)));
    assert.equal((await locate(context, { studyInstanceUids: [STUDY] })).length, 41);
    await context.stop();

    for (const spoil of [
      () => rmSync(join(derived, files()[0]!)),
      () => truncateSync(join(derived, files()[0]!), 5000),
    ]) {
      spoil();
      context = await house({ dataDir });
      await reached(context, positions);
      assert.deepEqual((await locate(context, { studyInstanceUids: [STUDY] })).slice(0, 40), before);
      await context.stop();
    }
    context = await house({ dataDir, settings: { 'index.versionPolicy': 'newest-wins' } });
    await reached(context, positions);
    const newest = await locate(context, { sopInstanceUids: [`${SERIES}.1`] });
    assert.notDeepEqual(newest[0]!.version, before[0]!.version);
    await context.stop();
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});
