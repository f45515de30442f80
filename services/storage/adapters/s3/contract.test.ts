import { after, before } from 'node:test';
import { type S3Kind, type S3Server, startS3 } from '../../../../tools/servers/index.ts';
import { type ArchiveBed, logStoreContract } from '../../log-store.contract.ts';
import { objectStoreContract } from '../../object-store.contract.ts';
import { openArchiveIn } from './archive.ts';
import { MinioBucket } from './bucket.minio.ts';
import { type Bucket, BucketError } from './bucket.ts';
import type { S3LogStore } from './log-store.ts';
import { TEST_OPTIONS } from './options.testing.ts';

/** versitygw everywhere; `GANTRY_S3=minio` gives the second opinion. */
const kind = (process.env.GANTRY_S3 ?? 'versitygw') as S3Kind;
let server: S3Server;
let buckets = 0;

before(async () => {
  server = await startS3({ kind });
});
after(() => server.close());

/** A killed process asks for nothing any more. */
function mortal(bucket: Bucket): Bucket & { kill(): void } {
  let dead = false;
  return new Proxy(bucket as Bucket & { kill(): void }, {
    get: (target, name) => {
      if (name === 'kill') return () => (dead = true);
      const method = target[name as keyof Bucket] as (...given: unknown[]) => unknown;
      return (...given: unknown[]) => {
        if (dead && name !== 'now') throw new BucketError('unclear', 'this process is dead');
        return method.apply(target, given);
      };
    },
  });
}

const onServer = async (): Promise<ArchiveBed> => {
  const name = `contract-${++buckets}`;
  await server.createBucket(name);
  const real: MinioBucket[] = [];
  const opened = new Map<unknown, { kill(): void }>();
  return {
    async open() {
      const { endpoint, region, accessKey, secretKey } = server;
      const bucket = new MinioBucket({
        ...{ endpoint, region, accessKey, secretKey, accessKeyFile: '', secretKeyFile: '', caFile: '' },
        ...{ logBucket: name, packBucket: name, derivedBucket: name },
        ...{ pathStyle: true, requestMs: 10_000, requests: 16 },
      });
      real.push(bucket);
      const handle = mortal(bucket);
      const archive = await openArchiveIn(handle, { ...TEST_OPTIONS, deadMs: 0 });
      await archive.log.closeDeadLanes();
      opened.set(archive, handle);
      return archive;
    },
    async abandon(archive) {
      await (archive.log as S3LogStore).sayAlive(); // else it counts as a stranger's for a day
      opened.get(archive)!.kill();
    },
    async dispose() {
      for (const bucket of real) bucket.close();
    },
  };
};

logStoreContract(`S3, ${kind}`, onServer);
objectStoreContract(`S3, ${kind}`, onServer);
