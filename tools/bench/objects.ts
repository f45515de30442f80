/**
 * By hand: what the archive costs in S3, on versitygw behind a proxy that counts and delays.
 *
 *     node tools/bench/objects.ts objects [case]     requests and objects per 1,000 instances, before and after the keeper
 *     node tools/bench/objects.ts latency [delay]    instances/s and the answer's p99 against slow PUTs; of one, more of them
 *     node tools/bench/objects.ts lanes [100000]     a start, a look and a keeper's run with so many closed lanes
 *
 * Figures of record: SCALE.md.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ulid } from 'ulid';
import { BULK } from '#platform/routes.ts';
import { openArchiveIn } from '../../services/storage/adapters/s3/archive.ts';
import { MinioBucket } from '../../services/storage/adapters/s3/bucket.minio.ts';
import { realClockwork } from '../../services/storage/adapters/s3/bucket.ts';
import { closedLane } from '../../services/storage/adapters/s3/closed-lanes.testing.ts';
import { TEST_OPTIONS } from '../../services/storage/adapters/s3/options.testing.ts';
import { compact, house, make, reclaim } from '../../services/storage/keeper/house.testing.ts';
import { onBucket } from '../peers/bucket.testing.ts';
import { type GantryServer, startServer } from '../peers/server.ts';
import { DELAYS, type Delays, type S3Request, startS3, toxicS3 } from '../servers/index.ts';
import { send } from './measure.ts';

type Counts = Record<'PUT' | 'GET' | 'LIST' | 'HEAD' | 'DELETE' | 'other', number>;
const none = (): Counts => ({ PUT: 0, GET: 0, LIST: 0, HEAD: 0, DELETE: 0, other: 0 });
function kindOf({ method, path }: S3Request): keyof Counts {
  if (method === 'GET') return path.includes('list-type=2') ? 'LIST' : 'GET';
  return method === 'PUT' || method === 'HEAD' || method === 'DELETE' ? method : 'other';
}

const isCommit = ({ method, path }: S3Request): boolean => method === 'PUT' && path.includes('/log/');

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
  else if (what === 'latency') await latency(size);
  else await objects(size);
} finally {
  await proxy.close();
  await s3.close();
}

async function gantry(bucket: string, env: Record<string, string> = {}): Promise<GantryServer> {
  return startServer({
    env: {
      ...onBucket({ ...s3, endpoint: proxy.endpoint }, bucket),
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

/**
 * Storage, index and keeper as they run, without doors: an association is somebody who sends the next instance once the last was answered.
 * A day ends with its process: its lanes are closed, and the next one merges what they hold.
 */
async function objects(only?: string): Promise<void> {
  header(
    ...['senders', 'PUT delay', 'PUT', 'GET', 'LIST', 'HEAD', 'objects before', 'keeper: PUT', 'GET', 'LIST', 'DELETE'],
    ...['objects after: log', 'pack'],
  );
  interface Case {
    name: string;
    associations: number;
    /** Instances of one. */
    study: number;
    days: number;
    instances: number;
    delay: Delays;
    text: string;
  }
  const delays = [
    [DELAYS.none, '0'],
    [DELAYS.near, '10 ms'],
    [DELAYS.usual, '50 ms'],
    [DELAYS.far, '200 ms'],
  ] as const;
  const cases: Case[] = [
    { name: '1 a day, a study of 50', associations: 1, study: 50, days: 20, instances: 1000, delay: [], text: '0' },
    { name: '1', associations: 1, study: 100, days: 1, instances: 1000, delay: [], text: 'any' },
    ...[4, 32].flatMap((associations) =>
      delays.map(([delay, text]) => ({
        ...{ name: String(associations), associations, study: 100, days: 1, instances: 1000, delay, text },
      })),
    ),
  ];
  for (const { name, associations, study, days, instances, delay, text } of cases) {
    if (only !== undefined && name !== only) continue;
    const per1000 = (n: number): number => Math.round((n / instances) * 1000);
    const bucket = await newBucket();
    const dataDir = mkdtempSync(join(tmpdir(), 'bench-objects-'));
    const env = onBucket({ ...s3, endpoint: proxy.endpoint }, bucket);
    const settings = {
      'storage.segmentBytes': '256MiB',
      'storage.s3.endpoint': proxy.endpoint,
      'storage.s3.bucket': bucket,
      'storage.s3.accessKeyFile': env.GANTRY_STORAGE_S3_ACCESS_KEY_FILE,
      'storage.s3.secretKeyFile': env.GANTRY_STORAGE_S3_SECRET_KEY_FILE,
    };
    const studies = new Set<string>();
    const storing = none();
    let next = 0;
    let context = await house({ dataDir, settings });
    const nextDay = async (): Promise<void> => {
      await context.stop();
      context = await house({ dataDir, settings });
    };
    for (let day = 0; day < days; day++) {
      if (day > 0) await nextDay();
      const end = (instances / days) * (day + 1);
      counts = none();
      proxy.set({ delay, only: isCommit });
      const append = context.bulk(BULK.appendInstance);
      const association = async (caller: number): Promise<void> => {
        while (next < end) {
          const n = next++;
          const uid = `1.2.826.0.1.3680043.10.999.${1 + Math.floor(n / study)}`;
          studies.add(uid);
          const { instance, file } = make({ study: uid, sop: `${uid}.${n}`, bytes: 2000 });
          await append(context.call({ requestId: `association-${caller}` }), { instance }, [file]);
        }
      };
      await Promise.all(Array.from({ length: associations }, (_, caller) => association(caller)));
      proxy.set({ delay: [] });
      for (const kind of Object.keys(storing) as (keyof Counts)[]) storing[kind] += counts[kind];
    }
    await nextDay();
    const before = standing(bucket);
    counts = none();
    for (const uid of studies) await compact(context, uid);
    await reclaim(context);
    await nextDay(); // the keeper's own lane ends too
    await reclaim(context);
    const kept = counts;
    await context.stop();
    const afterwards = standing(bucket);
    line(
      ...[name, text],
      ...[storing.PUT, storing.GET, storing.LIST, storing.HEAD, before.log + before.pack].map(per1000),
      ...[kept.PUT, kept.GET, kept.LIST, kept.DELETE, afterwards.log, afterwards.pack].map(per1000),
    );
    rmSync(dataDir, { recursive: true });
    rmSync(join(s3.dataDir, bucket), { recursive: true });
  }
}

async function latency(only?: string): Promise<void> {
  header('PUT latency', 'lanes', 'associations', 'instances/s', 'p50 ms', 'p99 ms', '≥ 1 s', 'PUTs per 1,000');
  const delays: [string, Delays, number][] = [
    ['0', DELAYS.none, 100],
    ['10 ms', DELAYS.near, 100],
    ['50 ms', DELAYS.usual, 100],
    ['200 ms', DELAYS.far, 40],
    ['10 ms, 1 % at 1 s', DELAYS.hiccups, 300],
  ];
  for (const laneCount of [1, 4]) {
    const bucket = await newBucket();
    const server = await gantry(bucket, { GANTRY_STORAGE_S3_LANES: String(laneCount) });
    const warm = { run: run++, instancesPerStudy: 100, frames: 0 };
    await send({ by: 'c-store', port: server.dimsePort, shape: warm, from: 0, count: 100, associations: 4 });
    for (const [text, delay, alone] of delays)
      for (const associations of [1, 32]) {
        if (only !== undefined && (!text.includes(only) || associations === 1)) continue;
        proxy.set({ delay, only: isCommit });
        counts = none();
        const shape = { run: run++, instancesPerStudy: 100, frames: 0 };
        const count = associations === 1 ? alone : only === undefined ? 1000 : 4000;
        const account = await send({ by: 'c-store', port: server.dimsePort, shape, from: 0, count, associations });
        line(
          ...[text, laneCount, associations, round(account.instances / account.seconds)],
          ...[
            round(account.p50Ms),
            round(account.p99Ms),
            `${round((account.lateAnswers / count) * 100)} %`,
            Math.round((counts.PUT / count) * 1000),
          ],
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
