// What a process used, from /proc: CPU with all its threads and its children that ended, peak memory, bytes it wrote.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Account, Orders } from './sender.ts';

export interface Used {
  cpuSeconds: number;
  peakMegabytes: number;
  writtenMegabytes: number;
}

const TICKS = 100; // USER_HZ, on every Linux that we know

/** With its children: those that ended and were waited for are in its own account, the others are still there to be asked. */
function cpuSeconds(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean);
  let sum = 0;
  for (const child of children)
    try {
      sum += ownCpuSeconds(Number(child));
    } catch (error) {
      if (!GONE.has((error as NodeJS.ErrnoException).code)) throw error;
    }
  return sum + ownCpuSeconds(pid); // after them: who ended meanwhile is in it
}
const GONE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ESRCH']);

function ownCpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [user, system, childUser, childSystem] = fields.slice(11, 15).map(Number) as [number, number, number, number];
  return (user + system + childUser + childSystem) / TICKS;
}

function field(path: string, name: string): number {
  const text = readFileSync(path, 'latin1');
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}

/** Begins to measure; call what it gives to end. */
export function using(pid: number): () => Used {
  writeFileSync(`/proc/${pid}/clear_refs`, '5'); // the peak starts over (man 5 proc)
  const cpu = cpuSeconds(pid);
  const written = field(`/proc/${pid}/io`, 'write_bytes');
  return () => ({
    cpuSeconds: cpuSeconds(pid) - cpu,
    peakMegabytes: field(`/proc/${pid}/status`, 'VmHWM') / 1024,
    writtenMegabytes: (field(`/proc/${pid}/io`, 'write_bytes') - written) / 2 ** 20,
  });
}

export const median = (numbers: readonly number[]): number => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : ((sorted[middle - 1] ?? Number.NaN) + sorted[middle]!) / 2;
};
export const percentile = (numbers: readonly number[], share: number): number => {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)]!;
};

const SENDER = join(import.meta.dirname, 'sender.ts');

export async function send(orders: Orders): Promise<Account> {
  const { stdout } = await promisify(execFile)(process.execPath, [SENDER, JSON.stringify(orders)]);
  const account = JSON.parse(stdout) as Account;
  if (account.failures > 0) throw new Error(`${account.failures} of ${orders.count} instances were refused`);
  return account;
}

/** Sends in the background until `stop`. */
export function sending(orders: Orders): { stop(): Promise<Account> } {
  const child: ChildProcess = spawn(process.execPath, [SENDER, JSON.stringify({ ...orders, untilStopped: true })], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout!.on('data', (chunk) => (text += chunk));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return {
    async stop() {
      child.stdin!.end();
      await ended;
      return JSON.parse(text) as Account;
    },
  };
}

export interface Fetched {
  requestsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  megabytesPerSecond: number;
  bytesEach: number;
}

export interface Fetching {
  seconds: number;
  connections?: number;
  accept?: string;
  /** Paths taken in turn instead of the address's own. */
  paths?: readonly string[];
}

/** wrk on one address: `connections` at once for `seconds`. */
export async function fetchAgain(url: string, { seconds, connections = 1, accept, paths }: Fetching): Promise<Fetched> {
  const headers = accept ? ['-H', `Accept: ${accept}`] : [];
  if (paths) {
    const script = join(mkdtempSync(join(tmpdir(), 'bench-wrk-')), 'paths.lua');
    const list = paths.map((path) => `"${path}"`).join(',');
    const step = 'n = n % #paths + 1; return wrk.format("GET", paths[n])';
    writeFileSync(script, `local paths = {${list}}\nlocal n = 0\nrequest = function() ${step} end\n`);
    headers.push('-s', script);
  }
  const { stdout } = await promisify(execFile)('wrk', [
    ...['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '60s', '--latency'],
    ...headers,
    url,
  ]);
  if (/Non-2xx/.test(stdout)) throw new Error(`${url} did not answer with success:\n${stdout}`);
  const [, requests, total, unit, over] = /(\d+) requests in ([\d.]+)(s|m), ([\d.]+[KMGT]?B) read/.exec(stdout)!;
  const elapsed = Number(total) * (unit === 'm' ? 60 : 1);
  const bytes = toBytes(over!);
  return {
    requestsPerSecond: Number(requests) / elapsed,
    p50Ms: latency(stdout, '50%'),
    p99Ms: latency(stdout, '99%'),
    megabytesPerSecond: bytes / elapsed / 1e6,
    bytesEach: bytes / Math.max(1, Number(requests)),
  };
}

function toBytes(text: string): number {
  const [, number, prefix] = /^([\d.]+)([KMGT]?)B$/.exec(text)!;
  return Number(number) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf(prefix!);
}
function latency(text: string, row: string): number {
  const [, number, unit] = new RegExp(`${row}\\s+([\\d.]+)(us|ms|s|m)`).exec(text)!;
  return Number(number) * { us: 0.001, ms: 1, s: 1000, m: 60_000 }[unit as 'us' | 'ms' | 's' | 'm'];
}
