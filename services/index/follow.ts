import { systemCall } from '#platform/call.ts';
import type { Service } from '#platform/rpc.types.ts';
import type { Position } from '#proto/storage/v1/log.ts';
import type { Commit, DataService } from '#proto/storage/v1/storage.ts';
import { Fenced } from './fence.ts';
import { Lanes, type Reading } from './lanes.ts';
import { FOLD_BYTES_MAX, FOLD_COMMITS_MAX, type FoldResult, type IndexStore } from './ports.ts';
import { ALONE, type Turn } from './turn.ts';

export type FollowedStore = Pick<IndexStore, 'fold' | 'positions' | 'show'>;
export type FollowedLog = Pick<Service<typeof DataService>, 'readLog'> &
  Partial<Pick<Service<typeof DataService>, 'heads'>>;

/** Reads what lies beyond the positions, up to the heads, and folds it; while one batch is folded the next is read, and no more. */
export async function foldLog<Result>(
  data: Pick<Service<typeof DataService>, 'readLog'>,
  tenant: string,
  { positions, lanes, since }: Reading,
  fold: (tenant: string, commits: readonly Commit[]) => Promise<Result>,
  signal: AbortSignal,
  onFolded: (result: Result) => void,
): Promise<void> {
  const after = [...positions].map(([lane, sequence]) => ({ lane, sequence }));
  let batch: Commit[] = [];
  let bytes = 0;
  let folding: Promise<void> = Promise.resolve();
  const flush = async (): Promise<void> => {
    const commits = batch;
    batch = [];
    bytes = 0;
    await folding;
    folding = fold(tenant, commits).then(onFolded);
    // Awaited at the next flush; a failure until then must not count as unhandled.
    folding.catch(() => {});
  };
  // A rebuild reads for hours: only the signal ends it.
  const call = { ...systemCall(tenant, 'index.fold', signal), deadline: Number.POSITIVE_INFINITY };
  try {
    for await (const commit of data.readLog(call, { after, lanes, since })) {
      batch.push(commit);
      bytes += commit.tableOfContents.length;
      if (batch.length >= FOLD_COMMITS_MAX || bytes >= FOLD_BYTES_MAX) await flush();
    }
    if (batch.length > 0) await flush();
  } finally {
    await folding; // whoever tries again must not meet one that still runs; when it fails, that is what went wrong
  }
}

/** Another process has its turn: it is asked so often how far it is while somebody waits, and the log is folded here when it stands still. */
const WATCH_MS = 100;
const STANDSTILL_MS = 5_000;
const FAILED_MS_MAX = 15_000;
/** A fence stands for seconds. One that nobody removes, or that is a person's block on the indices, is told of so often. */
const FENCED_TOLD_MS = 30_000;

/**
 * Time between the starts of two folds while nobody waits for one. A fold costs its transaction, two thread switches and the
 * rewriting of every study and block that it touches, however few instances it brings: under load commits come every few
 * milliseconds, and gathered they cost a third. Well below the 100 ms in which an instance is to be found.
 */
const PACE_MS = 40;

interface Followed {
  lanes: Lanes;
  running: boolean;
  again: boolean;
  /** When the last fold began; performance.now(). */
  beganMs: number;
  /** When another process was seen to have folded something, or nothing was left to fold. */
  movedMs: number;
  /** What failed again and again is left alone for longer and longer: wakes come by the hundred. */
  failures: number;
  notBeforeMs: number;
  /** Since when folds are refused by a fence, or since that was told. */
  fencedMs: number | undefined;
}

export interface FollowerEvents {
  folded(tenant: string, result: FoldResult): void;
  gap(tenant: string, lanes: readonly string[]): void;
  failed(tenant: string, error: unknown): void;
  /** Another index is about to take the place of this one: until then nothing can be folded. */
  fenced(): void;
  /** Everything that the log held when it was last asked is folded. */
  level(tenant: string): void;
}

/** Keeps the index at the log's heads. A wake makes it prompt, the poll makes it sure. */
export class Follower {
  readonly #data: FollowedLog;
  readonly #store: FollowedStore;
  readonly #events: FollowerEvents;
  readonly #turn: Turn;
  readonly #stop = new AbortController();
  readonly #tenants = new Map<string, Followed>();
  readonly #waiting = new Set<() => void>();
  readonly #runs = new Set<Promise<void>>();
  /** Ends the pauses between folds: somebody waits for one now. */
  readonly #hurry = new Set<() => void>();
  #paused = false;

  constructor(data: FollowedLog, store: FollowedStore, events: FollowerEvents, turn: Turn = ALONE) {
    this.#data = data;
    this.#store = store;
    this.#events = events;
    this.#turn = turn;
  }

  get tenants(): string[] {
    return [...this.#tenants.keys()];
  }

  wake(tenant: string, position?: Position): void {
    const followed = this.#of(tenant);
    if (position) followed.lanes.announce(position);
    this.look(tenant);
  }

  look(tenant: string): void {
    const followed = this.#of(tenant);
    followed.again = true;
    if (followed.running || this.#paused || this.#stop.signal.aborted) return;
    if (performance.now() < followed.notBeforeMs) return; // the poll looks again
    followed.running = true;
    const run = this.#follow(tenant, followed).finally(() => {
      followed.running = false;
      this.#runs.delete(run);
      if (followed.again) this.look(tenant); // asked for between the last look and now
    });
    this.#runs.add(run);
  }

  #of(tenant: string): Followed {
    let followed = this.#tenants.get(tenant);
    if (!followed) {
      followed = {
        lanes: new Lanes(),
        running: false,
        again: false,
        beganMs: Number.NEGATIVE_INFINITY,
        movedMs: performance.now(),
        failures: 0,
        notBeforeMs: 0,
        fencedMs: undefined,
      };
      this.#tenants.set(tenant, followed);
    }
    return followed;
  }

  async #follow(tenant: string, followed: Followed): Promise<void> {
    try {
      while (followed.again && !this.#paused && !this.#stop.signal.aborted) {
        await this.#pace(followed);
        if (this.#paused || this.#stop.signal.aborted) return; // whoever paused it looks again
        followed.again = false;
        followed.beganMs = performance.now();
        if (!this.#turn.held && !(await this.#standsStill(tenant, followed))) continue;
        const some = followed.lanes.reading();
        const reading = some ?? (await this.#whole(tenant, followed));
        const { generation } = followed.lanes;
        const fold = (whose: string, commits: readonly Commit[]) => this.#store.fold(whose, commits);
        await foldLog(this.#data, tenant, reading, fold, this.#stop.signal, (result) => {
          followed.lanes.fold(
            result.generation,
            result.positions.map(({ lane, sequence }) => [lane, sequence] as const),
          );
          followed.fencedMs = undefined;
          this.#told();
          this.#events.folded(tenant, result);
          // What was read lies beyond another index's positions: it is read again, beyond this one's.
          if (result.generation !== generation) followed.again = true;
          else if (result.gaps.length > 0) this.#events.gap(tenant, result.gaps);
        });
        followed.failures = 0;
        if (!some && followed.lanes.generation === generation) followed.lanes.wasRead(followed.beganMs);
        this.#events.level(tenant);
      }
    } catch (error) {
      if (error instanceof Fenced) {
        this.#events.fenced();
        followed.fencedMs ??= performance.now();
        if (performance.now() - followed.fencedMs >= FENCED_TOLD_MS) {
          followed.fencedMs = performance.now();
          this.#events.failed(tenant, error);
        }
        await this.#watch();
        followed.again = true;
        return;
      }
      if (++followed.failures > 1)
        followed.notBeforeMs = performance.now() + Math.min(FAILED_MS_MAX, 100 * 2 ** followed.failures);
      if (!this.#stop.signal.aborted) this.#events.failed(tenant, error); // the next poll tries again
    }
  }

  async #whole(tenant: string, followed: Followed): Promise<Reading> {
    const { generation, positions } = await this.#store.positions(tenant);
    followed.lanes.fold(generation, positions);
    this.#told(); // after a rebuild, who waits learns of lanes on which nothing new comes
    return { positions, lanes: [] };
  }

  #told(): void {
    for (const check of [...this.#waiting]) check();
  }

  /** Watches another process fold. True: nobody seems to, although there is something to fold. */
  async #standsStill(tenant: string, followed: Followed): Promise<boolean> {
    if (this.#data.heads) {
      const { positions } = await this.#data.heads(systemCall(tenant, 'index.watch', this.#stop.signal), {});
      for (const position of positions) followed.lanes.announce(position);
    }
    const { generation, positions } = await this.#store.positions(tenant);
    const moved = followed.lanes.fold(generation, positions);
    this.#told();
    const level = this.lag(tenant) === 0;
    if (level) this.#events.level(tenant);
    if (level || moved) followed.movedMs = performance.now();
    else if (performance.now() - followed.movedMs > STANDSTILL_MS) return true;
    if (!level || this.#waiting.size > 0) {
      await this.#watch();
      followed.again = true;
    }
    return false;
  }

  #watch(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, WATCH_MS).unref());
  }

  #pace(followed: Followed): Promise<void> | undefined {
    const restMs = followed.beganMs + PACE_MS - performance.now();
    if (restMs <= 0 || this.#waiting.size > 0) return;
    return new Promise((resolve) => {
      const go = (): void => {
        clearTimeout(timer);
        this.#hurry.delete(go);
        resolve();
      };
      const timer = setTimeout(go, restMs);
      this.#hurry.add(go);
    });
  }

  #hurryUp(): void {
    for (const go of [...this.#hurry]) go();
  }

  /** Commits that somebody told of and that are not folded yet. */
  lag(tenant: string): number {
    return this.#of(tenant).lanes.lag;
  }

  /**
   * True once all of these are folded and found, in the index that is asked next; false at the limit. `byUid`: folded will do, for questions
   * that name a study; and false at once where all that lacks lies in lanes that stand still, for these are asked often.
   */
  async reached(
    tenant: string,
    positions: readonly Position[],
    limitMs: number,
    signal: AbortSignal,
    byUid = false,
  ): Promise<boolean> {
    if (positions.length === 0) return true;
    const { lanes } = this.#of(tenant);
    const endMs = performance.now() + limitMs;
    while (await this.#reached(tenant, positions, endMs - performance.now(), signal, byUid)) {
      const generation = await this.#store.show(byUid);
      if (generation === lanes.generation) return true; // else another took its place meanwhile, or since it was asked to show
      lanes.become(generation);
    }
    return false;
  }

  async #reached(
    tenant: string,
    positions: readonly Position[],
    limitMs: number,
    signal: AbortSignal,
    byUid: boolean,
  ): Promise<boolean> {
    const { lanes } = this.#of(tenant);
    const inVain = (): boolean => byUid && lanes.standStill(positions);
    if (lanes.reached(positions)) return true;
    // Lanes that grew before this process began are in the store, and nothing new comes on them.
    if (positions.some(({ lane }) => !lanes.knows(lane)) && !inVain()) {
      const { generation, positions: folded } = await this.#store.positions(tenant);
      lanes.fold(generation, folded);
      if (lanes.reached(positions)) return true;
    }
    if (signal.aborted || this.#stop.signal.aborted) return false;
    lanes.expect(positions);
    this.look(tenant);
    if (inVain()) return false;
    return new Promise((resolve) => {
      const done = (reached: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        signal.removeEventListener('abort', giveUp);
        this.#stop.signal.removeEventListener('abort', giveUp);
        resolve(reached);
      };
      const check = (): void => {
        if (lanes.reached(positions)) done(true);
        else if (inVain()) done(false);
      };
      const giveUp = (): void => done(false);
      const timer = setTimeout(giveUp, limitMs);
      this.#waiting.add(check);
      this.#hurryUp();
      signal.addEventListener('abort', giveUp, { once: true });
      this.#stop.signal.addEventListener('abort', giveUp, { once: true });
    });
  }

  /** Nothing is folded while `work` runs; what comes meanwhile is folded after it. */
  async paused<T>(work: () => Promise<T>): Promise<T> {
    this.#paused = true;
    this.#hurryUp();
    await Promise.all(this.#runs);
    try {
      return await work();
    } finally {
      this.#paused = false;
      for (const { lanes } of this.#tenants.values()) lanes.askAgain();
      for (const tenant of this.#tenants.keys()) this.look(tenant);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#hurryUp();
    await Promise.all(this.#runs);
  }
}
