// A docker daemon for one test: its own network namespace, folders and socket, so that neither the machine's firewall nor another
// daemon sees it. Needs root, as every dockerd does.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

export interface Dockerd {
  /** Standard output; a failure carries what docker wrote. */
  docker(...args: string[]): Promise<string>;
  /** Runs a program where published ports are, whatever it exits with. */
  inside(program: string, ...args: string[]): Promise<{ code: number; output: string }>;
  close(): Promise<void>;
}

const START_MS = 60_000;

export async function startDockerd(): Promise<Dockerd> {
  const work = mkdtempSync(join(tmpdir(), 'gantry-docker-'));
  const socket = join(work, 'docker.sock');
  const log = openSync(join(work, 'log'), 'w');
  const script = join(work, 'start.sh');
  writeFileSync(
    script,
    `ip link set lo up && exec dockerd --data-root ${work}/data --exec-root ${work}/exec --pidfile ${work}/pid --host unix://${socket}\n`,
  );
  // Its mounts go with it.
  const daemon: ChildProcess = spawn('unshare', ['--net', '--mount', 'sh', script], {
    stdio: ['ignore', log, log],
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin` },
  });
  closeSync(log);
  const said = () => readFileSync(join(work, 'log'), 'utf8').slice(-4000);
  const docker = async (...args: string[]) =>
    (await exec('docker', ['--host', `unix://${socket}`, ...args], { maxBuffer: 64 << 20 })).stdout;
  const close = async () => {
    if (daemon.exitCode === null && daemon.signalCode === null) {
      daemon.kill('SIGTERM');
      await once(daemon, 'exit');
    }
    rmSync(work, { recursive: true, force: true });
  };
  try {
    await listening(work, daemon, said);
    await docker('info');
  } catch (cause) {
    const error = new Error(`dockerd did not start:\n${said()}`, { cause });
    await close();
    throw error;
  }
  return {
    docker,
    close,
    async inside(program, ...args) {
      const child = spawn('nsenter', [`--net=/proc/${daemon.pid}/ns/net`, '--', program, ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
        // DCMTK sets no TCP_NODELAY by itself.
        env: { ...process.env, TCP_NODELAY: '1' },
      });
      const chunks: Buffer[] = [];
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      const [code] = (await once(child, 'close')) as [number];
      return { code, output: Buffer.concat(chunks).toString() };
    },
  };
}

/** The daemon writes that it listens, as its last line before it does. */
function listening(work: string, daemon: ChildProcess, said: () => string): Promise<void> {
  return new Promise((resolve, reject) => {
    const watcher = watch(join(work, 'log'), check);
    const late = setTimeout(() => end(new Error(`not listening after ${START_MS} ms`)), START_MS);
    const exited = () => end(new Error('it ended'));
    daemon.once('exit', exited);
    function end(error?: Error) {
      watcher.close();
      clearTimeout(late);
      daemon.off('exit', exited);
      if (error) reject(error);
      else resolve();
    }
    function check() {
      if (said().includes('API listen on')) end();
    }
    check();
  });
}
