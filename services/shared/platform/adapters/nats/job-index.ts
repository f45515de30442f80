import type { Beats } from './beats.ts';
import type { JobState } from './job-record.ts';

/** What was replaced stays in the heap until it comes up, or until there is more of it than of the rest. */
const SPARE = 1_000;

export interface Entry {
  subject: string;
  sequence: number;
  state: JobState;
}

/**
 * What a worker knows of its queue without asking: which jobs there are, when each is due, who runs it. A hint only: what it says is
 * claimed by compare-and-set. Some 400 bytes a job.
 */
export class JobIndex {
  readonly #beats: Beats;
  readonly #entries = new Map<string, Entry>();
  /** Of those waiting, by time; what was replaced meanwhile is skipped when it comes up. */
  readonly #heap = new Heap();
  readonly #running = new Map<string, Entry>();
  #seen: Set<string> | undefined;

  constructor(beats: Beats) {
    this.#beats = beats;
  }

  begin(): void {
    this.#seen = new Set();
  }
  caughtUp(): void {
    const seen = this.#seen;
    this.#seen = undefined;
    if (seen) for (const subject of this.#entries.keys()) if (!seen.has(subject)) this.remove(subject);
  }

  put(entry: Entry): void {
    this.#seen?.add(entry.subject);
    const before = this.#entries.get(entry.subject);
    if (before && before.sequence > entry.sequence) return;
    this.#entries.set(entry.subject, entry);
    this.#running.delete(entry.subject);
    if (entry.state.state === 'running') {
      this.#running.set(entry.subject, entry);
      this.#beats.deadAt(entry.state.owner); // its time begins
    } else if (entry.state.state === 'waiting') this.#heap.push(entry);
    if (this.#heap.size > 2 * this.#entries.size + SPARE)
      this.#heap.fill([...this.#entries.values()].filter(({ state }) => state.state === 'waiting'));
  }
  remove(subject: string): void {
    this.#entries.delete(subject);
    this.#running.delete(subject);
  }
  get(subject: string): Entry | undefined {
    return this.#entries.get(subject);
  }
  owns(id: string): boolean {
    for (const { state } of this.#running.values()) if (state.owner === id) return true;
    return false;
  }

  /** Takes up to `count` out: those due, oldest first, and those whose process is gone. `isFree`: not in this process's own hands. */
  due(now: number, count: number, isFree: (entry: Entry) => boolean): Entry[] {
    const due: Entry[] = [];
    for (const entry of this.#running.values()) {
      if (due.length >= count) break;
      if (!isFree(entry)) continue;
      if (entry.state.owner === this.#beats.id || this.#beats.isDead(entry.state.owner)) due.push(entry);
    }
    for (let top = this.#top(); top && due.length < count && top.state.notBefore <= now; top = this.#top()) {
      this.#heap.pop();
      if (isFree(top)) due.push(top);
    }
    return due.sort((a, b) => order(a.state, b.state));
  }
  /** It was taken out and could not be claimed. */
  putBack(entry: Entry): void {
    const present = this.#entries.get(entry.subject);
    if (present?.state.state === 'waiting') this.#heap.push(present);
  }
  /** When the next one will be due, on `Date.now()`'s clock. */
  nextAt(now: number): number | null {
    let next = this.#top()?.state.notBefore ?? Number.POSITIVE_INFINITY;
    for (const { state } of this.#running.values())
      next = Math.min(next, now + Math.max(0, this.#beats.deadAt(state.owner) - performance.now()));
    return Number.isFinite(next) ? next : null;
  }
  #top(): Entry | undefined {
    for (;;) {
      const top = this.#heap.top;
      if (!top || this.#entries.get(top.subject) === top) return top;
      this.#heap.pop();
    }
  }

  counts(now: number): { waiting: number; running: number; dead: number; oldestMs: number } {
    let dead = 0;
    for (const { state } of this.#entries.values()) if (state.state === 'dead') dead++;
    const running = this.#running.size;
    const first = this.#top()?.state.notBefore;
    return {
      waiting: this.#entries.size - running - dead,
      running,
      dead,
      oldestMs: first === undefined ? 0 : Math.max(0, now - first),
    };
  }
}

export const order = (a: JobState, b: JobState): number =>
  a.notBefore - b.notBefore || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);

class Heap {
  #items: Entry[] = [];

  get size(): number {
    return this.#items.length;
  }
  fill(entries: Entry[]): void {
    this.#items = entries.sort((a, b) => order(a.state, b.state)); // what is sorted is a heap
  }
  get top(): Entry | undefined {
    return this.#items[0];
  }
  push(entry: Entry): void {
    const items = this.#items;
    let at = items.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (order(items[parent].state, entry.state) <= 0) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = entry;
  }
  pop(): void {
    const items = this.#items;
    const last = items.pop();
    if (last === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && order(items[child + 1].state, items[child].state) < 0) child++;
      if (order(last.state, items[child].state) <= 0) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = last;
  }
}
