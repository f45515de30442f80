import { hash } from 'node:crypto';
import { type Bucket, BucketError, type Got, type Range, type Row, type Upload } from './bucket.ts';

/** How often, of a hundred requests, what goes wrong. */
export interface Faults {
  /** It is done, and the answer is lost. */
  applied: number;
  /** It is not done, and nobody says so. */
  dropped: number;
  /** The answer is lost, and it is done later, whatever happened meanwhile. */
  late: number;
  /** A read without an answer. */
  unread: number;
  /** A put is refused for want of room. */
  full: number;
}
export const NO_FAULTS: Faults = { applied: 0, dropped: 0, late: 0, unread: 0, full: 0 };

interface Stored {
  readonly bytes: Buffer;
  readonly modifiedMs: number;
}

/**
 * A store in memory that keeps S3's promises (a put is whole, conditions hold, reads and lists see what was put) and no others: answers
 * are lost, what was given up is done much later, and requests of different processes fall between each other in any order.
 */
export class ModelStore {
  readonly objects = new Map<string, Stored>();
  faults: Faults = NO_FAULTS;
  nowMs = Date.parse('2026-01-01T00:00:00Z');
  readonly #random: () => number;
  /** What was given up and will be done yet. */
  readonly #late: { steps: number; apply: () => void }[] = [];
  requests = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** One process's way to the store; dead, it asks for nothing more, and what it asked for may still be done. */
  client(): ModelBucket {
    return new ModelBucket(this);
  }

  /** A request on its way: others come before it, or behind. */
  async travel(): Promise<void> {
    this.requests++;
    this.nowMs += 1;
    for (let turns = Math.floor(this.#random() * 6); turns >= 0; turns--) await Promise.resolve();
    if (this.#random() < 0.02) await new Promise<void>((resolve) => setImmediate(resolve));
    for (const each of this.#late) each.steps--;
    for (const each of this.#late.filter(({ steps }) => steps <= 0)) {
      this.#late.splice(this.#late.indexOf(each), 1);
      each.apply();
    }
  }

  later(apply: () => void): void {
    this.#late.push({ steps: 1 + Math.floor(this.#random() ** 2 * 200), apply });
  }

  /** All that was given up is done now. */
  settle(): void {
    for (const { apply } of this.#late.splice(0)) apply();
  }

  write(key: string, bytes: Buffer, ifAbsent: boolean): boolean {
    if (ifAbsent && this.objects.has(key)) return false;
    this.objects.set(key, { bytes, modifiedMs: this.nowMs });
    return true;
  }

  happens(percent: number): boolean {
    return this.#random() * 100 < percent;
  }
}

export class ModelBucket implements Bucket {
  readonly #store: ModelStore;
  dead = false;
  /** Nothing goes wrong for it. */
  steady = false;
  /** Asleep: requests leave only after it wakes. */
  #asleep: Promise<void> | undefined;
  #wake = (): void => {};

  constructor(store: ModelStore) {
    this.#store = store;
  }

  sleep(): void {
    this.#asleep ??= new Promise((resolve) => (this.#wake = resolve));
  }

  wake(): void {
    this.#wake();
    this.#asleep = undefined;
  }

  now(): number {
    return this.#store.nowMs;
  }

  async put(key: string, body: Buffer, { ifAbsent = false } = {}): Promise<void> {
    const bytes = Buffer.from(body);
    await this.#change(() => {
      if (!this.#store.write(key, bytes, ifAbsent)) throw new BucketError('exists', `${key} is there`);
    });
  }

  async get(key: string, range?: Range): Promise<Got | undefined> {
    await this.#ask();
    const stored = this.#store.objects.get(key);
    if (!stored) return undefined;
    const { bytes, modifiedMs } = stored;
    const total = bytes.length;
    if (!range) return { bytes, total, modifiedMs };
    const from = 'last' in range ? Math.max(0, total - range.last) : range.offset;
    const to = 'last' in range ? total : range.offset + range.length;
    return { bytes: bytes.subarray(from, to), total, modifiedMs };
  }

  async head(key: string): Promise<Row | undefined> {
    await this.#ask();
    const stored = this.#store.objects.get(key);
    return stored && { key, bytes: stored.bytes.length, modifiedMs: stored.modifiedMs };
  }

  /** Pages of three: each is asked for, and the store may change between them. */
  async *list(prefix: string, { after = '', shallow = false } = {}): AsyncIterable<Row[]> {
    for (let from = after; ; ) {
      await this.#ask();
      const keys = [...this.#store.objects.keys()].filter((key) => key.startsWith(prefix) && key > from).sort();
      const rows: Row[] = [];
      for (const key of keys) {
        const slash = shallow ? key.indexOf('/', prefix.length) : -1;
        const name = slash < 0 ? key : key.slice(0, slash + 1);
        if (rows.at(-1)?.key === name) continue;
        if (rows.length === 3) break;
        const { bytes, modifiedMs } = this.#store.objects.get(key)!;
        const tag = slash < 0 ? hash('md5', bytes) : '';
        rows.push(slash < 0 ? { key, bytes: bytes.length, modifiedMs, tag } : { key: name, bytes: 0, modifiedMs: 0 });
      }
      if (rows.length > 0) yield rows;
      if (rows.length < 3) return;
      const last = rows.at(-1)!.key;
      from = last.endsWith('/') ? `${last}\uffff` : last;
    }
  }

  async remove(key: string): Promise<void> {
    await this.#change(() => void this.#store.objects.delete(key));
  }

  async beginUpload(key: string): Promise<Upload> {
    await this.#ask();
    const parts: Buffer[] = [];
    return {
      part: async (number, body) => {
        await this.#ask();
        parts[number - 1] = Buffer.from(body);
      },
      complete: () => this.put(key, Buffer.concat(parts), { ifAbsent: true }),
      abort: async () => {},
    };
  }

  async *uploads(): AsyncIterable<never> {}

  async #ask(): Promise<void> {
    await this.#asleep;
    this.#alive();
    await this.#store.travel();
    this.#alive();
    if (this.#happens('unread')) throw new BucketError('unclear', 'no answer');
  }

  async #change(apply: () => void): Promise<void> {
    await this.#asleep;
    this.#alive();
    await this.#store.travel();
    const quietly = (): void => {
      try {
        apply();
      } catch {
        // it was there: the answer that says so is lost
      }
    };
    if (this.#happens('full')) throw new BucketError('full', 'no room');
    if (this.#happens('dropped')) throw new BucketError('unclear', 'no answer');
    if (this.#happens('late')) {
      this.#store.later(quietly);
      throw new BucketError('unclear', 'no answer');
    }
    if (this.#happens('applied')) {
      quietly();
      throw new BucketError('unclear', 'no answer');
    }
    apply();
    await this.#store.travel();
    this.#alive();
  }

  #happens(fault: keyof Faults): boolean {
    return !this.steady && this.#store.happens(this.#store.faults[fault]);
  }

  #alive(): void {
    if (this.dead) throw new BucketError('unclear', 'this process is dead');
  }
}
