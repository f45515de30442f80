// make fuzz: each target for some minutes, in a thread of its own that a watchdog can end. New places make the corpus grow
// (tools/fuzz/corpus/<target>.corpus.txt); a finding goes into <target>.found.txt, which fuzz.test.ts replays from then on.
//   node tools/fuzz/fuzz.ts [--minutes 10] [--seed N] [TARGET …]
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { explore } from './explore.ts';
import { TARGETS } from './targets.ts';

const CORPUS = join(import.meta.dirname, 'corpus');
const INPUT_BYTES_MAX = 4096;
/** One input that takes longer than this is a finding: a peer could send nothing else. */
const INPUT_MS_MAX = 10_000;

interface Task {
  target: string;
  seed: number;
  milliseconds: number;
  /** [0]: how many inputs were begun, [1]: the length of the one that runs; its bytes follow. */
  shared: SharedArrayBuffer;
}

/** One input a line, in base64; `found`: those that broke something once. */
export function readCorpus(target: string, kind: 'corpus' | 'found' = 'corpus'): Buffer[] {
  const path = fileOf(target, kind);
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'latin1').split('\n');
  return lines.filter((line) => line !== '').map((line) => Buffer.from(line, 'base64'));
}

const fileOf = (target: string, kind: 'corpus' | 'found') => join(CORPUS, `${target}.${kind}.txt`);

function keep(target: string, kind: 'corpus' | 'found', inputs: Buffer[]): string {
  mkdirSync(CORPUS, { recursive: true });
  const path = fileOf(target, kind);
  appendFileSync(path, inputs.map((input) => `${input.toString('base64')}\n`).join(''));
  return path;
}

/** In the thread. */
async function work({ target, seed, milliseconds, shared }: Task): Promise<void> {
  const counters = new Int32Array(shared, 0, 2);
  const current = new Uint8Array(shared, 8);
  const until = performance.now() + milliseconds;
  const known = readCorpus(target);
  const { executions, kept, finding } = await explore(TARGETS[target]!, known, {
    seed,
    inputBytesMax: INPUT_BYTES_MAX,
    goesOn: () => performance.now() < until,
    onInput: (input) => {
      current.set(input.subarray(0, current.length));
      Atomics.store(counters, 1, Math.min(input.length, current.length));
      Atomics.add(counters, 0, 1);
    },
  });
  const before = new Set(known.map((bytes) => bytes.toString('latin1')));
  const fresh = kept.filter((input) => !before.has(input.toString('latin1')));
  keep(target, 'corpus', fresh);
  process.stdout.write(
    `  ${target.padEnd(12)} ${executions} inputs, ${kept.length} reach something of their own, ${fresh.length} of them new\n`,
  );
  if (finding) {
    const path = keep(target, 'found', [finding.input]);
    process.stdout.write(
      `  ${target}: FINDING, kept as ${path}\n${(finding.error as Error)?.stack ?? finding.error}\n`,
    );
    process.exitCode = 1;
  }
}

/** In the main thread: the exit code of one target. */
function fuzz(target: string, seed: number, milliseconds: number): Promise<number> {
  return new Promise((done, failed) => {
    const shared = new SharedArrayBuffer(8 + 64 * 1024);
    const counters = new Int32Array(shared, 0, 2);
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { target, seed, milliseconds, shared } satisfies Task,
    });
    let seen = -1;
    const watchdog = setInterval(() => {
      const begun = Atomics.load(counters, 0);
      if (begun !== seen || begun === 0) {
        seen = begun;
        return;
      }
      const input = Buffer.from(new Uint8Array(shared, 8, Atomics.load(counters, 1)));
      process.stdout.write(
        `  ${target}: FINDING, an input takes more than ${INPUT_MS_MAX} ms, kept as ${keep(target, 'found', [input])}\n`,
      );
      void worker.terminate();
    }, INPUT_MS_MAX);
    worker.on('error', failed);
    worker.on('exit', (code) => {
      clearInterval(watchdog);
      done(code);
    });
  });
}

if (!isMainThread && workerData?.shared) {
  await work(workerData as Task);
} else if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    },
  });
  const targets = positionals.length > 0 ? positionals : Object.keys(TARGETS);
  const unknown = targets.filter((target) => !(target in TARGETS));
  const minutes = Number(values.minutes);
  if (unknown.length > 0 || !(minutes > 0)) {
    process.stderr.write(
      `usage: node tools/fuzz/fuzz.ts [--minutes 10] [--seed N] [TARGET …]\ntargets: ${Object.keys(TARGETS).join(' ')}\n`,
    );
    process.exit(2);
  }
  process.stdout.write(`Fuzzing ${targets.length} targets, ${minutes} min each (--seed ${values.seed})\n`);
  for (const target of targets) {
    if ((await fuzz(target, Number(values.seed), minutes * 60_000)) !== 0) process.exitCode = 1;
  }
}
