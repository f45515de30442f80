import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { type S3Server, startS3, type ToxicS3, toxicS3 } from '../../../../tools/servers/index.ts';
import { bytesOf, sampleEntry, sampleHold } from '../../log/sample.testing.ts';
import { entriesOf } from '../../log-store.contract.ts';
import { openArchiveIn, openS3Archive, type S3Archive, type S3ArchiveOptions } from './archive.ts';
import { MinioBucket, type S3Options } from './bucket.minio.ts';
import { BucketError } from './bucket.ts';
import { TEST_OPTIONS } from './options.testing.ts';

/** What a real store does on a bad day, between our client and versitygw. */
let server: S3Server;
let buckets = 0;
before(async () => {
  server = await startS3({ kind: 'versitygw' });
});
after(() => server.close());

const optionsOf = (at: Pick<S3Server, 'endpoint' | 'region' | 'accessKey' | 'secretKey'>, name: string): S3Options => ({
  ...{ endpoint: at.endpoint, region: at.region, accessKey: at.accessKey, secretKey: at.secretKey },
  ...{ accessKeyFile: '', secretKeyFile: '', caFile: '', pathStyle: true, requests: 16, requestMs: 400 },
  ...{ logBucket: name, packBucket: name, derivedBucket: name },
});

interface Bed {
  readonly name: string;
  readonly proxy: ToxicS3;
  /** Through the proxy. */
  readonly archive: S3Archive;
  /** Another process, straight to the store. */
  readonly other: S3Archive;
  readonly requests: string[];
}

/** `requestMs`: short where a test waits for it to be over, long where a part of 16 MiB must get through on a machine that is busy. */
async function withBed(
  work: (bed: Bed) => Promise<void>,
  over: Partial<S3ArchiveOptions> = {},
  requestMs = 400,
): Promise<void> {
  const name = `faults-${++buckets}`;
  await server.createBucket(name);
  const proxy = await toxicS3(server.endpoint, { lateMs: 1000, silence: 'hang' });
  const requests: string[] = [];
  const options = { ...TEST_OPTIONS, limits: { ...TEST_OPTIONS.limits, commitMs: 2500 }, ...over };
  const through = new MinioBucket({
    ...optionsOf({ ...server, endpoint: proxy.endpoint }, name),
    requestMs,
    onRequest: (operation, outcome) => requests.push(`${operation} ${outcome}`),
  });
  const straight = new MinioBucket(optionsOf(server, name));
  try {
    const archive = await openArchiveIn(through, options);
    const other = await openArchiveIn(straight, options);
    await work({ name, proxy, archive, other, requests });
    proxy.set({ unavailable: 0 });
    await archive.close();
    await other.close();
  } finally {
    through.close();
    straight.close();
    await proxy.close();
  }
}

const toLog = ({ path }: { path: string }): boolean => path.includes('/log/');
const isCode = (code: string) => (error: unknown) => error instanceof GantryError && error.code === code;
const reasonsOf = async ({ log }: S3Archive): Promise<string[]> =>
  (await entriesOf(log, 'main')).map(({ kind }) => (kind!.$case === 'hold' ? kind!.value.reason : kind!.$case));

test('a put whose answer is lost is asked again with the same bytes, read back, and counts once', () =>
  withBed(async ({ proxy, archive, other, requests }) => {
    await archive.log.append('main', 'r', [sampleHold('first')]);
    const done = proxy.next('dropAnswer', toLog);
    const { position } = await archive.log.append('main', 'r', [sampleHold('second')]);
    await done;
    assert.equal(position.sequence, 2, 'the lane goes on');
    assert.deepEqual(await reasonsOf(other), ['first', 'second']);
    assert.ok(requests.includes('put unclear') && requests.includes('put exists'), requests.join());
  }));

test('a put that is applied late is met by its own repetition', () =>
  withBed(async ({ proxy, archive, other }) => {
    await archive.log.append('main', 'r', [sampleHold('first')]);
    const done = proxy.next('late', toLog);
    await archive.log.append('main', 'r', [sampleHold('second')]);
    await done;
    await proxy.settled();
    assert.deepEqual(await reasonsOf(other), ['first', 'second']);
  }));

test('what stays unclear is refused, its lane ends, and a new one begins when the store answers', () =>
  withBed(
    async ({ proxy, archive, other, requests }) => {
      const first = await archive.log.append('main', 'r', [sampleHold('first')]);
      requests.length = 0;
      proxy.set({ unavailable: 1 });
      await assert.rejects(archive.log.append('main', 'r', [sampleEntry(randomBytes(100))]), isCode('unavailable'));
      const puts = requests.filter((request) => request === 'put unclear').length;
      assert.ok(puts > 1 && puts < 12, `${puts} tries: again, and no storm`);
      proxy.set({ unavailable: 0 });
      const next = await archive.log.append('main', 'r', [sampleHold('later')]);
      assert.notEqual(next.position.lane, first.position.lane);
      assert.deepEqual((await reasonsOf(other)).sort(), ['first', 'later']);
    },
    { limits: { ...TEST_OPTIONS.limits, commitMs: 1000 } },
  ));

test('a zombie that wakes finds its number taken; its waiters are answered from a new lane; nothing is lost or doubled', () =>
  withBed(
    async ({ archive, other }) => {
      const { position } = await archive.log.append('main', 'r', [sampleHold('first')]);
      await archive.log.sayAlive();
      assert.equal(await other.log.closeDeadLanes(), 1, 'another takes it for dead');
      assert.equal(await other.log.closeDeadLanes(), 0);
      const next = await archive.log.append('main', 'r', [sampleHold('second')]);
      assert.notEqual(next.position.lane, position.lane, 'being wrong costs a new lane');
      assert.deepEqual(
        (await entriesOf(other.log, 'main', [], [position.lane])).map(({ kind }) => kind!.$case),
        ['hold', 'closed'],
      );
      assert.deepEqual((await reasonsOf(other)).sort(), ['closed', 'first', 'second']);
      // Whoever lost it sees the closing too.
      assert.deepEqual((await reasonsOf(archive)).sort(), ['closed', 'first', 'second']);
    },
    { deadMs: 0 },
  ));

test('a closer meets the late commit of the dead, and counts it; what comes after the closing loses', () =>
  withBed(
    async ({ proxy, archive, other }) => {
      const { position } = await archive.log.append('main', 'r', [sampleHold('first')]);
      proxy.set({ lateMs: 3000 });
      const taken = proxy.next('late', toLog);
      const appended = archive.log.append('main', 'r', [sampleHold('slow')]);
      await archive.log.sayAlive();
      while (proxy.counts.late === 0) await new Promise((resolve) => setTimeout(resolve, 5)); // it is on its way
      assert.equal(await other.log.closeDeadLanes(), 1);
      const next = await appended;
      assert.notEqual(next.position.lane, position.lane);
      await taken;
      await proxy.settled();
      assert.deepEqual((await reasonsOf(other)).sort(), ['closed', 'first', 'slow']);
    },
    { deadMs: 0 },
  ));

test('a living process says which lanes it writes, and they are left alone', () =>
  withBed(async ({ archive, other }) => {
    await archive.log.append('main', 'r', [sampleHold()]);
    await archive.log.sealAged();
    assert.equal(await other.log.closeDeadLanes(), 0);
  }));

test('one slow put does not delay the others', () =>
  withBed(async ({ proxy, archive }) => {
    await archive.log.append('main', 'r', [sampleHold()]);
    const slow = proxy.next('late', toLog);
    let answered = false;
    const stuck = archive.log.append('main', 'slow', [sampleHold('stuck')]).then(() => (answered = true));
    while (proxy.counts.late === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    for (let i = 0; i < 5; i++) await archive.log.append('main', 'quick', [sampleHold(`quick ${i}`)]);
    assert.equal(answered, false, 'five are durable while one waits');
    await stuck;
    await slow;
  }));

test('a store that never answers costs each request its limit (storage.s3.requestMs), and readers are told', () =>
  withBed(async ({ proxy, archive }) => {
    const { places } = await archive.log.append('main', 'r', [sampleEntry(randomBytes(10_000))]);
    proxy.network.set({ partition: 'drop' });
    const { object, offset, length } = places[0]!;
    await assert.rejects(bytesOf(archive.objects.read(object, offset, length)), isCode('unavailable'));
    await assert.rejects(archive.log.heads('main'), isCode('unavailable'));
    await assert.rejects(entriesOf(archive.log, 'main', [], ['01ARZ3NDEKTSV4RRFFQ69G5FAV']), isCode('unavailable'));
    proxy.network.set({ partition: 'none' });
    assert.equal((await bytesOf(archive.objects.read(object, offset, length))).length, length, 'it heals by itself');
  }));

test('an upload that broke off is aborted by its age; a full store is believed for a while', () =>
  withBed(
    async ({ archive }) => {
      const body = async function* (): AsyncIterable<Buffer> {
        yield Buffer.alloc(20 * 1024 * 1024);
        throw new GantryError('cancelled', 'the sender left');
      };
      await assert.rejects(archive.objects.put('large/main/a/broken.dcm', body()), isCode('cancelled'));
      assert.equal(await archive.objects.sweepUploads(0), 0, 'it was aborted at once');
      assert.equal((await archive.room()).accepting, true);
    },
    {},
    10_000,
  ));

test('an upload of a killed process is swept', () =>
  withBed(async ({ name, archive }) => {
    const bucket = new MinioBucket(optionsOf(server, name));
    await (await bucket.beginUpload('large/main/a/killed.dcm')).part(1, Buffer.alloc(100));
    assert.equal(await archive.objects.sweepUploads(3_600_000), 0, 'it is young');
    assert.equal(await archive.objects.sweepUploads(-10_000), 1);
    assert.equal(await archive.objects.sweepUploads(-10_000), 0);
    bucket.close();
  }));

test('a large body in parts reads as it was put, and its key is taken', () =>
  withBed(
    async ({ archive }) => {
      const bytes = randomBytes(40 * 1024 * 1024 + 3);
      const pieces = async function* (): AsyncIterable<Buffer> {
        for (let at = 0; at < bytes.length; at += 777_777) yield bytes.subarray(at, at + 777_777);
      };
      assert.deepEqual(await archive.objects.put('large/main/a/big.dcm', pieces()), { bytes: bytes.length });
      assert.ok((await bytesOf(archive.objects.read('large/main/a/big.dcm', 0, bytes.length))).equals(bytes));
      assert.ok(
        (await bytesOf(archive.objects.read('large/main/a/big.dcm', 16_777_200, 5_000_000))).equals(
          bytes.subarray(16_777_200, 21_777_200),
        ),
      );
      await assert.rejects(archive.objects.put('large/main/a/big.dcm', pieces()), isCode('already-exists'));
    },
    {},
    10_000,
  ));

test('no room: refused, not accepting, and accepting again after a while', async () => {
  const name = `faults-${++buckets}`;
  await server.createBucket(name);
  const bucket = new MinioBucket(optionsOf(server, name));
  let now = 1_000_000;
  let full = true;
  const filled = new Proxy(bucket, {
    get(target, key) {
      if (key === 'put')
        return async (at: string, ...rest: [Buffer]) => {
          if (full && at.startsWith('log/')) throw new BucketError('full', 'no room');
          return target.put(at, ...rest);
        };
      const value = Reflect.get(target, key) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const archive = await openArchiveIn(filled, {
    ...TEST_OPTIONS,
    clockwork: {
      elapsedMs: () => now,
      pause: async () => {},
      random: Math.random,
      name: () => '01ARZ3NDEKTSV4RRFFQ69G5FAV',
    },
  });
  await assert.rejects(archive.log.append('main', 'r', [sampleHold()]), isCode('no-space'));
  assert.equal((await archive.room()).accepting, false);
  now += 10_000;
  assert.equal((await archive.room()).accepting, true);
  full = false;
  await archive.log.append('main', 'r', [sampleHold()]);
  await archive.close();
  bucket.close();
});

test('a store that ignores conditions is refused at the start, unless told otherwise', async () => {
  const rclone = await startS3({ kind: 'rclone' });
  try {
    await rclone.createBucket('unconditional');
    const options = { ...optionsOf(rclone, 'unconditional'), requestMs: 5000 };
    await assert.rejects(
      openS3Archive(options, TEST_OPTIONS),
      (error) =>
        error instanceof GantryError &&
        error.code === 'failed-precondition' &&
        /allowUnconditional/.test(error.message),
    );
    const archive = await openS3Archive(options, { ...TEST_OPTIONS, allowUnconditional: true });
    await archive.log.append('main', 'r', [sampleHold('taken')]);
    await archive.close();
  } finally {
    await rclone.close();
  }
});

test('a bucket that is not there, or keys that do not fit, are said before anything is stored', async () => {
  await assert.rejects(openS3Archive(optionsOf(server, 'not-there'), TEST_OPTIONS), /not-there|NoSuchBucket/);
  await assert.rejects(
    openS3Archive({ ...optionsOf(server, 'faults-1'), secretKey: 'wrong-secret' }, TEST_OPTIONS),
    /refuses it/,
  );
});
