// A real Gantry process for scenarios: its own data directory, free ports, and a line of its log when something goes wrong.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ServerOptions {
  /** Kept when given; else a temporary one that `close` removes. */
  dataDir?: string;
  /** gantry.yaml, as text. */
  yaml?: string;
  env?: Record<string, string>;
  role?: string;
}

export interface GantryServer {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly dimsePort: number;
  readonly origin: string; // http://127.0.0.1:…
  readonly dicomWeb: string;
  readonly process: ChildProcess;
  /** Everything that it logged so far. */
  log(): string;
  /** Resolves with the exit code or signal. */
  signal(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>;
  /** The same data and ports, a new process. */
  restart(): Promise<void>;
  /** TERM, wait, and remove a temporary data directory. */
  close(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

const READY_MS = 60_000;

export async function startServer(options: ServerOptions = {}): Promise<GantryServer> {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'gantry-'));
  const [httpPort, dimsePort] = [await freePort(), await freePort()];
  const chunks: Buffer[] = [];
  let child: ChildProcess;
  let ended: Promise<number | NodeJS.Signals>;
  const env: Record<string, string> = {
    ...(process.env as Record<string, string>),
    GANTRY_DATA_DIR: dataDir,
    GANTRY_HTTP_PORT: String(httpPort),
    GANTRY_DIMSE_PORT: String(dimsePort),
    GANTRY_PLATFORM_LOG_FORMAT: 'json',
    ...options.env,
  };
  if (options.yaml !== undefined) {
    const path = join(mkdtempSync(join(tmpdir(), 'gantry-yaml-')), 'gantry.yaml');
    writeFileSync(path, options.yaml);
    env.GANTRY_CONFIG = path;
  }

  async function spawnIt(): Promise<void> {
    child = spawn(process.execPath, [join(import.meta.dirname, '../../services/main.ts'), options.role ?? 'all'], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout!.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr!.on('data', (chunk: Buffer) => chunks.push(chunk));
    ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code ?? 1)));
    for (const until = Date.now() + READY_MS; ; await new Promise((resolve) => setTimeout(resolve, 25))) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`Gantry stopped while starting:\n${text()}`);
      const answer = await fetch(`http://127.0.0.1:${httpPort}/readyz`).catch(() => undefined); // not listening yet
      if (answer?.ok) return;
      if (Date.now() > until) {
        child.kill('SIGKILL');
        throw new Error(`Gantry was not ready after ${READY_MS} ms:\n${text()}`);
      }
    }
  }
  const text = () => Buffer.concat(chunks).toString('utf8');
  await spawnIt();

  return {
    dataDir,
    httpPort,
    dimsePort,
    origin: `http://127.0.0.1:${httpPort}`,
    dicomWeb: `http://127.0.0.1:${httpPort}/dicom-web`,
    get process() {
      return child;
    },
    log: text,
    async signal(signal) {
      child.kill(signal);
      return ended;
    },
    restart: spawnIt,
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        const patience = setTimeout(() => child.kill('SIGKILL'), 60_000);
        await ended;
        clearTimeout(patience);
      }
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
