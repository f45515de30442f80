import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { ulid } from 'ulid';
import { DataService } from '#proto/storage/v1/storage.ts';
import { startS3 } from '../../../../tools/servers/index.ts';
import { ground, house, reclaim } from '../../keeper/house.testing.ts';
import { MinioBucket } from './bucket.minio.ts';
import { closedLane } from './closed-lanes.testing.ts';
import { writeClosedLanes } from './closed-lanes.ts';

/**
 * The keeper's own tests, the archive in a bucket. versitygw keeps objects as files: `<dataDir>/archive` becomes a link to the bucket, so
 * that what these tests look for or spoil in the folder is what the store has.
 */
const server = await startS3({ kind: 'versitygw' });
after(() => server.close());

const nameOf = (dataDir: string) => `keeper-${createHash('sha256').update(dataDir).digest('hex').slice(0, 20)}`;
function bucketOf(name: string): MinioBucket {
  const { endpoint, region, accessKey, secretKey } = server;
  return new MinioBucket({
    ...{ endpoint, region, accessKey, secretKey, accessKeyFile: '', secretKeyFile: '', caFile: '' },
    ...{ logBucket: name, packBucket: name, derivedBucket: name, pathStyle: true, requestMs: 10_000, requests: 16 },
  });
}

ground.tears = false;
ground.settings = async (dataDir) => {
  const name = nameOf(dataDir);
  const archive = join(dataDir, 'archive');
  const target = join(server.dataDir, name);
  const there = await realpath(archive).catch(() => undefined); // none yet: a house that starts anew
  if (there !== (await realpath(target).catch(() => target))) {
    await server.createBucket(name);
    if (there) {
      // The image of a killed house: it goes into a bucket of its own.
      const bucket = bucketOf(name);
      for (const entry of await readdir(there, { recursive: true, withFileTypes: true }))
        if (entry.isFile()) {
          const path = join(entry.parentPath, entry.name);
          await bucket.put(path.slice(there.length + 1), await readFile(path));
        }
      bucket.close();
      await rename(archive, `${archive}.copied`);
    }
    await symlink(target, archive);
  }
  const [accessKeyFile, secretKeyFile] = [join(dataDir, 'access-key'), join(dataDir, 'secret-key')];
  await writeFile(accessKeyFile, server.accessKey);
  await writeFile(secretKeyFile, `${server.secretKey}\n`);
  return {
    'storage.s3.endpoint': server.endpoint,
    'storage.s3.bucket': name,
    'storage.s3.accessKeyFile': accessKeyFile,
    'storage.s3.secretKeyFile': secretKeyFile,
  };
};

test('reclaim by hand has listed every lane before, also where no keeper runs of itself', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-reclaim-'));
  const first = await house({ dataDir });
  await first.stop();
  // What some keeper once knew: nothing older than this was there.
  const bucket = bucketOf(nameOf(dataDir));
  const before = ulid(Date.now() - 30 * 3_600_000).slice(0, 10);
  await writeClosedLanes(bucket, 'main', { before, lanes: [], stamp: '0'.repeat(16) });
  bucket.close();
  const copied = ulid(Date.now() - 300 * 3_600_000);
  for (const { key, bytes } of closedLane(copied, 7)) {
    await mkdir(dirname(join(dataDir, 'archive', key)), { recursive: true });
    await writeFile(join(dataDir, 'archive', key), bytes);
  }
  const second = await house({ dataDir });
  await reclaim(second);
  const { positions } = await second.client(DataService).heads(second.call(), {});
  assert.ok(positions.some(({ lane }) => lane === copied));
  await second.stop();
  await rm(dataDir, { recursive: true });
});

await import('../../keeper/keeper.test.ts');
await import('../../keeper/crash.test.ts');
await import('../../keeper/history.test.ts');
await import('../../keeper/verify.test.ts');
