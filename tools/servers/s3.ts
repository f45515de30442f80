// Real S3 servers, of three minds: versitygw is what Gantry is tested with, MinIO the second opinion, rclone ignores
// conditions (If-None-Match) and so stands for the stores that Gantry must refuse.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'minio';
import { launch } from './launch.ts';
import { closeNode, type ServerNode } from './node.ts';
import { withFreePorts } from './ports.ts';
import { temporaryFolder } from './watchdog.ts';

export type S3Kind = 'versitygw' | 'minio' | 'rclone';

export interface S3Options {
  kind: S3Kind;
  /** Kept when given; else a temporary one that `close` removes. */
  dir?: string;
  port?: number;
}

export interface S3Server {
  readonly kind: S3Kind;
  readonly endpoint: string; // http://127.0.0.1:…
  readonly region: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly node: ServerNode;
  /** The folder that holds buckets as folders and objects as files (not with MinIO, which has a format of its own). */
  readonly dataDir: string;
  createBucket(name: string, options?: { objectLock?: boolean }): Promise<void>;
  close(): Promise<void>;
}

const REGION = 'us-east-1';
const ACCESS_KEY = 'gantry-tests';
const SECRET_KEY = 'gantry-tests-secret';
const READY_MS = 30_000;

interface Flavour {
  image: string;
  args(at: { port: number; console: number; data: string; versions: string }): string[];
  env: Record<string, string>;
  entrypoint?: string[];
}

const FLAVOURS: Record<S3Kind, Flavour> = {
  versitygw: {
    image: 'versity/versitygw:v1.8.0',
    args: ({ port, data, versions }) => [
      ...['--port', `127.0.0.1:${port}`, '--quiet', '--keep-alive', '--region', REGION],
      ...['posix', '--versioning-dir', versions, data],
    ],
    env: { ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY },
  },
  minio: {
    image: 'quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z',
    args: ({ port, console, data }) => [
      ...['server', '--quiet', '--address', `127.0.0.1:${port}`, '--console-address', `127.0.0.1:${console}`, data],
    ],
    // CI_CD: it may keep its data on the disk that holds the system.
    env: { MINIO_ROOT_USER: ACCESS_KEY, MINIO_ROOT_PASSWORD: SECRET_KEY, MINIO_BROWSER: 'off', MINIO_CI_CD: '1' },
  },
  rclone: {
    image: 'rclone/rclone:1.75.2',
    args: ({ port, data }) => [
      ...['serve', 's3', '--addr', `127.0.0.1:${port}`, '--auth-key', `${ACCESS_KEY},${SECRET_KEY}`],
      ...['--config', '/dev/null', '--vfs-cache-mode', 'off', data],
    ],
    env: {},
  },
};

export function startS3(options: S3Options): Promise<S3Server> {
  return withFreePorts(2, (ports) => start(options, options.port ?? ports[0]!, ports[1]!));
}

async function start(options: S3Options, port: number, console: number): Promise<S3Server> {
  const { kind } = options;
  const flavour = FLAVOURS[kind];
  const work = temporaryFolder(kind);
  const dir = options.dir ?? work.path;
  const [data, versions] = [join(dir, 'data'), join(dir, 'versions')];
  mkdirSync(data, { recursive: true });
  mkdirSync(versions, { recursive: true });
  const endpoint = `http://127.0.0.1:${port}`;
  const args = flavour.args({ port, console, data, versions });
  try {
    const node = await launch(kind, {
      name: kind,
      url: endpoint,
      program: kind,
      args,
      env: flavour.env,
      docker: { image: flavour.image, args, env: flavour.env, folders: [dir] },
      logFile: join(work.path, `${kind}.log`),
      // Without a signature each refuses (403), and so answers. MinIO says 503 while it starts.
      ready: async () => {
        const { status, body } = await fetch(endpoint);
        await body?.cancel();
        return status < 500;
      },
      readyMs: READY_MS,
    });
    const client = new Client({
      endPoint: '127.0.0.1',
      port,
      useSSL: false,
      accessKey: ACCESS_KEY,
      secretKey: SECRET_KEY,
      region: REGION,
      pathStyle: true,
    });
    return {
      kind,
      endpoint,
      region: REGION,
      accessKey: ACCESS_KEY,
      secretKey: SECRET_KEY,
      node,
      dataDir: data,
      createBucket: (name, { objectLock = false } = {}) =>
        client.makeBucket(name, REGION, objectLock ? { ObjectLocking: true } : {}),
      async close() {
        await closeNode(node, options.dir !== undefined);
        work.remove();
      },
    };
  } catch (error) {
    work.remove();
    throw error;
  }
}
