// The whole cluster on one machine, as plain processes: real NATS, S3 and Elasticsearch, and every role of Gantry on its own.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ROLES } from '../../services/roles.ts';
import { freePorts, type ServerNode, startElasticsearch, startNats, startS3 } from '../servers/index.ts';
import { launchProcess } from '../servers/node.ts';
import { type Proxies, proxies as startProxies } from './proxies.ts';

/** In the order in which they start: nobody is started before those whom he needs. They stop in reverse, doors first. */
export const STATELESS = ['storage', 'index', 'auth', 'ingest', 'gateway'] as const satisfies (keyof typeof ROLES)[];
export type ClusterRole = (typeof STATELESS)[number];

export interface ClusterOptions {
  /** Kept when given; else a temporary one that `close` removes. */
  dataDir?: string;
  httpPort?: number;
  dimsePort?: number;
  /** Processes of each role; two unless given. */
  processes?: Partial<Record<ClusterRole, number>>;
  /** 1 unless given; 3 outlive one of them. */
  natsNodes?: number;
  elasticsearchNodes?: number;
  /** Before NATS, S3, Elasticsearch and every process a proxy that a test can make slow, silent or broken. */
  proxies?: boolean;
  /** gantry.yaml for every process, as text. */
  yaml?: string;
  env?: Record<string, string>;
  /** What one process is told besides; `name` is `ingest-1`. */
  envOf?: (name: string) => Record<string, string>;
  /** `full`: Elasticsearch runs faster after a while, and starts slower. */
  jit?: 'quick' | 'full';
  /** Told what is being started. */
  say?: (text: string) => void;
}

/** One process of Gantry: `kill`, `stop`, `cont` and `restart` as every server has them. */
export interface GantryNode extends ServerNode {
  readonly role: ClusterRole;
  /** http://127.0.0.1:…, with /healthz, /readyz and /metrics of this process alone. */
  readonly health: string;
  /** SIGTERM; resolves when it has drained and is gone. */
  drain(): Promise<void>;
}

export interface Cluster {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly dimsePort: number;
  readonly origin: string; // http://127.0.0.1:…
  readonly dicomWeb: string;
  readonly nodes: readonly GantryNode[];
  readonly nats: readonly ServerNode[];
  readonly s3: ServerNode;
  readonly elasticsearch: readonly ServerNode[];
  readonly proxies: Proxies | undefined;
  /** Resolves when every process says that it is ready. */
  ready(): Promise<void>;
  /** What the processes of Gantry logged so far, and where: <dataDir>/logs. */
  log(): string;
  /** Doors first; what is in flight may finish. */
  close(): Promise<void>;
}

const READY_MS = 120_000;
/** More than a process takes by itself (platform.drainMs and stopMs, 20 s and 8 s). */
const END_MS = 60_000;
const BUCKET = 'gantry';
const SERVICE = { storage: 'storage', index: 'index', auth: 'auth', ingest: 'ingest', gateway: undefined } as const;
const MAIN = resolve(import.meta.dirname, '../../services/main.ts');

export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const { say = () => undefined } = options;
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'gantry-cluster-'));
  const folder = (...names: string[]) => {
    const path = join(dataDir, ...names);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };
  const [httpPort, dimsePort] = [
    options.httpPort ?? (await freePorts(1))[0]!,
    options.dimsePort ?? (await freePorts(1))[0]!,
  ];
  const closers: (() => Promise<void> | void)[] = [];
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one();
    if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
  };

  try {
    say('NATS, S3 and Elasticsearch');
    const [nats, s3, elasticsearch] = await together(
      [
        startNats({ nodes: options.natsNodes ?? 1, dir: folder('nats') }),
        startS3({ kind: 'versitygw', dir: folder('s3') }),
        startElasticsearch({
          nodes: options.elasticsearchNodes ?? 1,
          dir: folder('elasticsearch'),
          jit: options.jit ?? 'quick',
        }),
      ],
      closers,
    );
    // A bucket is a folder of this server; the second start finds it.
    await s3.createBucket(BUCKET).catch((error) => {
      if (!/^Bucket(AlreadyOwnedByYou|AlreadyExists)$/.test(error.code)) throw error;
    });

    const plan = STATELESS.flatMap((role) =>
      Array.from({ length: options.processes?.[role] ?? 2 }, (_, index) => ({ role, name: `${role}-${index + 1}` })),
    );
    const ports = await freePorts(3 * plan.length);
    const placed = plan.map((one, index) => {
      const [grpc, bulk, health] = ports.slice(3 * index, 3 * index + 3);
      return { ...one, grpc: grpc!, bulk: bulk!, health: health! };
    });
    const proxied = options.proxies
      ? await startProxies({ nats: nats.servers, s3: s3.endpoint, elasticsearch: elasticsearch.urls, placed })
      : undefined;
    if (proxied) closers.push(() => proxied.close());

    const secrets = folder('secrets');
    const secret = (name: string, value: string) => {
      writeFileSync(join(secrets, name), value, { mode: 0o600 });
      return join(secrets, name);
    };
    const common: Record<string, string> = {
      ...(process.env as Record<string, string>),
      GANTRY_PLATFORM_NATS_SERVERS: (proxied?.addresses.nats ?? nats.servers).join(','),
      GANTRY_STORAGE_S3_ENDPOINT: proxied?.addresses.s3 ?? s3.endpoint,
      GANTRY_STORAGE_S3_REGION: s3.region,
      GANTRY_STORAGE_S3_BUCKET: BUCKET,
      GANTRY_STORAGE_S3_ACCESS_KEY_FILE: secret('s3-access-key', s3.accessKey),
      GANTRY_STORAGE_S3_SECRET_KEY_FILE: secret('s3-secret-key', s3.secretKey),
      GANTRY_INDEX_ELASTICSEARCH_NODES: (proxied?.addresses.elasticsearch ?? elasticsearch.urls).join(','),
      GANTRY_INDEX_ELASTICSEARCH_REPLICAS: (options.elasticsearchNodes ?? 1) > 1 ? '1' : '0',
      GANTRY_PLATFORM_REUSE_PORT: 'true',
      GANTRY_PLATFORM_LOG_FORMAT: 'json',
      GANTRY_HTTP_PORT: String(httpPort),
      GANTRY_DIMSE_PORT: String(dimsePort),
      ...options.env,
    };
    if (options.yaml !== undefined) {
      common.GANTRY_CONFIG = join(dataDir, 'gantry.yaml');
      writeFileSync(common.GANTRY_CONFIG, options.yaml);
    }
    /** name=host:grpc:bulk|host:grpc:bulk of all that a role speaks to. */
    const endpointsOf = (role: ClusterRole) =>
      [...ROLES[role].needs, ...ROLES[role].asks].map((name) => {
        const offering = name === 'gateway.dimse' ? 'ingest' : name; // the DIMSE door runs in the role ingest
        const at = placed.filter((one) => SERVICE[one.role] === offering);
        return `${name}=${at.map((one) => proxied?.addresses.processes[one.name] ?? `127.0.0.1:${one.grpc}:${one.bulk}`).join('|')}`;
      });

    const logs = folder('logs');
    const nodes: GantryNode[] = [];
    for (const role of STATELESS) {
      say(role);
      const started = placed
        .filter((one) => one.role === role)
        .map(({ name, grpc, bulk, health }) =>
          launchGantry(role, name, join(logs, `${name}.log`), `http://127.0.0.1:${health}`, {
            ...common,
            GANTRY_DATA_DIR: folder(name),
            GANTRY_PLATFORM_GRPC_PORT: SERVICE[role] === undefined ? '0' : String(grpc),
            GANTRY_PLATFORM_BULK_PORT: SERVICE[role] === undefined ? '0' : String(bulk),
            GANTRY_PLATFORM_HEALTH_PORT: String(health),
            GANTRY_PLATFORM_ENDPOINTS: endpointsOf(role).join(','),
            ...options.envOf?.(name),
          }),
        );
      const group: GantryNode[] = [];
      closers.push(() => Promise.all(group.map((node) => node.drain())).then(() => undefined));
      const settled = await Promise.allSettled(started);
      for (const one of settled) if (one.status === 'fulfilled') group.push(one.value);
      for (const one of settled) if (one.status === 'rejected') throw one.reason;
      nodes.push(...group);
    }

    return {
      dataDir,
      httpPort,
      dimsePort,
      origin: `http://127.0.0.1:${httpPort}`,
      dicomWeb: `http://127.0.0.1:${httpPort}/dicom-web`,
      nodes,
      nats: nats.nodes,
      s3: s3.node,
      elasticsearch: elasticsearch.nodes,
      proxies: proxied,
      ready: () => untilAllReady(nodes),
      log: () => placed.map(({ name }) => readFileSync(join(logs, `${name}.log`), 'utf8')).join(''),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** All at once; when one fails, those that came up are closed by `closers` all the same. */
async function together<T extends { close(): Promise<void> }[]>(
  starting: { [K in keyof T]: Promise<T[K]> },
  closers: (() => Promise<void> | void)[],
): Promise<T> {
  const settled = await Promise.allSettled(starting);
  for (const one of settled) if (one.status === 'fulfilled') closers.push(() => one.value.close());
  for (const one of settled) if (one.status === 'rejected') throw one.reason;
  return settled.map((one) => (one as PromiseFulfilledResult<T[number]>).value) as T;
}

const isReady = async (health: string): Promise<boolean> => {
  const answer = await fetch(`${health}/readyz`, { signal: AbortSignal.timeout(5_000) });
  await answer.arrayBuffer();
  return answer.ok;
};

async function launchGantry(
  role: ClusterRole,
  name: string,
  logFile: string,
  health: string,
  env: Record<string, string>,
): Promise<GantryNode> {
  writeFileSync(logFile, '');
  const node = await launchProcess({
    name,
    url: health,
    program: process.execPath,
    args: [MAIN, role],
    env,
    docker: { image: '', args: [], folders: [] }, // launchProcess never asks for it
    logFile,
    ready: () => isReady(health),
    readyMs: READY_MS,
    endMs: END_MS,
  });
  // Getters stay getters: the process behind a node changes with each restart.
  return Object.defineProperties({} as GantryNode, {
    ...Object.getOwnPropertyDescriptors(node),
    role: { value: role },
    health: { value: health },
    drain: { value: () => node.end() },
  });
}

async function untilAllReady(nodes: readonly GantryNode[]): Promise<void> {
  for (const until = Date.now() + READY_MS; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
    // One that does not answer is not ready.
    const ready = await Promise.all(nodes.map(({ health }) => isReady(health).catch(() => false)));
    if (ready.every(Boolean)) return;
    if (Date.now() > until)
      throw new Error(`not ready after ${READY_MS} ms: ${nodes.filter((_, n) => !ready[n]).map(({ name }) => name)}`);
  }
}
