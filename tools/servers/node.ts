// One server process that a test may kill, stop, let go on and start again, with its data and its port.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { watchProcess } from './watchdog.ts';

export interface ServerNode {
  readonly name: string;
  readonly url: string;
  /** Of the process that runs now, or ran last. */
  readonly pid: number;
  readonly running: boolean;
  /** kill -9; resolves when it is gone. Its data stays. */
  kill(): Promise<void>;
  /** SIGSTOP: alive, and deaf. */
  stop(): Promise<void>;
  /** SIGCONT */
  cont(): Promise<void>;
  /** With the same data and port (a running one is killed first); resolves when it answers. */
  restart(): Promise<void>;
  /** What it logged so far. */
  log(): string;
  /** Resolves when what runs now has ended, by whomever; at once when nothing runs. */
  ended(): Promise<void>;
}

/** What `close` of a group of servers needs besides. */
export interface LaunchedNode extends ServerNode {
  /** TERM, and KILL for one that does not listen. */
  end(): Promise<void>;
  /** What remains of one that was killed, its data apart. */
  remove(): Promise<void>;
}

export interface ServerSpec {
  name: string;
  url: string;
  /** From the cache. */
  program: string;
  args: string[];
  env?: Record<string, string>;
  /** The same server where Docker can pull: on the host's network, with `folders` mounted under their own names. */
  docker: { image: string; args: string[]; env?: Record<string, string>; folders: string[]; entrypoint?: string[] };
  logFile: string;
  /** Whether it answers; thrown errors mean no. */
  ready(): Promise<boolean>;
  readyMs: number;
  /** How long after TERM one is killed; 20 s unless given. */
  endMs?: number;
}

const END_MS = 20_000;

export async function launchProcess(spec: ServerSpec): Promise<LaunchedNode> {
  let child: ChildProcess;
  let exited: Promise<unknown>;
  const running = () => child.exitCode === null && child.signalCode === null;
  const log = () => (existsSync(spec.logFile) ? readFileSync(spec.logFile, 'utf8') : '');

  async function start(): Promise<void> {
    // A file, no pipe: a server must not wait for a test that does not read.
    const logFd = openSync(spec.logFile, 'a');
    // It dies with us, even when we die by kill -9: the kernel sees to it.
    child = spawn('setpriv', ['--pdeathsig', 'KILL', spec.program, ...spec.args], {
      env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/', ...spec.env },
      // A Ctrl-C at the terminal is for us: whoever started a server ends it when nobody needs it any more.
      detached: true,
      stdio: ['ignore', logFd, logFd],
    });
    closeSync(logFd);
    exited = Promise.race([once(child, 'exit'), once(child, 'error')]);
    await once(child, 'spawn');
    const unwatch = watchProcess(child.pid!);
    child.once('exit', unwatch);
    // The event loop of whoever forgets `close` ends all the same; then the watchdog does it.
    child.unref();
    await untilReady(spec, running, log);
  }

  const signal = (name: NodeJS.Signals) => {
    if (running()) child.kill(name);
  };
  async function kill() {
    signal('SIGKILL');
    await gone();
  }
  const ended = async () => {
    if (running()) await exited;
  };
  /** An unreferenced child's exit would not keep us waiting. */
  async function gone() {
    if (!running()) return;
    child.ref();
    await exited;
  }

  const node: LaunchedNode = {
    name: spec.name,
    url: spec.url,
    get pid() {
      return child.pid!;
    },
    get running() {
      return running();
    },
    kill,
    stop: async () => signal('SIGSTOP'),
    cont: async () => signal('SIGCONT'),
    async restart() {
      await kill();
      await start();
    },
    log,
    ended,
    async end() {
      signal('SIGCONT');
      signal('SIGTERM');
      await Promise.race([gone(), sleep(spec.endMs ?? END_MS, undefined, { ref: false })]);
      await kill();
    },
    // A process leaves nothing.
    remove: async () => undefined,
  };
  try {
    await start();
  } catch (error) {
    if (child! !== undefined && child.pid !== undefined) await kill();
    throw error;
  }
  return node;
}

export async function untilReady(
  spec: Pick<ServerSpec, 'name' | 'ready' | 'readyMs'>,
  running: () => boolean,
  log: () => string,
): Promise<void> {
  for (const until = Date.now() + spec.readyMs; ; await sleep(20)) {
    if (!running()) throw new Error(`${spec.name} stopped while starting:\n${tail(log())}`);
    // Not listening yet: asked again until it is too late.
    if (await spec.ready().catch(() => false)) return;
    if (Date.now() > until) throw new Error(`${spec.name} was not ready after ${spec.readyMs} ms:\n${tail(log())}`);
  }
}

const tail = (text: string) => text.split('\n').slice(-30).join('\n');

/** What is kept is closed in order; what goes anyway goes at once. */
export async function closeNode(node: LaunchedNode, kept: boolean): Promise<void> {
  await (kept ? node.end() : node.kill());
  await node.remove();
}
