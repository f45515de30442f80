/**
 * By hand: what the archive costs in S3, on versitygw behind a proxy that counts and delays.
 *
 *     node tools/bench/objects.ts objects            requests and objects per 1,000 instances, before and after the keeper
 *     node tools/bench/objects.ts latency            instances/s and the answer's p99 against slow PUTs
 *     node tools/bench/objects.ts lanes [100000]     a start, a look and a keeper's run with so many closed lanes
 *
 * Figures of record: SCALE.md.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ulid } from 'ulid';
import { openArchiveIn } from '../../services/storage/adapters/s3/archive.ts';
import { MinioBucket } from '../../services/storage/adapters/s3/bucket.minio.ts';
import { realClockwork } from '../../services/storage/adapters/s3/bucket.ts';
import { closedLane } from '../../services/storage/adapters/s3/closed-lanes.testing.ts';
import { TEST_OPTIONS } from '../../services/storage/adapters/s3/options.testing.ts';
import { ask, onBucket, tell } from '../peers/bucket.testing.ts';
import { type GantryServer, startServer } from '../peers/server.ts';
import { DELAYS, type Delays, type S3Request, startS3, toxicS3 } from '../servers/index.ts';
import { send } from './measure.ts';

type Counts = Record<'PUT' | 'GET' | 'LIST' | 'HEAD' | 'DELETE' | 'other', number>;
const none = (): Counts => ({ PUT: 0, GET: 0, LIST: 0, HEAD: 0, DELETE: 0, other: 0 });
function kindOf({ method, path }: S3Request): keyof Counts {
  if (method === 'GET') return path.includes('list-type=2') ? 'LIST' : 'GET';
  return method === 'PUT' || method === 'HEAD' || method === 'DELETE' ? method : 'other';
}

let counts = none();
const s3 = await startS3({ kind: 'versitygw' });
const proxy = await toxicS3(s3.endpoint, {}, { onRequest: (request) => void counts[kindOf(request)]++ });
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const line = (...cells: (string | number)[]): void => say(`| ${cells.join(' | ')} |`);
const round = (n: number): string => n.toPrecision(3).replace(/e\+\d+$/, '') && String(Number(n.toPrecision(3)));
const header = (...cells: string[]): void => {
  line(...cells);
  line(...cells.map(() => '---'));
};
/** Each case has studies of its own. */
let run = 100;
let buckets = 0;

const [what = 'objects', size] = process.argv.slice(2);
try {
  if (what === 'lanes') await lanes(Number(size ?? 100_000));
  else if (what === 'latency') await latency();
  else await objects();
} finally {
  await proxy.close();
  await s3.close();
}

async function gantry(bucket: string, env: Record<string, string> = {}): Promise<GantryServer> {
  return startServer({
    env: {
      ...onBucket({ ...s3, endpoint: proxy.endpoint }, bucket),
      GANTRY_INDEX_SETTLE_MS: '1000',
      GANTRY_PLATFORM_LOG_LEVEL: 'warn',
      ...env,
    },
  });
}

async function newBucket(): Promise<string> {
  const name = `bench-${++buckets}`;
  await s3.createBucket(name);
  return name;
}

/** What stands in the bucket of the archive itself. */
function standing(bucket: string): { log: number; pack: number } {
  const under = (area: string): number => {
    try {
      return readdirSync(join(s3.dataDir, bucket, area), { recursive: true, withFileTypes: true }).filter((entry) =>
        entry.isFile(),
      ).length;
    } catch {
      return 0; // nothing was put there yet
    }
  };
  return { log: under('log'), pack: under('pack') };
}

/** A day ends: the lanes that this process wrote are closed, and the next one merges what they hold. */
async function nextDay(server: GantryServer): Promise<void> {
  await server.signal('SIGTERM');
  await server.restart();
}

async function settle(server: GantryServer, packs: number, bucket: string): Promise<void> {
  for (const until = Date.now() + 120_000; ; await new Promise((resolve) => setTimeout(resolve, 500))) {
    await ask(server, '/api/v1/compact', tell({}));
    if (standing(bucket).pack >= packs) return;
    if (Date.now() > until) throw new Error('the studies did not settle');
  }
}

async function objects(): Promise<void> {
  const instances = 1000;
  header(
    ...['senders', 'PUT delay', 'PUT', 'GET', 'LIST', 'HEAD', 'objects before', 'keeper: PUT', 'GET', 'LIST', 'DELETE'],
    ...['objects after: log', 'pack'],
  );
  const cases: { name: string; associations: number; study: number; days: number; delay: Delays; text: string }[] = [
    { name: '1 association a day, 50 images each', associations: 1, study: 50, days: 20, delay: [], text: '0' },
    ...[1, 4, 32].flatMap((associations) =>
      (
        [
          [DELAYS.none, '0'],
          [DELAYS.usual, '50 ms'],
        ] as const
      ).map(([delay, text]) => ({
        ...{ name: `${associations} at once, studies of 100`, associations, study: 100, days: 1, delay, text },
      })),
    ),
  ];
  for (const { name, associations, study, days, delay, text } of cases) {
    const bucket = await newBucket();
    const server = await gantry(bucket);
    const shape = { run: run++, instancesPerStudy: study, frames: 1 };
    const storing = none();
    for (let day = 0; day < days; day++) {
      if (day > 0) await nextDay(server);
      const count = instances / days;
      counts = none();
      proxy.set({ delay, only: isCommit });
      await send({ by: 'c-store', port: server.dimsePort, shape, from: day * count, count, associations });
      proxy.set({ delay: [] });
      for (const kind of Object.keys(storing) as (keyof Counts)[]) storing[kind] += counts[kind];
    }
    await nextDay(server);
    const before = standing(bucket);
    counts = none();
    await settle(server, instances / study, bucket);
    await ask(server, '/api/v1/reclaim', tell({ now: true }));
    await nextDay(server); // the keeper's own lane ends too
    await ask(server, '/api/v1/reclaim', tell({ now: true }));
    const kept = counts;
    const afterwards = standing(bucket);
    line(
      ...[name, text, storing.PUT, storing.GET, storing.LIST, storing.HEAD, before.log + before.pack],
      ...[kept.PUT, kept.GET, kept.LIST, kept.DELETE, afterwards.log, afterwards.pack],
    );
    await server.close();
    rmSync(join(s3.dataDir, bucket), { recursive: true });
  }
}

const isCommit = ({ method, path }: S3Request): boolean => method === 'PUT' && path.includes('/log/');

async function latency(): Promise<void> {
  header('PUT latency', 'lanes', 'associations', 'instances/s', 'p50 ms', 'p99 ms', 'PUTs per 1,000');
  const delays: [string, Delays, number][] = [
    ['0', DELAYS.none, 200],
    ['10 ms', DELAYS.near, 200],
    ['50 ms', DELAYS.usual, 150],
    ['200 ms', DELAYS.far, 60],
    ['10 ms, 1 % at 1 s', DELAYS.hiccups, 400],
  ];
  for (const laneCount of [1, 4]) {
    const bucket = await newBucket();
    const server = await gantry(bucket, { GANTRY_STORAGE_S3_LANES: String(laneCount) });
    const warm = { run: run++, instancesPerStudy: 100, frames: 1 };
    await send({ by: 'c-store', port: server.dimsePort, shape: warm, from: 0, count: 200, associations: 4 });
    for (const [text, delay, alone] of delays)
      for (const associations of [1, 32]) {
        proxy.set({ delay, only: isCommit });
        counts = none();
        const shape = { run: run++, instancesPerStudy: 100, frames: 1 };
        const count = associations === 1 ? alone : 1500;
        const account = await send({ by: 'c-store', port: server.dimsePort, shape, from: 0, count, associations });
        line(
          ...[text, laneCount, associations, round(account.instances / account.seconds)],
          ...[round(account.p50Ms), round(account.p99Ms), Math.round((counts.PUT / count) * 1000)],
        );
        proxy.set({ delay: [] });
      }
    await server.close();
    rmSync(join(s3.dataDir, bucket), { recursive: true });
  }
}

async function lanes(total: number): Promise<void> {
  const bucket = await newBucket();
  const old = Date.now() - 400 * 24 * 3_600_000;
  for (let i = 0; i < total; i++)
    for (const { key, bytes } of closedLane(ulid(old + i * 60_000), i)) {
      const path = join(s3.dataDir, bucket, key);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
    }
  say(`${total} closed lanes of two objects`);
  header('what', 'seconds', 'CPU s', 'GET', 'LIST', 'PUT');
  let lateMs = 0;
  const clockwork = { ...realClockwork, elapsedMs: () => performance.now() + lateMs };
  const { region, accessKey, secretKey } = s3;
  const open = async () => {
    const store = new MinioBucket({
      ...{ endpoint: s3.endpoint, region, accessKey, secretKey, accessKeyFile: '', secretKeyFile: '', caFile: '' },
      ...{ logBucket: bucket, packBucket: bucket, derivedBucket: bucket, pathStyle: true },
      ...{ requestMs: 60_000, requests: 64, onRequest: (operation: string) => void count(operation) },
    });
    return openArchiveIn(store, { ...TEST_OPTIONS, tableCacheBytes: 64 * 2 ** 20, lookMs: 1000, clockwork });
  };
  const count = (operation: string): void => {
    if (operation === 'get') counts.GET++;
    else if (operation === 'list') counts.LIST++;
    else if (operation === 'put') counts.PUT++;
  };
  const measured = async (text: string, work: () => Promise<unknown>): Promise<void> => {
    counts = none();
    const [began, cpu] = [performance.now(), process.cpuUsage()];
    await work();
    const { user, system } = process.cpuUsage(cpu);
    const seconds = (performance.now() - began) / 1000;
    line(text, round(seconds), round((user + system) / 1e6), counts.GET, counts.LIST, counts.PUT);
  };
  const keeper = await open();
  await measured('first start ever, nothing known', () => keeper.log.heads('main'));
  await measured('keeper: closing dead lanes', () => keeper.log.closeDeadLanes());
  await measured('keeper: segments, first time', () => keeper.log.segments('main'));
  await measured('keeper: segments, next run', () => keeper.log.segments('main'));
  lateMs += 3_600_001;
  await measured('keeper: an hour later, tells the others', () => keeper.log.closeDeadLanes());
  const reader = await open();
  let heads: Awaited<ReturnType<typeof reader.log.heads>> = [];
  await measured('start of a process', async () => (heads = await reader.log.heads('main')));
  await measured('a look', async () => {
    lateMs += 1001;
    for await (const _ of reader.log.read('main', heads, [], new AbortController().signal)) break;
  });
  await measured('segments, a new keeper', () => reader.log.segments('main'));
  await reader.close();
  await keeper.close();
}
