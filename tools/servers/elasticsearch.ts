// A real Elasticsearch node, or several: from Maven Central's jars, since the distribution is in no package registry.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { layOutHome } from './elasticsearch.home.ts';
import { launch } from './launch.ts';
import { closeNode, type LaunchedNode, type ServerNode } from './node.ts';
import { ensureBuilt } from './parts.ts';
import { withFreePorts } from './ports.ts';
import { serversComeFrom } from './source.ts';
import { temporaryFolder } from './watchdog.ts';

export interface ElasticsearchOptions {
  /** 1, or 3 for a cluster that outlives one of them. */
  nodes?: number;
  /** Kept when given; else a temporary one that `close` removes. */
  dir?: string;
  /** Of HTTP, one a node (`port`: of the first); free ones else. */
  ports?: number[];
  port?: number;
  /** Of the Java heap of each node, e.g. `512m` (the default), `2g`. */
  heap?: string;
  /** `quick` (the default) starts faster, `full` runs faster after a while: for benchmarks. */
  jit?: 'quick' | 'full';
}

export interface ElasticsearchNodes {
  readonly nodes: ServerNode[];
  readonly urls: string[];
  /** All nodes that run are in one cluster. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

/** Two seconds on a quiet machine; tests have company. */
const READY_MS = 180_000;

export function startElasticsearch(options: ElasticsearchOptions = {}): Promise<ElasticsearchNodes> {
  const count = options.nodes ?? options.ports?.length ?? 1;
  return withFreePorts(2 * count, (ports) => start(options, count, ports));
}

async function start(options: ElasticsearchOptions, count: number, ports: number[]): Promise<ElasticsearchNodes> {
  const work = temporaryFolder('elasticsearch');
  const dir = options.dir ?? join(work.path, 'data');
  const given = options.ports ?? (options.port === undefined ? [] : [options.port]);
  const all = Array.from({ length: count }, (_, index) => ({
    name: `e${index + 1}`,
    http: given[index] ?? ports[2 * index]!,
    transport: ports[2 * index + 1]!,
  }));
  const seeds = all.map(({ transport }) => `127.0.0.1:${transport}`);
  const names = all.map(({ name }) => name);
  const launched: LaunchedNode[] = [];
  async function close() {
    await Promise.all(launched.map((node) => closeNode(node, options.dir !== undefined)));
    work.remove();
  }
  try {
    const starting = await Promise.allSettled(
      all.map(async ({ name, http, transport }) => {
        const data = join(dir, name);
        mkdirSync(data, { recursive: true });
        const settings: Record<string, string | number | boolean | string[]> = {
          'cluster.name': 'gantry-test',
          'node.name': name,
          'network.host': '127.0.0.1',
          'http.port': http,
          'transport.port': transport,
          'path.data': data,
          // A test's machine may be full to the brim: that is not what is tested.
          'cluster.routing.allocation.disk.threshold_enabled': false,
          ...(count === 1
            ? { 'discovery.type': 'single-node' }
            : { 'discovery.seed_hosts': seeds, 'cluster.initial_master_nodes': names }),
        };
        const url = `http://127.0.0.1:${http}`;
        launched.push(
          await launch('elasticsearch', {
            name: `elasticsearch ${name}`,
            url,
            ...(await programFor(join(work.path, name), settings, options.heap ?? '512m', options.jit ?? 'quick')),
            docker: {
              image: 'docker.elastic.co/elasticsearch/elasticsearch:9.5.3',
              args: [],
              env: {
                ...Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, String(value)])),
                'xpack.security.enabled': 'false',
                ES_JAVA_OPTS: `-Xms${options.heap ?? '512m'} -Xmx${options.heap ?? '512m'}`,
              },
              folders: [data],
            },
            logFile: join(work.path, `${name}.log`),
            ready: async () => (await fetch(url)).ok,
            readyMs: READY_MS,
          }),
        );
      }),
    );
    const failed = starting.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    launched.sort((a, b) => a.name.localeCompare(b.name));
    const ready = () => untilOneCluster(launched);
    await ready();
    return { nodes: launched, urls: launched.map(({ url }) => url), ready, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function programFor(home: string, settings: Record<string, unknown>, heap: string, jit: 'quick' | 'full') {
  if ((await serversComeFrom()) === 'docker') return { program: '', args: [] };
  layOutHome(await ensureBuilt('elasticsearch'), home, settings);
  return { program: 'run.sh', args: [home], env: { ES_HEAP: heap, ES_JIT: jit } };
}

async function untilOneCluster(nodes: LaunchedNode[]): Promise<void> {
  for (const until = Date.now() + READY_MS; ; await sleep(50)) {
    const running = nodes.filter((node) => node.running);
    const seen = await Promise.all(running.map((node) => nodesSeenBy(node.url)));
    if (seen.every((count) => count === running.length)) return;
    if (Date.now() > until)
      throw new Error(`Elasticsearch was no cluster after ${READY_MS} ms: ${seen.join(', ')} nodes`);
  }
}

async function nodesSeenBy(url: string): Promise<number> {
  // No master yet is 503 after a while; asked again.
  const answer = await fetch(`${url}/_cluster/health?timeout=1s&master_timeout=1s`).catch(() => undefined);
  if (answer === undefined) return 0;
  const { number_of_nodes: count } = (await answer.json()) as { number_of_nodes?: number };
  return answer.ok ? (count ?? 0) : 0;
}
