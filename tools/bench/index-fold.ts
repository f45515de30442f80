/**
 * By hand: what an instance costs in the index, in Elasticsearch or SQLite: CPU, bytes on disk, fold by fold and once settled.
 *
 *     node tools/bench/index-fold.ts elasticsearch|sqlite [--shape ct|plain] [--instances N] [--commits N] [--per-commit N] [--fold-only]
 *
 * `--commits` is how many commits one fold gets: many when it catches up or rebuilds, one or two when it keeps up. ELASTICSEARCH_URL names a
 * node; without it one is started (tools/servers, full JIT, 2 GB of heap). Figures of record: SCALE.md.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseArgs } from 'node:util';
import { Client } from '@elastic/elasticsearch';
import '#platform/young-buffers.ts'; // V8's settings are those of every role
import { optionsOf } from '../../services/index/adapters/elasticsearch/options.testing.ts';
import { ElasticIndexStore } from '../../services/index/adapters/elasticsearch/store.ts';
import { SqliteIndexStore } from '../../services/index/adapters/sqlite/store.ts';
import type { IndexStore } from '../../services/index/ports.ts';
import { startElasticsearch } from '../servers/index.ts';
import { LogBeside, msOf, type Shape, TENANT } from './log-entries.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shape: { type: 'string', default: 'ct' },
    instances: { type: 'string', default: '200000' },
    commits: { type: 'string', default: '64' },
    'per-commit': { type: 'string', default: '64' },
    'fold-only': { type: 'boolean', default: false },
  },
});
const total = Number(values.instances);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

interface Bench {
  store: IndexStore;
  /** CPU seconds of the server behind the index role so far; 0 where there is none. */
  serverCpu(): number;
  /** Bytes on disk by part. */
  sizes(): Promise<[name: string, bytes: number][]>;
  /** What the store does by itself in time, done now. */
  tidy?(): Promise<void>;
  close(): Promise<void>;
}
/** Instances between a study's first and its last, and some. */
const BEING_MADE = 2_500;
/** As many as the index takes at once (services/index/settle.ts). */
const SETTLED_AT_ONCE = 20;
const CACHE = 64 * 2 ** 20;

async function elasticsearch(): Promise<Bench> {
  const url = process.env.ELASTICSEARCH_URL;
  const servers = url ? undefined : await startElasticsearch({ heap: '2g', jit: 'full' });
  const urls = servers?.urls ?? [url!];
  const prefix = `bench${process.pid}`;
  const client = new Client({ nodes: urls, requestTimeout: 600_000 });
  const store = new ElasticIndexStore(
    optionsOf(urls, prefix, { requestTimeoutMs: 120_000, metadataCacheBytes: CACHE }),
  );
  await store.find();
  const pid = servers?.nodes[0]?.pid;
  return {
    store,
    serverCpu: () => (pid === undefined ? Number.NaN : cpuOf(pid)),
    async sizes() {
      await client.indices.flush({ index: `${prefix}-*` });
      const { indices = {} } = await client.indices.stats({ index: `${prefix}-*`, metric: ['store', 'docs'] });
      return Object.entries(indices).map(([name, { primaries }]) => [
        `${name.slice(prefix.length + 1)} (${primaries!.docs!.count} documents)`,
        primaries!.store!.size_in_bytes,
      ]);
    },
    tidy: async () => void (await client.indices.forcemerge({ index: `${prefix}-*`, max_num_segments: 1 })),
    async close() {
      await store.close();
      for (const index of Object.keys(await client.indices.get({ index: `${prefix}-*` })))
        await client.indices.delete({ index });
      await client.close();
      await servers?.close();
    },
  };
}

async function sqlite(): Promise<Bench> {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-bench-index-'));
  const store = new SqliteIndexStore({
    directory,
    policy: 'keep-first',
    readers: 1,
    queriesMax: () => 100,
    queryIdleMs: () => 60_000,
    metadataCacheBytes: CACHE,
  });
  const path = join(directory, 'index-1.sqlite');
  return {
    store,
    serverCpu: () => 0,
    async sizes() {
      const db = new DatabaseSync(path, { readOnly: true });
      const rows = db.prepare('SELECT name, sum(pgsize) AS bytes FROM dbstat GROUP BY name ORDER BY bytes DESC').all();
      const [{ free }] = db
        .prepare('SELECT freelist_count * page_size AS free FROM pragma_freelist_count, pragma_page_size')
        .all() as [{ free: number }];
      db.close();
      const objects = readdirSync(join(directory, 'metadata'), { recursive: true, withFileTypes: true });
      const metadata = objects
        .filter((one) => one.isFile())
        .reduce((sum, one) => sum + statSync(join(one.parentPath, one.name)).size, 0);
      return [
        ...rows.map((row): [string, number] => [String(row.name), Number(row.bytes)]),
        ['free pages of the file', free],
        ['write-ahead log', statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0],
        ['metadata objects (files)', metadata],
      ];
    },
    async close() {
      await store.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** utime and stime of every thread, in seconds (proc(5); a tick is 10 ms). */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Counts only what runs in it: making the entries is not the index's work. */
class Clock {
  wall = 0;
  cpu = 0;
  server = 0;
  readonly #own: () => number;
  readonly #server: () => number;
  constructor(own: () => number, server: () => number) {
    this.#own = own;
    this.#server = server;
  }
  async run<T>(work: () => Promise<T>): Promise<T> {
    const [wall, cpu, server] = [performance.now(), this.#own(), this.#server()];
    const result = await work();
    this.wall += (performance.now() - wall) / 1e3;
    this.cpu += this.#own() - cpu;
    this.server += this.#server() - server;
    return result;
  }
}

const own = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const bench = await (positionals[0] === 'sqlite' ? sqlite() : elasticsearch());
const log = new LogBeside(values.shape as Shape, Number(values['per-commit']));
try {
  const { store } = bench;
  const folded = new Clock(own, bench.serverCpu);
  const settled = new Clock(own, bench.serverCpu);
  let studies = 0;
  /** What has been quiet for as long as a study is in the making here. */
  const settleBefore = async (beforeMs: number): Promise<void> => {
    for (;;) {
      const due = await settled.run(() => store.settling.due(beforeMs, SETTLED_AT_ONCE));
      for (const study of due)
        await settled.run(async () => {
          if (await store.settling.settle(study)) await store.settling.announced(study);
        });
      studies += due.length;
      if (due.length < SETTLED_AT_ONCE) return;
    }
  };
  for (let told = total / 4; log.made < total; ) {
    const commits = await log.commits(Number(values.commits), total);
    await folded.run(() => store.fold(TENANT, commits));
    if (!values['fold-only']) await settleBefore(msOf(log.made - BEING_MADE));
    if (log.made < told) continue;
    say(`  ${log.made}: ${((folded.cpu / log.made) * 1e6).toFixed(1)} µs each so far`);
    told += total / 4;
  }
  await folded.run(() => store.show());
  if (!values['fold-only']) await settleBefore(Number.MAX_SAFE_INTEGER);
  const us = (seconds: number, count = total): string => `${((seconds / count) * 1e6).toFixed(1)} µs`;
  say(
    `fold, ${values.commits} commits of ${values['per-commit']}: ${Math.round(total / folded.wall)}/s; CPU ${us(folded.cpu)} an instance = ${Math.round(total / folded.cpu)}/s per core; of the server ${us(folded.server)}`,
  );
  if (studies > 0)
    say(
      `settling ${studies} studies: CPU ${us(settled.cpu)} an instance, ${us(settled.cpu, studies)} a study; of the server ${us(settled.server)}, ${us(settled.server, studies)} a study`,
    );
  await sizes('as it lies');
  if (bench.tidy) {
    await bench.tidy();
    await sizes('merged');
  }
} finally {
  await log.close();
  await bench.close();
}

async function sizes(when: string): Promise<void> {
  let metadata = 0;
  let rest = 0;
  for (const [name, bytes] of await bench.sizes()) {
    if (name.includes('metadata')) metadata += bytes;
    else rest += bytes;
    if (bytes / total >= 0.05) say(`    ${name.padEnd(44)} ${(bytes / total).toFixed(1).padStart(8)}`);
  }
  say(`  ${when}: ${(rest / total).toFixed(1)} bytes an instance, and ${(metadata / total).toFixed(1)} of metadata`);
}
