// A small coverage-guided fuzzer: an input that reaches a place no input reached before joins the corpus, and the corpus is
// what new inputs are made of. Coverage is V8's own (block counts), so the code under test is what runs in production.
import { Session } from 'node:inspector';
import type { Target } from './targets.ts';

export interface Finding {
  input: Buffer;
  error: unknown;
}
export interface Explored {
  executions: number;
  /** Inputs that reached something new, seeds included. */
  kept: Buffer[];
  finding: Finding | undefined;
}
export interface ExploreOptions {
  seed: number;
  /** Whether to go on, asked before each input. */
  goesOn(executions: number): boolean;
  /** Told of each input before it runs: a watchdog can then say which one never came back. */
  onInput?(input: Buffer): void;
  inputBytesMax?: number;
}

export async function explore(target: Target, corpus: Buffer[], options: ExploreOptions): Promise<Explored> {
  const coverage = new Coverage();
  const random = randomFrom(options.seed);
  const kept: Buffer[] = [];
  const pool: Buffer[] = [];
  let executions = 0;

  const runs = async (input: Buffer): Promise<Finding | undefined> => {
    options.onInput?.(input);
    executions++;
    try {
      // A copy: a target that writes into its input must not change the corpus.
      await target.run(Buffer.from(input));
    } catch (error) {
      return { input, error };
    }
    if (coverage.isNew()) {
      kept.push(input);
      pool.push(input);
    }
    return undefined;
  };

  try {
    for (const input of [...(await target.seeds()), ...corpus]) {
      const finding = await runs(input);
      if (finding) return { executions, kept, finding };
    }
    if (pool.length === 0) pool.push(Buffer.alloc(0));
    while (options.goesOn(executions)) {
      const finding = await runs(mutate(pool, random, target.words ?? [], options.inputBytesMax ?? 4096));
      if (finding) return { executions, kept, finding };
    }
    return { executions, kept, finding: undefined };
  } finally {
    coverage.stop();
  }
}

type Interval = [from: number, to: number];

/** What no input has reached yet in our own files, by V8's precise coverage: block by block, function by function. */
class Coverage {
  readonly #session = new Session();
  /** By function: the stretches of its text that never ran. */
  readonly #missing = new Map<string, Interval[]>();

  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Whether something ran since the last question that never ran before. */
  isNew(): boolean {
    let isNew = false;
    // The answer comes before `post` returns: the session is this thread's own.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error) throw error;
      for (const script of answer.result) {
        if (!/\/services\/|\/tools\/fuzz\/(targets|fuzz\.test)\.ts$/.test(script.url)) continue;
        for (const { ranges } of script.functions) {
          const [whole, ...blocks] = ranges;
          if (whole === undefined || whole.count === 0) continue;
          const notNow = blocks
            .filter(({ count }) => count === 0)
            .map((range): Interval => [range.startOffset, range.endOffset]);
          const key = `${script.scriptId}:${whole.startOffset}:${whole.endOffset}`;
          const before = this.#missing.get(key);
          const now = before === undefined ? notNow : intersection(before, notNow);
          if (before === undefined || length(now) < length(before)) {
            this.#missing.set(key, now);
            isNew = true;
          }
        }
      }
    });
    return isNew;
  }

  stop(): void {
    this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.disconnect();
  }
}

const length = (intervals: readonly Interval[]) => intervals.reduce((sum, [from, to]) => sum + to - from, 0);

function intersection(a: readonly Interval[], b: readonly Interval[]): Interval[] {
  return a.flatMap(([from, to]) =>
    b.map(([start, end]): Interval => [Math.max(from, start), Math.min(to, end)]).filter(([start, end]) => start < end),
  );
}

type Random = (below: number) => number;

/** mulberry32: small, and the same numbers for the same seed. */
function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) % Math.max(1, below)) >>> 0;
  };
}

/** Lengths and counts that programmers forget. */
const NUMBERS = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

function mutate(pool: readonly Buffer[], random: Random, words: readonly string[], bytesMax: number): Buffer {
  // Young entries more often: they are where the new places are.
  const pick = () => pool[random(2) === 0 ? pool.length - 1 - random(Math.min(8, pool.length)) : random(pool.length)]!;
  let input: Buffer = Buffer.from(pick());
  for (let times = 1 + random(4); times > 0; times--) input = mutateOnce(input, pick, random, words);
  return input.subarray(0, bytesMax);
}

function mutateOnce(input: Buffer, pick: () => Buffer, random: Random, words: readonly string[]): Buffer {
  const at = random(input.length + 1);
  const insert = (bytes: Uint8Array) => Buffer.concat([input.subarray(0, at), bytes, input.subarray(at)]);
  switch (random(words.length > 0 ? 10 : 9)) {
    case 0: // a bit
      if (at < input.length) input[at]! ^= 1 << random(8);
      return input;
    case 1: // a byte
      if (at < input.length) input[at] = random(256);
      return input;
    case 2: // a number, in either byte order
    case 3: {
      const [size, number] = [[1, 2, 4][random(3)]!, NUMBERS[random(NUMBERS.length)]!];
      if (at + size > input.length) return input;
      if (random(2) === 0) input.writeUIntBE(number % 2 ** (8 * size), at, size);
      else input.writeUIntLE(number % 2 ** (8 * size), at, size);
      return input;
    }
    case 4: // less
      return Buffer.concat([input.subarray(0, at), input.subarray(at + 1 + random(32))]);
    case 5: // more
      return insert(Buffer.from(Array.from({ length: 1 + random(8) }, () => random(256))));
    case 6: // the same again
      return insert(input.subarray(at, at + 1 + random(64)));
    case 7: // a part of another
      return insert(part(pick(), random));
    case 8: // cut off
      return random(4) === 0 ? input.subarray(0, at) : input;
    default:
      return insert(Buffer.from(words[random(words.length)]!, 'latin1'));
  }
}

function part(bytes: Buffer, random: Random): Buffer {
  const from = random(bytes.length + 1);
  return bytes.subarray(from, from + 1 + random(128));
}
