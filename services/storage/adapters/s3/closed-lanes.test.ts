import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { ulid } from 'ulid';
import type { Position } from '#proto/storage/v1/log.ts';
import { type S3Server, startS3 } from '../../../../tools/servers/index.ts';
import { bytesOf, sampleEntry, sampleHold } from '../../log/sample.testing.ts';
import { entriesOf } from '../../log-store.contract.ts';
import { openArchiveIn, type S3Archive } from './archive.ts';
import { MinioBucket } from './bucket.minio.ts';
import { realClockwork } from './bucket.ts';
import { closedLane } from './closed-lanes.testing.ts';
import { TEST_OPTIONS } from './options.testing.ts';

/** What lanes cost that nobody writes any more: counted, on a real store. */
let server: S3Server;
before(async () => {
  server = await startS3({ kind: 'versitygw' });
});
after(() => server.close());
const HOUR_MS = 3_600_000;
const never = new AbortController().signal;

interface Bed {
  readonly name: string;
  /** Of all processes, by operation. */
  readonly requests: Map<string, number>;
  lateMs: number;
  open(): Promise<S3Archive>;
}

async function withBed(name: string, lanes: number, work: (bed: Bed) => Promise<void>): Promise<void> {
  await server.createBucket(name);
  const old = Date.now() - 72 * HOUR_MS;
  for (let i = 0; i < lanes; i++)
    for (const { key, bytes } of closedLane(ulid(old + i), i)) {
      const path = join(server.dataDir, name, key);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
    }
  const buckets: MinioBucket[] = [];
  const archives: S3Archive[] = [];
  const requests = new Map<string, number>();
  const bed: Bed = {
    name,
    requests,
    lateMs: 0,
    async open() {
      const { endpoint, region, accessKey, secretKey } = server;
      const bucket = new MinioBucket({
        ...{ endpoint, region, accessKey, secretKey, accessKeyFile: '', secretKeyFile: '', caFile: '' },
        ...{ logBucket: name, packBucket: name, derivedBucket: name, pathStyle: true, requestMs: 10_000, requests: 16 },
        onRequest: (operation) => requests.set(operation, (requests.get(operation) ?? 0) + 1),
      });
      buckets.push(bucket);
      const clockwork = { ...realClockwork, elapsedMs: () => performance.now() + bed.lateMs };
      const archive = await openArchiveIn(bucket, { ...TEST_OPTIONS, lookMs: 1000, clockwork });
      archives.push(archive);
      return archive;
    },
  };
  try {
    await work(bed);
  } finally {
    for (const archive of archives) await archive.close();
    for (const bucket of buckets) bucket.close();
  }
}

/** What a keeper does in a run, and then an hour later. */
async function keep(bed: Bed): Promise<void> {
  const keeper = await bed.open();
  await keeper.log.closeDeadLanes();
  await keeper.log.segments('main');
  bed.lateMs += HOUR_MS + 1;
  await keeper.log.closeDeadLanes();
}

/** A process that starts, reads, writes, and looks ten times; and a second run of a keeper. */
async function counted(name: string, lanes: number): Promise<Record<string, Record<string, number>>> {
  const found: Record<string, Record<string, number>> = {};
  await withBed(name, lanes, async (bed) => {
    await keep(bed);
    const count = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
      bed.requests.clear();
      const answer = await work();
      found[what] = Object.fromEntries([...bed.requests].sort());
      return answer;
    };
    const archive = await count('open', () => bed.open());
    const heads = await count('start', () => archive.log.heads('main'));
    assert.equal(heads.length, lanes);
    await count('append', () => archive.log.append('main', 'r', [sampleHold()]));
    await count('ten looks', async () => {
      for (let look = 0; look < 10; look++) {
        bed.lateMs += 1001;
        for await (const _ of archive.log.read('main', heads, [], never)) break;
      }
    });
    const rows = await count('segments', () => archive.log.segments('main'));
    assert.ok(rows.length > lanes);
    await count('an hour later', async () => {
      bed.lateMs += HOUR_MS;
      await archive.log.heads('main');
    });
    await count('keeper', async () => {
      const keeper = await bed.open();
      await keeper.log.heads('main');
      await keeper.log.closeDeadLanes();
      await keeper.log.segments('main');
    });
  });
  return found;
}

test('neither a start, nor a look, nor a keeper’s run costs more requests when there are more closed lanes', async () => {
  const few = await counted('few', 5);
  assert.deepEqual(await counted('many', 400), few);
  for (const [what, requests] of Object.entries(few))
    assert.ok((requests.list ?? 0) <= 16, `${what}: ${JSON.stringify(requests)}`);
});

test('nothing is missed: lanes that came late, that are open, that a copy brought, and a list that is lost or cut', () =>
  withBed('missed', 30, async (bed) => {
    await keep(bed);
    const all = async (archive: S3Archive): Promise<string[]> =>
      (await entriesOf(archive.log, 'main')).map(({ lane, sequence, n }) => `${lane}/${sequence}/${n}`).sort();
    const first = await bed.open();
    const { position } = await first.log.append('main', 'r', [sampleEntry(Buffer.alloc(100, 1))]);
    const expected = await all(first);
    assert.equal(expected.length, 61);
    const second = await bed.open();
    assert.deepEqual(await all(second), expected);
    assert.ok((await second.log.heads('main')).some(({ lane }: Position) => lane === position.lane));
    // An old lane that a copy brings: a keeper finds it within the hour, the others an hour after they are told.
    const path = (key: string): string => join(server.dataDir, 'missed', key);
    const copied = ulid(Date.now() - 300 * HOUR_MS);
    for (const { key, bytes } of closedLane(copied, 99)) {
      mkdirSync(dirname(path(key)), { recursive: true });
      writeFileSync(path(key), bytes);
    }
    const keeper = await bed.open();
    await keeper.log.closeDeadLanes();
    assert.ok((await keeper.log.heads('main')).some(({ lane }) => lane === copied));
    bed.lateMs += HOUR_MS;
    const more = [...expected, `${copied}/1/0`, `${copied}/2/0`].sort();
    assert.deepEqual(await all(second), more);
    for (const spoilt of [Buffer.from('cut'), Buffer.alloc(0)]) {
      writeFileSync(path('derived/lanes/main.json.gz'), spoilt);
      assert.deepEqual(await all(await bed.open()), more);
    }
  }));

test('a segment that another keeper thinned is looked for once, and then known', () =>
  withBed('thinned', 3, async (bed) => {
    await keep(bed);
    const one = await bed.open();
    const two = await bed.open();
    const [row] = await one.log.segments('main');
    assert.deepEqual((await two.log.segments('main'))[0], row);
    assert.equal(row!.state, 'sealed');
    await one.log.prepareThin('main', row!.object);
    await one.log.thin('main', row!.object);
    assert.equal((await one.log.segments('main'))[0]!.state, 'thinned');
    await assert.rejects(two.log.prepareThin('main', row!.object), { code: 'not-found' });
    assert.equal((await two.log.segments('main'))[0]!.state, 'thinned');
    assert.equal((await bytesOf(two.objects.read((await two.log.segments('main'))[0]!.object, 0, 512))).length, 512);
  }));

test('commits that were merged are read together, not asked for one by one', () =>
  withBed('merged', 0, async (bed) => {
    const writer = await bed.open();
    for (let i = 0; i < 30; i++) await writer.log.append('main', 'r', [sampleHold(`hold ${i}`)]);
    await writer.close();
    const keeper = await bed.open();
    const rows = await keeper.log.segments('main');
    assert.ok(rows.length <= 2);
    for (const { object } of rows) {
      await keeper.log.prepareThin('main', object);
      await keeper.log.thin('main', object);
    }
    const reader = await bed.open();
    bed.requests.clear();
    assert.equal((await entriesOf(reader.log, 'main')).length, 31);
    assert.ok(bed.requests.get('get')! <= 8, JSON.stringify([...bed.requests]));
  }));
