import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type S3Kind, type S3Server, startS3 } from '../../../../tools/servers/index.ts';
import { MinioBucket } from './bucket.minio.ts';
import type { Row } from './bucket.ts';
import { parseListPage } from './list-page.ts';

test('keys come out as they were put, entities and all; anything else is no answer', () => {
  const page = parseListPage(
    '<?xml version="1.0"?><ListBucketResult xmlns="x"><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>' +
      '<CommonPrefixes><Prefix>log/</Prefix></CommonPrefixes><Contents><Key>a&amp;lt;%2f&#34;&#x41;</Key><Size>7</Size>' +
      '<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e1&quot;</ETag></Contents></ListBucketResult>',
  );
  const modifiedMs = Date.parse('2026-01-02T03:04:05Z');
  assert.deepEqual(page, {
    rows: [
      { key: 'a&lt;%2f"A', bytes: 7, modifiedMs, tag: 'e1' },
      { key: 'log/', bytes: 0, modifiedMs: 0 },
    ],
    next: 'a&b',
  });
  assert.deepEqual(parseListPage('<ListBucketResult/>'), { rows: [], next: '' });
  assert.throws(() => parseListPage('<html>a proxy says no</html>'));
});

for (const kind of ['versitygw', 'minio'] satisfies S3Kind[])
  describe(`a list of ${kind}`, () => {
    let server: S3Server;
    let bucket: MinioBucket;
    before(async () => {
      server = await startS3({ kind });
      await server.createBucket('names');
      const { endpoint, region, accessKey, secretKey } = server;
      bucket = new MinioBucket({
        ...{ endpoint, region, accessKey, secretKey, accessKeyFile: '', secretKeyFile: '', caFile: '' },
        ...{ logBucket: 'names', packBucket: 'names', derivedBucket: 'names' },
        ...{ pathStyle: true, requestMs: 10_000, requests: 16 },
      });
    });
    after(async () => {
      bucket.close();
      await server.close();
    });
    const all = async (prefix: string, options = {}): Promise<Row[]> =>
      (await Array.fromAsync(bucket.list(prefix, options))).flat();

    test('names of facts, pages, what comes after, folders', async () => {
      const facts = ['a%2fb.json', 'peers%2fWS%201.json', `~${'0'.repeat(64)}.json`, 'x_y-1.json'].map(
        (name) => `state/kv/main/${name}`,
      );
      for (const key of facts) await bucket.put(key, Buffer.from(key));
      const rows = await all('state/kv/');
      assert.deepEqual(
        rows.map(({ key }) => key),
        facts.sort(),
      );
      assert.ok(rows.every(({ tag, bytes, key }) => tag!.length > 8 && bytes === key.length));
      const same = rows[0]!.tag;
      await bucket.put(facts[0]!, Buffer.from(facts[0]!));
      assert.equal((await all(facts[0]!))[0]!.tag, same);
      await bucket.put(facts[0]!, Buffer.from(facts[0]!.toUpperCase()));
      assert.notEqual((await all(facts[0]!))[0]!.tag, same);
      const keys = Array.from({ length: 1003 }, (_, i) => `log/main/lane/${String(i + 1).padStart(16, '0')}.tar`);
      for (let from = 0; from < keys.length; from += 50)
        await Promise.all(keys.slice(from, from + 50).map((key) => bucket.put(key, Buffer.from('x'))));
      assert.deepEqual(
        (await all('log/main/lane/')).map(({ key }) => key),
        keys,
      );
      const beyond = await all('log/main/lane/', { after: 'log/main/lane/0000000000001001.~' });
      assert.deepEqual(
        beyond.map(({ key }) => key),
        keys.slice(1001),
      );
      assert.deepEqual(
        (await all('log/', { shallow: true })).map(({ key }) => key),
        ['log/main/'],
      );
      assert.deepEqual(await all('pack/'), []);
    });
  });
