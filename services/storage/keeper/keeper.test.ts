import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { BULK } from '#platform/routes.ts';
import type { TestContext } from '#platform/testing.ts';
import {
  compact,
  folded,
  hold,
  house,
  keeperStatus,
  kindsOf,
  locate,
  make,
  purge,
  read,
  reclaim,
  restore,
  store,
  storeLarge,
  trash,
  verified,
} from './house.testing.ts';

const A = '1.2.826.0.1.1';
const B = '1.2.826.0.1.2';

async function withHouse(work: (context: TestContext) => Promise<void>, options: Parameters<typeof house>[0] = {}) {
  const context = await house(options);
  try {
    await work(context);
  } finally {
    await context.stop();
  }
}

/** Every file under data/archive in which the text stands. */
async function filesWith(context: TestContext, text: string): Promise<string[]> {
  const root = join(context.dataDir, 'archive');
  const found: string[] = [];
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true }))
    if (entry.isFile() && (await readFile(join(entry.parentPath, entry.name))).includes(text))
      found.push(join(entry.parentPath, entry.name).slice(root.length + 1));
  return found;
}
const objectOf = async (context: TestContext, study: string, sop: string): Promise<string> =>
  (await locate(context, study, sop))[0]!.place!.object;
/** The last segment of a lane is open until another commit comes. */
const seal = (context: TestContext) => store(context, { study: '1.9', sop: '1.9.1', text: `seal ${Math.random()}` });

async function flip(context: TestContext, object: string, offset: number): Promise<void> {
  const path = join(context.dataDir, 'archive', object);
  const bytes = await readFile(path);
  bytes[offset] = bytes[offset]! ^ 0x01;
  await writeFile(path, bytes);
}

for (const overGrpc of [false, true])
  test(`studies that arrived mixed are packed apart, read the same, and their segments go (${overGrpc ? 'gRPC' : 'direct'})`, () =>
    withHouse(
      async (context) => {
        const made = Array.from({ length: 12 }, (_, n) => ({
          study: n % 2 ? A : B,
          sop: `${n % 2 ? A : B}.1.${n}`,
          text: `${n % 2 ? 'alpha' : 'beta'} ${n}`,
          bytes: 5001,
        }));
        for (const one of made) await store(context, one);
        await seal(context);
        const before = await keeperStatus(context);
        for (const study of [A, B]) {
          const { instancesMoved, bytesMoved } = await compact(context, study);
          assert.equal(instancesMoved, 6);
          assert.ok(bytesMoved > 6 * 600);
        }
        assert.deepEqual(await compact(context, A), { instancesMoved: 0, bytesMoved: 0, copiesDropped: 0 });
        const { objectsRemoved, bytesFreed } = await reclaim(context);
        assert.equal(objectsRemoved, 12);
        assert.ok(bytesFreed > 12 * 5000);
        for (const one of made) {
          const [located] = await locate(context, one.study, one.sop);
          assert.match(located!.place!.object, /^pack\//);
          assert.deepEqual(await read(context, located!), make(one).file);
        }
        const packs = await filesWith(context, 'alpha');
        assert.equal(packs.length, 1);
        const listing = await promisify(execFile)('tar', ['-tf', join(context.dataDir, 'archive', packs[0]!)]);
        const names = listing.stdout.trim().split('\n');
        assert.equal(names.length, 6);
        assert.equal(listing.stderr, '');
        assert.ok(
          names.every((name) => name.startsWith(`${A}/${A}.1/`)),
          'a pack never mixes studies',
        );
        const after = await keeperStatus(context);
        assert.deepEqual([before.packs, after.packs, after.alarms], [0, 2, []]);
        assert.ok(after.logBytes < before.logBytes / 2 && after.packBytes > 12 * 5000);
        assert.deepEqual(kindsOf(await verified(context)), ['ok-summary']);
      },
      { overGrpc },
    ));

test('replaced bytes stay for deletionDelay, a file-by-file copy finds both forms, then they go', () =>
  withHouse(
    async (context) => {
      await store(context, { study: A, sop: `${A}.1.1` });
      await seal(context);
      const old = await objectOf(context, A, `${A}.1.1`);
      await compact(context, A);
      for (let i = 0; i < 2; i++) assert.equal((await reclaim(context, false)).objectsRemoved, 0);
      assert.ok((await keeperStatus(context)).reclaimableBytes > 600);
      const lane = join(context.dataDir, 'archive', old, '..');
      assert.deepEqual((await readdir(lane)).filter((name) => name.startsWith('0000000000000001')).sort(), [
        '0000000000000001.tar',
        '0000000000000001.toc.tar',
      ]);
      context.change({ 'keeper.deletionDelayMs': 1 });
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal((await reclaim(context, false)).objectsRemoved, 1);
      assert.deepEqual((await keeperStatus(context)).reclaimableBytes, 0);
    },
    { settings: { 'keeper.deletionDelayMs': '1h' } },
  ));

test('purged bytes go: from segments, from large objects, and from packs, which are written anew without them', () =>
  withHouse(async (context) => {
    const id = (n: number) => store(context, { study: A, sop: `${A}.1.${n}`, text: `secret ${n} of the patient` });
    const [one, two, three] = [await id(1), await id(2), await id(3)];
    const large = await storeLarge(context, { study: A, sop: `${A}.1.4`, text: 'secret 4 of the patient' });
    await compact(context, A);
    const pack = await objectOf(context, A, `${A}.1.2`);
    await trash(context, A, one, large.id);
    await purge(context, A, one, large.id);
    await seal(context);
    assert.equal((await reclaim(context)).objectsRemoved, 3, 'the segments: the pack still has live ones');
    assert.ok((await filesWith(context, 'secret 1 of')).length > 0);
    const { instancesMoved, copiesDropped } = await compact(context, A);
    assert.deepEqual([instancesMoved, copiesDropped], [2, 2]);
    assert.notEqual(await objectOf(context, A, `${A}.1.2`), pack);
    await reclaim(context);
    for (const n of [1, 4]) assert.deepEqual(await filesWith(context, `secret ${n} of`), []);
    for (const n of [2, 3]) assert.equal((await filesWith(context, `secret ${n} of`)).length, 1);
    assert.deepEqual(kindsOf(await verified(context)), ['ok-summary']);
    // Now all of the new pack.
    await purge(context, A, two, three);
    await compact(context, A);
    await reclaim(context);
    for (const n of [2, 3]) assert.deepEqual(await filesWith(context, `secret ${n} of`), []);
    assert.equal((await keeperStatus(context)).packs, 0);
    assert.deepEqual(kindsOf(await verified(context)), ['ok-summary']);
  }));

test('the audit trail has each removal: what went, of which study where one object is one study’s, and how much', () =>
  withHouse(async (context) => {
    await store(context, { study: A, sop: `${A}.1.1` });
    const large = await storeLarge(context, { study: A, sop: `${A}.1.2` });
    await seal(context);
    const segment = await objectOf(context, A, `${A}.1.1`);
    await trash(context, A, large.id);
    await purge(context, A, large.id);
    await compact(context, A);
    context.audit.recorded.splice(0);
    await reclaim(context);
    const removals = context.audit.recorded.map(({ event }) => event).filter(({ action }) => action === 'D');
    const of = (object: string) => removals.find(({ objects }) => objects.some(({ id }) => id === object));
    assert.deepEqual([of(segment)?.useCase, of(segment)?.outcome], ['keeper.thin', 0]);
    assert.equal(of(large.object)?.useCase, 'keeper.remove');
    assert.ok(of(large.object)!.objects.some(({ type, id }) => type === 'study' && id === A));
    for (const { detail } of removals) assert.ok(Number(detail?.bytes) > 0);
  }));

test('purged and never packed: the log says dropped before the segment is thinned', () =>
  withHouse(async (context) => {
    const id = await store(context, { study: A, sop: `${A}.1.1`, text: 'secret' });
    await trash(context, A, id);
    await purge(context, A, id);
    assert.equal((await reclaim(context)).objectsRemoved, 0, 'not settled: nobody has said that it may go');
    await compact(context, A);
    await reclaim(context);
    assert.deepEqual(await filesWith(context, 'secret '), []);
    assert.deepEqual(kindsOf(await verified(context)), ['ok-summary']);
  }));

test('what is in the trash is packed and comes back', () =>
  withHouse(async (context) => {
    const made = { study: A, sop: `${A}.1.1` };
    const id = await store(context, made);
    await trash(context, A, id);
    await compact(context, A);
    await seal(context);
    await reclaim(context);
    assert.deepEqual(await locate(context, A), []);
    await restore(context, A, id);
    assert.deepEqual(await read(context, (await locate(context, A))[0]!), make(made).file);
  }));

test('of equal copies one is kept: whichever of them is purged, before or after the others were dropped', () =>
  withHouse(async (context) => {
    const made = { study: A, sop: `${A}.1.1`, text: 'twin' };
    for (const late of [false, true]) {
      const study = late ? B : A;
      const twin = { ...made, study, sop: `${study}.1.1` };
      const [first, second, third] = [
        await store(context, twin),
        await store(context, twin),
        await store(context, twin),
      ];
      if (!late) await purge(context, study, first);
      assert.equal((await compact(context, study)).copiesDropped, 2);
      if (late) await purge(context, study, first); // the one that holds the bytes
      await seal(context);
      await compact(context, study);
      await reclaim(context);
      assert.deepEqual(await read(context, (await locate(context, study))[0]!), make(twin).file);
      // The same once more, and the purged one's bytes are not to be missed.
      const fourth = await store(context, twin);
      await purge(context, study, fourth);
      await compact(context, study);
      await seal(context);
      await reclaim(context);
      assert.deepEqual(await read(context, (await locate(context, study))[0]!), make(twin).file);
      assert.deepEqual(kindsOf(await verified(context)), ['ok-summary']);
      await purge(context, study, second, third);
      assert.deepEqual(await locate(context, study), []);
      await compact(context, study);
      await seal(context);
      await reclaim(context);
      assert.deepEqual(await filesWith(context, 'twin twin'), []);
      // Sent again it is a new arrival.
      await store(context, twin);
      assert.deepEqual(await read(context, (await locate(context, study))[0]!), make(twin).file);
      await compact(context, study);
      await purge(context, study, ...(await locate(context, study)).map(({ entry }) => entry!));
      await compact(context, study);
      await seal(context);
      await reclaim(context);
    }
  }));

test('nothing of a study on hold goes, purged or not; lifting the hold lets it go', () =>
  withHouse(async (context) => {
    const id = await store(context, { study: A, sop: `${A}.1.1`, text: 'evidence' });
    const two = await store(context, { study: A, sop: `${A}.1.2`, text: 'exhibit' });
    await compact(context, A);
    await purge(context, A, id);
    await hold(context, A, true);
    await seal(context);
    await compact(context, A);
    await purge(context, A, two);
    await compact(context, A);
    await reclaim(context);
    assert.equal((await filesWith(context, 'evidence evidence')).length, 1);
    assert.equal((await filesWith(context, 'exhibit exhibit')).length, 1);
    await hold(context, A, false);
    await compact(context, A);
    await reclaim(context);
    assert.deepEqual(await filesWith(context, 'evidence evidence'), []);
    assert.deepEqual(await filesWith(context, 'exhibit exhibit'), []);
  }));

test('a hold that comes after purged bytes were dropped keeps what is still there', () =>
  withHouse(async (context) => {
    const id = await store(context, { study: A, sop: `${A}.1.1`, text: 'evidence' });
    await purge(context, A, id);
    await compact(context, A);
    await hold(context, A, true);
    await seal(context);
    await reclaim(context);
    assert.ok((await filesWith(context, 'evidence evidence')).length > 0);
  }));

test('a damaged instance stays, raises an alarm, and does not keep the others from being packed', () =>
  withHouse(async (context) => {
    for (let n = 1; n <= 3; n++) await store(context, { study: A, sop: `${A}.1.${n}`, text: `picture ${n}` });
    await seal(context);
    const [damaged] = await locate(context, A, `${A}.1.2`);
    const { object, offset, length } = damaged!.place!;
    await flip(context, object, offset + length - 10);
    assert.equal((await compact(context, A)).instancesMoved, 2);
    const { alarms } = await keeperStatus(context);
    assert.equal(alarms.length, 1);
    assert.match(alarms[0]!, /^damaged-instance: .*1\.2\.826\.0\.1\.1\.1\.2 of study/);
    assert.equal(await objectOf(context, A, `${A}.1.2`), object);
    await reclaim(context);
    assert.equal((await read(context, damaged!)).length, length, 'kept for a person to look at');
    assert.deepEqual(kindsOf(await verified(context)), ['bad-digest', 'summary']);
    await flip(context, object, offset + length - 10);
    assert.equal((await compact(context, A)).instancesMoved, 1);
    assert.deepEqual((await keeperStatus(context)).alarms, []);
  }));

for (const where of ['log', 'pack'] as const)
  test(`the good copy of a damaged instance is never dropped (damage in the ${where})`, () =>
    withHouse(async (context) => {
      const made = { study: A, sop: `${A}.1.1`, text: 'twin' };
      await store(context, made);
      if (where === 'pack') await compact(context, A);
      const { object, offset, length } = (await locate(context, A))[0]!.place!;
      await store(context, made);
      await seal(context);
      await flip(context, object, offset + length - 10);
      for (let i = 0; i < 2; i++) await compact(context, A);
      await reclaim(context);
      if (where === 'log') {
        assert.deepEqual(await read(context, (await locate(context, A))[0]!), make(made).file, 'healed from its copy');
        assert.deepEqual((await keeperStatus(context)).alarms, []);
      } else {
        assert.equal((await keeperStatus(context)).alarms.length, 1);
        assert.equal((await filesWith(context, 'twin twin')).length, 2);
      }
    }));

test('a study of thousands comes in several rows and goes into several packs', () =>
  withHouse(
    async (context) => {
      const count = 2_100;
      const sops = Array.from({ length: count }, (_, n) => `${A}.1.${n}`);
      const positions = await Promise.all(
        sops.map(async (sop) => {
          const { instance, file } = make({ study: A, sop, bytes: 200 });
          return (await context.bulk(BULK.appendInstance)(context.call(), { instance }, [file])).response.position!;
        }),
      );
      await folded(context, positions);
      assert.equal((await compact(context, A)).instancesMoved, count);
      const located = await locate(context, A);
      assert.equal(located.length, count);
      const packs = new Set(located.map(({ place }) => place!.object));
      assert.ok(packs.size >= 3);
      for (const one of [located[0]!, located[1_000]!, located[2_099]!])
        assert.deepEqual(await read(context, one), make({ study: A, sop: one.sopInstanceUid, bytes: 200 }).file);
    },
    { settings: { 'storage.segmentBytes': '256MiB', 'keeper.packBytes': 500_000 } },
  ));

test('what has settled is packed by itself, a study of its own at a time, and finished studies are not looked at again', () =>
  withHouse(
    async (context) => {
      await store(context, { study: A, sop: `${A}.1.1` });
      await store(context, { study: B, sop: `${B}.1.1` });
      const packed = async () => {
        const located = [...(await locate(context, A)), ...(await locate(context, B))];
        return located.length === 2 && located.every(({ place }) => place!.object.startsWith('pack/'));
      };
      while (!(await packed())) await new Promise((resolve) => setImmediate(resolve));
      assert.equal((await keeperStatus(context)).packs, 2);
      assert.deepEqual(await compact(context, ''), { instancesMoved: 0, bytesMoved: 0, copiesDropped: 0 });
      assert.equal((await keeperStatus(context)).packs, 2);
    },
    { settings: { 'keeper.enabled': true, 'index.settleMs': 100 } },
  ));
