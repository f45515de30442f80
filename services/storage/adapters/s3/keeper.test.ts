import { createHash } from 'node:crypto';
import { readdir, readFile, realpath, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after } from 'node:test';
import { startS3 } from '../../../../tools/servers/index.ts';
import { ground } from '../../keeper/house.testing.ts';
import { MinioBucket } from './bucket.minio.ts';

/**
 * The keeper's own tests, the archive in a bucket. versitygw keeps objects as files: `<dataDir>/archive` becomes a link to the bucket, so
 * that what these tests look for or spoil in the folder is what the store has.
 */
const server = await startS3({ kind: 'versitygw' });
after(() => server.close());

ground.tears = false;
ground.settings = async (dataDir) => {
  const name = `keeper-${createHash('sha256').update(dataDir).digest('hex').slice(0, 20)}`;
  const archive = join(dataDir, 'archive');
  const target = join(server.dataDir, name);
  const there = await realpath(archive).catch(() => undefined); // none yet: a house that starts anew
  if (there !== (await realpath(target).catch(() => target))) {
    await server.createBucket(name);
    if (there) {
      // The image of a killed house: it goes into a bucket of its own.
      const { endpoint, region, accessKey, secretKey } = server;
      const bucket = new MinioBucket({
        ...{ endpoint, region, accessKey, secretKey, accessKeyFile: '', secretKeyFile: '', caFile: '' },
        ...{ logBucket: name, packBucket: name, derivedBucket: name, pathStyle: true, requestMs: 10_000, requests: 16 },
      });
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

await import('../../keeper/keeper.test.ts');
await import('../../keeper/crash.test.ts');
await import('../../keeper/history.test.ts');
await import('../../keeper/verify.test.ts');
