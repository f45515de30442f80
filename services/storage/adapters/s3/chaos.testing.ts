import { ulid } from 'ulid';
import { GantryError } from '#platform/errors.ts';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { sampleHold } from '../../log/sample.testing.ts';
import { openArchiveIn, type S3Archive } from './archive.ts';
import { type ModelBucket, ModelStore, NO_FAULTS } from './bucket.model.ts';
import { TEST_OPTIONS } from './options.testing.ts';

/**
 * One random history: a few processes append, read, close what they take for dead lanes and merge, on a store that loses answers and
 * does late what was given up; they are killed, or sleep and wake. At the end: what was acknowledged is there once, nothing is there
 * twice, sequences have no gaps, nothing stands behind a closing, and whoever once read a commit reads the same bytes for ever.
 */
export interface ChaosResult {
  readonly acknowledged: number;
  readonly refused: number;
  readonly closings: number;
  readonly merged: number;
  readonly requests: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const NEVER = new AbortController().signal;

interface Process {
  readonly bucket: ModelBucket;
  readonly archive: S3Archive;
  /** Follows the log as an index does. */
  readonly positions: Map<string, number>;
  following: Promise<void>;
}

class Problem extends Error {}

export async function runChaos(seed: number, random: () => number): Promise<ChaosResult> {
  try {
    return await new Chaos(random).run();
  } catch (error) {
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

class Chaos {
  readonly #random: () => number;
  readonly #store: ModelStore;
  readonly #processes: Process[] = [];
  readonly #acknowledged = new Map<string, string>();
  /** lane/sequence → its table, as it was first read. */
  readonly #seen = new Map<string, Buffer>();
  readonly #running = new Set<Promise<void>>();
  #serial = 0;
  #refused = 0;
  #closings = 0;
  #merged = 0;
  #problem: unknown;

  constructor(random: () => number) {
    this.#random = random;
    this.#store = new ModelStore(random);
  }

  async run(): Promise<ChaosResult> {
    for (let i = 0; i < 2 + this.#pick(2); i++) await this.#start();
    const mild = this.#random() < 0.3;
    this.#store.faults = {
      applied: this.#pick(mild ? 4 : 25),
      dropped: this.#pick(mild ? 4 : 15),
      late: this.#pick(mild ? 4 : 20),
      unread: this.#pick(mild ? 2 : 10),
      full: this.#pick(3),
    };
    for (let step = 0; step < 40 && !this.#problem; step++) {
      const work = this.#step().catch((error) => {
        // What a store that fails may cost: whoever asked is refused.
        if (!(error instanceof GantryError) || !['unavailable', 'no-space', 'conflict'].includes(error.code))
          this.#problem ??= error;
      });
      this.#running.add(work);
      void work.then(() => this.#running.delete(work));
      if (this.#running.size > 6 || this.#random() < 0.3) await Promise.race(this.#running);
    }
    for (const { bucket } of this.#processes) bucket.wake();
    await Promise.all(this.#running);
    if (this.#problem) throw this.#problem;
    await this.#end();
    return {
      acknowledged: this.#acknowledged.size,
      refused: this.#refused,
      closings: this.#closings,
      merged: this.#merged,
      requests: this.#store.requests,
    };
  }

  async #step(): Promise<void> {
    const process = this.#processes[this.#pick(this.#processes.length)]!;
    const dice = this.#random() * 100;
    if (dice < 58) return this.#append(process);
    if (dice < 70) return this.#follow(process);
    if (dice < 80) {
      this.#closings += await process.archive.log.closeDeadLanes();
      return;
    }
    if (dice < 86) return this.#merge(process);
    if (dice < 89) {
      process.bucket.sleep();
      if (this.#random() < 0.5) this.#store.nowMs += 2 * DAY_MS;
      await new Promise((resolve) => setImmediate(resolve));
      process.bucket.wake();
      return;
    }
    if (dice < 92) {
      this.#store.nowMs += this.#random() < 0.5 ? 1000 : 2 * DAY_MS;
      return;
    }
    if (dice < 95) {
      await process.archive.log.sealAged();
      return;
    }
    await this.#start();
    process.bucket.dead = true;
    process.bucket.wake();
    if (this.#processes.includes(process)) this.#processes.splice(this.#processes.indexOf(process), 1);
  }

  async #start(): Promise<void> {
    const store = this.#store;
    const bucket = store.client();
    bucket.steady = true; // whoever cannot start is started again
    const archive = await openArchiveIn(bucket, {
      ...TEST_OPTIONS,
      gather: { ...TEST_OPTIONS.gather, commitEntries: 4 },
      lanes: 1 + this.#pick(3),
      segmentBytes: 8 * 1024,
      tableCacheBytes: this.#random() < 0.5 ? 0 : 4096,
      lookMs: this.#random() < 0.5 ? 0 : 1000,
      deadMs: 200,
      clockwork: {
        elapsedMs: () => store.nowMs,
        random: this.#random,
        name: (ms) => ulid(ms, this.#random),
        pause: async (ms) => {
          await store.travel();
          store.nowMs += Math.ceil(ms);
        },
      },
    });
    bucket.steady = false;
    this.#processes.push({ bucket, archive, positions: new Map(), following: Promise.resolve() });
  }

  async #append({ archive, bucket }: Process): Promise<void> {
    const names = Array.from({ length: 1 + this.#pick(2) }, () => `entry ${++this.#serial}`);
    try {
      const { ids, position } = await archive.log.append('main', `r${this.#pick(3)}`, names.map(sampleHold));
      if (bucket.dead) return; // nobody is there to hear it
      for (const [i, name] of names.entries()) this.#acknowledged.set(name, keyOf(ids[i]!));
      if (this.#random() < 0.5) for (const other of this.#processes) other.archive.log.told('main', position);
    } catch (error) {
      this.#refused++;
      throw error;
    }
  }

  /** Reads on from where this process is: without gaps, and what others have read too. */
  #follow(process: Process): Promise<void> {
    const turn = process.following.catch(() => {}).then(() => this.#readOn(process));
    process.following = turn;
    turn.catch(() => {}); // whoever asked is told
    return turn;
  }

  async #readOn({ archive, positions }: Process): Promise<void> {
    const after = [...positions].map(([lane, sequence]) => ({ lane, sequence }));
    for await (const { lane, sequence, tableOfContents } of archive.log.read('main', after, [], NEVER)) {
      const expected = (positions.get(lane) ?? 0) + 1;
      if (sequence !== expected) throw new Problem(`commit ${sequence} of ${lane} came, ${expected} was due`);
      positions.set(lane, sequence);
      this.#compare(`${lane}/${sequence}`, Buffer.from(tableOfContents));
    }
  }

  #compare(key: string, table: Buffer): void {
    const before = this.#seen.get(key);
    if (before && !before.equals(table)) throw new Problem(`commit ${key} reads otherwise than before`);
    this.#seen.set(key, table);
  }

  async #merge({ archive }: Process): Promise<void> {
    const rows = (await archive.log.segments('main')).filter(({ state }) => state === 'sealed');
    const row = rows[this.#pick(rows.length)];
    if (!row) return;
    try {
      await archive.log.prepareThin('main', row.object);
      if (this.#random() < 0.7) await archive.log.thin('main', row.object);
      this.#merged++;
    } catch (error) {
      // Another process merged it meanwhile.
      if (!(error instanceof GantryError) || !['not-found', 'failed-precondition'].includes(error.code)) throw error;
    }
  }

  async #end(): Promise<void> {
    this.#store.faults = NO_FAULTS;
    for (const process of this.#processes) {
      await this.#all(process);
      process.bucket.dead = true;
    }
    this.#store.settle(); // even now something late may come
    this.#processes.length = 0;
    await this.#start();
    const [last] = this.#processes;
    // Twice: a sign of life may have been on its way.
    for (let i = 0; i < 2; i++) {
      this.#store.nowMs += 3 * DAY_MS;
      await last!.archive.log.closeDeadLanes();
    }
    await this.#all(last!);
    const found = new Map<string, string>();
    const closed = new Set<string>();
    for await (const { lane, sequence, tableOfContents } of last!.archive.log.read('main', [], [], NEVER)) {
      if (closed.has(lane)) throw new Problem(`commit ${sequence} of ${lane} stands behind its closing`);
      for (const { n, kind } of TableOfContents.decode(tableOfContents).entries) {
        if (kind?.$case === 'closed') closed.add(lane);
        if (kind?.$case !== 'hold') continue;
        const { reason } = kind.value;
        const key = keyOf({ lane, sequence, n });
        if (found.has(reason)) throw new Problem(`${reason} is there twice: ${found.get(reason)} and ${key}`);
        found.set(reason, key);
      }
    }
    for (const [name, key] of this.#acknowledged)
      if (found.get(name) !== key) throw new Problem(`${name} was acknowledged as ${key}, and is ${found.get(name)}`);
    for (const { lane } of await last!.archive.log.heads('main'))
      if (!closed.has(lane)) throw new Problem(`lane ${lane} was not closed`);
    if (last!.archive.log.alarms().length > 0) throw new Problem(JSON.stringify(last!.archive.log.alarms()[0]));
  }

  /** Whoever asks for the heads and then reads has everything that was acknowledged by then. */
  async #all(process: Process): Promise<void> {
    const heads = await process.archive.log.heads('main');
    await this.#follow(process);
    for (const { lane, sequence } of heads)
      if ((process.positions.get(lane) ?? 0) < sequence)
        throw new Problem(`${lane} was read up to ${process.positions.get(lane)}, not ${sequence}`);
    for (const [name, key] of this.#acknowledged) {
      const [lane, sequence] = key.split('/');
      if ((process.positions.get(lane!) ?? 0) < Number(sequence)) throw new Problem(`${name} at ${key} was not read`);
    }
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }
}

const keyOf = ({ lane, sequence, n }: { lane: string; sequence: number; n: number }): string =>
  `${lane}/${sequence}/${n}`;
