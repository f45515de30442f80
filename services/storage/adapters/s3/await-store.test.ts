import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { type S3Kind, type S3Server, startS3 } from '../../../../tools/servers/index.ts';
import { sampleHold } from '../../log/sample.testing.ts';
import { entriesOf } from '../../log-store.contract.ts';
import { openS3Archive } from './archive.ts';
import type { S3Options } from './bucket.minio.ts';
import { TEST_OPTIONS } from './options.testing.ts';

const BUCKET = 'late';

/** A store that is gone, a start that waits for it, and the store's return once it was missed twice. */
async function begunWithout(
  kind: S3Kind,
  over: Partial<S3Options>,
  work: (opening: ReturnType<typeof openS3Archive>, told: GantryError[]) => Promise<void>,
): Promise<void> {
  const server: S3Server = await startS3({ kind });
  try {
    await server.createBucket(BUCKET);
    await server.node.kill();
    const told: GantryError[] = [];
    const missed = Promise.withResolvers<void>();
    const opening = openS3Archive(
      {
        ...{ endpoint: server.endpoint, region: server.region, pathStyle: true, requests: 16, requestMs: 5000 },
        ...{ accessKey: server.accessKey, secretKey: server.secretKey },
        ...{ accessKeyFile: '', secretKeyFile: '', caFile: '' },
        ...{ logBucket: BUCKET, packBucket: BUCKET, derivedBucket: BUCKET, ...over },
      },
      TEST_OPTIONS,
      (error, tries) => {
        assert.equal(tries, told.push(error));
        if (tries === 2) missed.resolve();
      },
    );
    opening.catch(() => undefined); // looked at below
    await Promise.race([missed.promise, opening]);
    await server.node.restart();
    await work(opening, told);
  } finally {
    await server.close();
  }
}

describe('an archive whose store is not there yet', () => {
  test('opens when it comes, and says meanwhile what it waits for', () =>
    begunWithout('versitygw', {}, async (opening, told) => {
      const archive = await opening;
      for (const { code, message } of told) {
        assert.equal(code, 'unavailable');
        assert.match(message, /no clear answer \(ECONN/);
      }
      await archive.log.append('main', 'r', [sampleHold('kept')]);
      assert.equal((await entriesOf(archive.log, 'main')).length, 1);
      await archive.close();
    }));

  for (const [what, over, said] of [
    ['keys that do not fit', { secretKey: 'wrong-secret' }, /refuses it/],
    ['a bucket that is not there', { logBucket: 'not-there' }, /NoSuchBucket/],
  ] as const)
    test(`${what}: known when it comes, and the start ends`, () =>
      begunWithout('versitygw', over, async (opening) => {
        await assert.rejects(opening, (error) => error instanceof GantryError && said.test(error.message));
      }));

  test('one that ignores conditions is refused when it comes', () =>
    begunWithout('rclone', {}, async (opening) => {
      await assert.rejects(opening, { code: 'failed-precondition', message: /allowUnconditional/ });
    }));
});
