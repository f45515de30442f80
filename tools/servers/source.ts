// Official images where Docker can pull them, else the programs that tools/setup/servers.sh made. Asked once, and the
// answer kept for a while: a daemon without a network takes long to say so.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { isBuilt, PARTS, type Part } from './parts.ts';

export type Source = 'docker' | 'cache';

export interface SourceQuestion {
  /** GANTRY_SERVERS: `docker` or `cache`, for whoever wants to decide. */
  named: string | undefined;
  /** Whether Docker can pull an image. */
  probe(): Promise<boolean>;
  /** What was found last, and when. */
  remembered(): { canPull: boolean; at: number } | undefined;
  remember(answer: { canPull: boolean; at: number }): void;
  now: number;
}

/** A daemon that comes or goes is seen within a day; a test run asks once. */
const REMEMBERED_MS = 12 * 3600 * 1000;

export async function chooseSource(question: SourceQuestion): Promise<Source> {
  const { named, now } = question;
  if (named === 'docker' || named === 'cache') return named;
  if (named !== undefined && named !== '') throw new Error(`GANTRY_SERVERS is '${named}': docker or cache`);
  const last = question.remembered();
  if (last !== undefined && last.at <= now && now - last.at < REMEMBERED_MS) return last.canPull ? 'docker' : 'cache';
  const canPull = await question.probe();
  question.remember({ canPull, at: now });
  return canPull ? 'docker' : 'cache';
}

const PROBE_MS = 60_000;
/** The smallest of the images: it is needed anyway. */
const PROBE_IMAGE = 'nats:2.15.1';

/** Docker answers, and has the image or can pull it, within a minute. */
export async function dockerCanPull(docker = 'docker'): Promise<boolean> {
  const run = (timeout: number, ...args: string[]) =>
    new Promise<boolean>((resolve) => {
      execFile(docker, args, { timeout, killSignal: 'SIGKILL' }, (error) => resolve(error === null));
    });
  if (!(await run(5_000, 'info'))) return false;
  return (await run(5_000, 'image', 'inspect', PROBE_IMAGE)) || (await run(PROBE_MS, 'pull', '--quiet', PROBE_IMAGE));
}

let source: Promise<Source> | undefined;

export function serversComeFrom(): Promise<Source> {
  source ??= chooseSource({
    named: process.env.GANTRY_SERVERS,
    probe: dockerCanPull,
    remembered,
    remember,
    now: Date.now(),
  });
  return source;
}

const memory = () => join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'gantry', 'servers-source.json');

function remembered() {
  try {
    const { canPull, at } = JSON.parse(readFileSync(memory(), 'utf8')) as { canPull: unknown; at: unknown };
    return typeof canPull === 'boolean' && typeof at === 'number' ? { canPull, at } : undefined;
  } catch {
    // Never asked before, or not readable: we ask again.
    return undefined;
  }
}

function remember(answer: { canPull: boolean; at: number }) {
  const path = memory();
  mkdirSync(dirname(path), { recursive: true });
  // Several test files ask at the same time: none must read half an answer.
  writeFileSync(`${path}.${process.pid}`, JSON.stringify(answer));
  renameSync(`${path}.${process.pid}`, path);
}

/**
 * For a test's `skip`: false where the servers can be started, else what is missing. Never a reason in CI, as with `without`
 * of tools/setup/peers.ts.
 */
export async function withoutServers(...parts: Part[]): Promise<string | false> {
  if (process.env.CI === 'true' || (await serversComeFrom()) === 'docker') return false;
  const missing = (parts.length === 0 ? PARTS : parts).filter((part) => !isBuilt(part));
  return missing.length === 0 ? false : `not made yet: ${missing.join(', ')} (tools/setup/servers.sh)`;
}
