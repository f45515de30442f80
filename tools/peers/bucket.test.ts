// A bucket alone, or a folder copied into one, is the whole archive; and the index is built again from it while it serves.
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type S3Server, startS3 } from '../servers/index.ts';
import { ask, configure, everything, findings, onBucket, tell } from './bucket.testing.ts';
import { make, stow } from './dicomweb.testing.ts';
import { type GantryServer, startServer } from './server.ts';

const temporary = (): string => mkdtempSync(join(tmpdir(), 'gantry-bucket-'));
const QUICK = { GANTRY_STORAGE_SMALL_LIMIT: '64KiB', GANTRY_INGEST_STREAM_BYTES: '64KiB' };

/** Small ones, a large one, one in two versions; a study in the trash, one that came back from it, one purged; packed, and thinned. */
async function live(server: GantryServer): Promise<void> {
  const first = make();
  const study = (count: number) => {
    const { study: uid, series } = make();
    return Array.from({ length: count }, (_, i) => make({ study: uid, series, name: `Curie^${i}` }));
  };
  const [kept, trashed, restored, purged] = [study(4), study(2), study(3), study(2)];
  const large = make({ extra: { '00204000': { vr: 'UT', Value: ['x'.repeat(200_000)] } } });
  for (const part of [first, large, ...kept, ...trashed, ...restored, ...purged])
    assert.equal((await stow(server, [part.bytes])).status, 200);
  for (const [one] of [trashed, restored, purged])
    await ask(server, `/dicom-web/studies/${one!.study}`, { method: 'DELETE' });
  await ask(server, `/api/v1/trash/${restored[0]!.study}/restore`, tell({}));
  await ask(server, `/api/v1/trash/${purged[0]!.study}`, { method: 'DELETE' });
  await ask(server, '/api/v1/compact', tell({ studyInstanceUid: kept[0]!.study }));
  await ask(server, '/api/v1/compact', tell({ studyInstanceUid: restored[0]!.study }));
  await ask(server, '/api/v1/reclaim', tell({ now: true }));
}

const filesOf = (root: string): string[] =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));

describe('a bucket', { timeout: 300_000 }, () => {
  let s3: S3Server;
  before(async () => {
    s3 = await startS3({ kind: 'versitygw' });
  });
  after(() => s3.close());
  const factIn = (dataDir: string): string =>
    JSON.parse(readFileSync(join(dataDir, 'state/kv/main/peers%2fWS.json'), 'utf8')).text;

  /** A folder into a bucket as any tool copies it: `archive/…` to the top, `state/…` as it is; `derived` stays behind. */
  function upload(dataDir: string, bucket: string): void {
    const target = join(s3.dataDir, bucket); // versitygw keeps objects as files
    cpSync(join(dataDir, 'archive'), target, { recursive: true });
    cpSync(join(dataDir, 'state'), join(target, 'state'), { recursive: true });
  }
  function download(bucket: string, dataDir: string): void {
    const source = join(s3.dataDir, bucket);
    for (const path of filesOf(source)) {
      if (path.startsWith('derived/') || path.startsWith('.')) continue;
      const target = join(dataDir, path.startsWith('state/') ? path : join('archive', path));
      mkdirSync(dirname(target), { recursive: true });
      cpSync(join(source, path), target);
    }
  }

  test('alone, with an empty data directory, becomes the same archive: trash, packs, facts, every byte', async () => {
    await s3.createBucket('alone');
    const dataDir = temporary();
    configure(dataDir, 'peers/WS', 'old');
    const one = await startServer({ dataDir, env: { ...QUICK, ...onBucket(s3, 'alone') } });
    let before: Record<string, unknown>;
    try {
      await live(one);
      before = await everything(one);
      assert.equal((before.studies as string[]).length, 4);
      assert.equal((before.trash as string[]).length, 1);
    } finally {
      await one.close();
    }
    const areas = new Set(filesOf(join(s3.dataDir, 'alone')).map((path) => path.split('/')[0]));
    for (const area of ['log', 'pack', 'large', 'state']) assert.ok(areas.has(area), area);
    rmSync(dataDir, { recursive: true });
    const empty = temporary();
    const two = await startServer({ dataDir: empty, env: { ...QUICK, ...onBucket(s3, 'alone') } });
    try {
      assert.deepEqual(await everything(two), before);
      assert.equal(factIn(empty), 'old');
      // And it is written on.
      const more = make();
      assert.equal((await stow(two, [more.bytes])).status, 200);
      assert.equal(((await everything(two)).studies as string[]).length, 5);
      assert.deepEqual(await findings(two), []);
      // The index again from the bucket, while questions are answered.
      const expected = await everything(two);
      const rebuilt = ask<{ done: boolean; instances: number }>(two, '/api/v1/rebuild', tell({}));
      let answers = 0;
      let over = false;
      const asking = (async () => {
        while (!over) {
          assert.deepEqual(await everything(two), expected);
          answers++;
        }
      })();
      assert.equal((await rebuilt).done, true);
      over = true;
      await asking;
      assert.ok(answers > 0);
      assert.deepEqual(await everything(two), expected);
    } finally {
      await two.close();
      rmSync(empty, { recursive: true });
    }
  });

  test('a spine’s folder becomes a bucket’s archive, is written on there, and comes back', async () => {
    await s3.createBucket('copied');
    const spine = temporary();
    configure(spine, 'peers/WS', 'of the spine');
    const disk = await startServer({ dataDir: spine, env: QUICK });
    let before: Record<string, unknown>;
    try {
      await live(disk);
      before = await everything(disk);
    } finally {
      await disk.close();
    }
    upload(spine, 'copied');
    const dataDir = temporary();
    const cloud = await startServer({ dataDir, env: { ...QUICK, ...onBucket(s3, 'copied') } });
    let later: Record<string, unknown>;
    try {
      assert.deepEqual(await everything(cloud), before);
      assert.equal(factIn(dataDir), 'of the spine');
      await live(cloud);
      later = await everything(cloud);
      assert.equal((later.studies as string[]).length, 8);
    } finally {
      await cloud.close();
    }
    const back = temporary();
    download('copied', back);
    assert.ok(!existsSync(join(back, 'derived')));
    assert.equal(factIn(back), 'of the spine');
    const again = await startServer({ dataDir: back, env: QUICK });
    try {
      assert.deepEqual(await everything(again), later);
      assert.deepEqual(await findings(again), []);
    } finally {
      await again.close();
    }
    for (const folder of [spine, dataDir, back]) rmSync(folder, { recursive: true });
  });
});
