import { GantryError } from '#platform/errors.ts';
import type { Entry, EntryId, Place } from '#proto/storage/v1/log.ts';
import type { Appended, NewEntry } from '../ports.ts';
import { weightOf } from './commit.ts';

export interface GatherLimits {
  /** One commit at most: a larger single request still goes, alone. */
  readonly commitBytes: number;
  readonly commitEntries: number;
  /** What may wait while a commit is in flight; beyond it `no-permit`. */
  readonly queueBytes: number;
  readonly queueEntries: number;
}

export interface Committed {
  readonly lane: string;
  readonly sequence: number;
  readonly entries: readonly Entry[];
  readonly places: readonly (Place | undefined)[];
}

interface Waiting {
  readonly entries: readonly NewEntry[];
  readonly weight: number;
  readonly resolve: (appended: Appended) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Group commit. One commit a lane is in flight while the next gathers, so the slower the medium the larger the commits: no timer,
 * nothing to tune. Whichever lane is free takes what waits, so one slow commit delays nobody else's. Requesters take turns, so an
 * association that sends fast does not starve one that sends slowly.
 */
export class Gather {
  readonly #limits: GatherLimits;
  readonly #commit: (entries: readonly NewEntry[]) => Promise<Committed>;
  /** Insertion order is the order of turns. */
  readonly #turns = new Map<string, Waiting[]>();
  #queuedBytes = 0;
  #queuedEntries = 0;
  readonly #lanes: number;
  #running = 0;
  readonly #runs = new Set<Promise<void>>();
  #closed = false;

  /** `commit` is called again while up to `lanes − 1` earlier calls are not settled. */
  constructor(limits: GatherLimits, commit: (entries: readonly NewEntry[]) => Promise<Committed>, lanes = 1) {
    this.#limits = limits;
    this.#commit = commit;
    this.#lanes = lanes;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  append(requester: string, entries: readonly NewEntry[]): Promise<Appended> {
    if (this.#closed) return Promise.reject(new GantryError('unavailable', 'the archive is closing'));
    if (entries.length === 0) return Promise.reject(new GantryError('invalid-argument', 'nothing to append'));
    const weight = entries.reduce((sum, entry) => sum + weightOf(entry), 0);
    // One request always fits an empty queue, however large: its own limits were checked where it came in.
    if (
      this.#queuedEntries > 0 &&
      (this.#queuedBytes + weight > this.#limits.queueBytes ||
        this.#queuedEntries + entries.length > this.#limits.queueEntries)
    )
      return Promise.reject(new GantryError('no-permit', 'too much is waiting to be committed'));
    this.#queuedBytes += weight;
    this.#queuedEntries += entries.length;
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { entries, weight, resolve, reject };
      const queue = this.#turns.get(requester);
      if (queue) queue.push(waiting);
      else this.#turns.set(requester, [waiting]);
      if (this.#running < this.#lanes) this.#start();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    while (this.#runs.size > 0) await Promise.all(this.#runs);
  }

  #start(): void {
    this.#running++;
    const run = this.#run().then(() => void this.#runs.delete(run));
    this.#runs.add(run);
  }

  async #run(): Promise<void> {
    // What arrives in this turn of the event loop belongs together.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (this.#turns.size > 0) {
      const batch = this.#take();
      try {
        const committed = await this.#commit(batch.flatMap((waiting) => waiting.entries));
        settle(batch, committed);
      } catch (error) {
        for (const waiting of batch) waiting.reject(error);
      }
    }
    this.#running--; // in the same turn as the look: what is appended from now on starts another run
  }

  #take(): Waiting[] {
    const batch: Waiting[] = [];
    let bytes = 0;
    let entries = 0;
    while (this.#turns.size > 0) {
      const [requester, queue] = this.#turns.entries().next().value!;
      const waiting = queue[0]!;
      const fits =
        bytes + waiting.weight <= this.#limits.commitBytes &&
        entries + waiting.entries.length <= this.#limits.commitEntries;
      if (batch.length > 0 && !fits) break;
      queue.shift();
      this.#turns.delete(requester);
      if (queue.length > 0) this.#turns.set(requester, queue); // to the back of the row
      batch.push(waiting);
      bytes += waiting.weight;
      entries += waiting.entries.length;
    }
    this.#queuedBytes -= bytes;
    this.#queuedEntries -= entries;
    return batch;
  }
}

function settle(batch: readonly Waiting[], { lane, sequence, places }: Committed): void {
  let n = 0;
  for (const waiting of batch) {
    const ids: EntryId[] = waiting.entries.map((_, i) => ({ lane, sequence, n: n + i }));
    waiting.resolve({ position: { lane, sequence }, ids, places: places.slice(n, n + waiting.entries.length) });
    n += waiting.entries.length;
  }
}
