// Before a real server, with a real client: signatures hold, and each harm is what it says.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client } from 'minio';
import { DELAYS, type S3Server, startS3, type ToxicS3, toxicS3, withoutServers } from './index.ts';

const skip = await withoutServers('versitygw');
const BUCKET = 'bucket';
let s3: S3Server;
let proxy: ToxicS3;
/** Through the proxy; `straight` asks the server itself. */
let client: Client;
let straight: Client;

const clientAt = (endpoint: string) => {
  const { hostname, port } = new URL(endpoint);
  return new Client({
    ...{ endPoint: hostname, port: Number(port), useSSL: false, region: s3.region, partSize: 16 << 20 },
    ...{ accessKey: s3.accessKey, secretKey: s3.secretKey, retryOptions: { disableRetry: true } },
  });
};

before(async () => {
  if (skip !== false) return;
  s3 = await startS3({ kind: 'versitygw' });
  await s3.createBucket(BUCKET);
  proxy = await toxicS3(s3.endpoint);
  client = clientAt(proxy.endpoint);
  straight = clientAt(s3.endpoint);
});
after(async () => {
  await proxy?.close();
  await s3?.close();
});

const put = (key: string, text: string, by = client) => by.putObject(BUCKET, key, Buffer.from(text));
const read = async (key: string, by = straight) =>
  Buffer.concat(await (await by.getObject(BUCKET, key)).toArray()).toString();
const isThere = (key: string) =>
  straight.statObject(BUCKET, key).then(
    () => true,
    () => false,
  );

test('untouched: objects, ranges, lists, conditions, a multipart upload', { skip }, async () => {
  await put('a/one', 'one');
  assert.equal(await read('a/one', client), 'one');
  assert.equal(Buffer.concat(await (await client.getPartialObject(BUCKET, 'a/one', 1, 1)).toArray()).toString(), 'n');
  const twice = client.putObject(BUCKET, 'a/one', Buffer.from('two'), 3, { 'If-None-Match': '*' });
  await assert.rejects(twice, { code: 'PreconditionFailed' });
  const large = Buffer.alloc(20 << 20, 7);
  await client.putObject(BUCKET, 'a/large', large, large.length);
  assert.equal((await client.statObject(BUCKET, 'a/large')).size, large.length);
  const keys = (await client.listObjectsV2(BUCKET, 'a/', true).toArray()).map(({ name }: { name: string }) => name);
  assert.deepEqual(keys, ['a/large', 'a/one']);
  await client.removeObject(BUCKET, 'a/large');
  assert.equal(await isThere('a/large'), false);
});

test('late: no answer, nothing there, and then it is', { skip }, async () => {
  proxy.set({ lateMs: 300 });
  const done = proxy.next('late', ({ path }) => path.endsWith('/late'));
  await assert.rejects(put('late', 'zombie'));
  assert.equal(await isThere('late'), false);
  assert.equal((await done).method, 'PUT');
  assert.equal(await read('late'), 'zombie');
  assert.equal(proxy.counts.late, 1);
});

test('late, with a condition: who writes meanwhile has won', { skip }, async () => {
  const done = proxy.next('late');
  await assert.rejects(client.putObject(BUCKET, 'fenced', Buffer.from('zombie'), 6, { 'If-None-Match': '*' }));
  await put('fenced', 'fence');
  await done;
  assert.equal(await read('fenced'), 'fence');
});

test('an answer that is dropped: it is there all the same', { skip }, async () => {
  const done = proxy.next('dropAnswer');
  await assert.rejects(put('dropped', 'there'));
  await done;
  assert.equal(await read('dropped'), 'there');
});

test('silence that hangs: the client gives up by itself', { skip }, async () => {
  proxy.set({ silence: 'hang' });
  const done = proxy.next('dropAnswer');
  let answered = false;
  const answer = fetch(`${proxy.endpoint}/${BUCKET}/unsigned`, {
    method: 'PUT',
    body: 'x',
    signal: AbortSignal.timeout(300),
  });
  answer.then(
    () => (answered = true),
    // Asserted below.
    () => undefined,
  );
  await done;
  assert.equal(answered, false);
  await assert.rejects(answer, { name: 'TimeoutError' });
  proxy.set({ silence: 'close' });
});

test('reordered: the later write is done first', { skip }, async () => {
  proxy.set({ reorderMs: 20_000 });
  const done = proxy.next('reorder');
  const first = put('order', 'first');
  while (proxy.counts.reorder === 0) await read('a/one', client);
  await put('order', 'second');
  await first;
  await done;
  assert.equal(await read('order'), 'first');
});

test('alone, what is held goes on after its time', { skip }, async () => {
  proxy.set({ reorderMs: 10 });
  void proxy.next('reorder');
  await put('alone', 'x');
  assert.equal(await read('alone'), 'x');
});

test('unavailable: 503 SlowDown, and not applied', { skip }, async () => {
  const done = proxy.next('unavailable');
  await assert.rejects(put('busy', 'x'), /503/);
  await done;
  assert.equal(await isThere('busy'), false);
});

test('delays follow their distribution, chance its seed, and only what may be harmed is', { skip }, async () => {
  const run = async (seed: number) => {
    const other = await toxicS3(s3.endpoint, { unavailable: 0.5, only: ({ method }) => method === 'GET' }, { seed });
    const by = clientAt(other.endpoint);
    const answers: boolean[] = [];
    for (let i = 0; i < 24; i++) {
      await by.putObject(BUCKET, 'seeded', Buffer.from('x'));
      answers.push(await read('seeded', by).then(Boolean, () => false));
    }
    await other.close();
    return answers;
  };
  const [first, again, different] = [await run(7), await run(7), await run(8)];
  assert.deepEqual(first, again);
  assert.notDeepEqual(first, different);
  assert.ok(first.includes(true) && first.includes(false));

  proxy.set({ delay: [[1, 80]] });
  const began = performance.now();
  await put('slow', 'x');
  assert.ok(performance.now() - began >= 79);
  proxy.set({ delay: DELAYS.none });
  for (const delays of Object.values(DELAYS)) {
    const sum = delays.reduce((total, [chance]) => total + chance, 0);
    assert.ok(sum <= 1.0001);
  }
});

test('cut off below HTTP, and well again', { skip }, async () => {
  proxy.network.set({ partition: 'reset' });
  await assert.rejects(put('cut', 'x'));
  proxy.network.set({ partition: 'none' });
  await put('cut', 'x');
  assert.equal(await read('cut'), 'x');
});
