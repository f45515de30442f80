import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Call } from '#platform/call.ts';
import type { Commit, ReadLogRequest } from '#proto/storage/v1/storage.ts';
import { Fenced } from './fence.ts';
import { type FollowedStore, Follower } from './follow.ts';
import { FOLD_COMMITS_MAX, type Folded, type Reached } from './ports.ts';

const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';

/** A log in memory, and a store that keeps only positions. */
class Log {
  readonly commits: Commit[] = [];
  reads = 0;
  failing = 0;
  add(count = 1): { lane: string; sequence: number } {
    for (let i = 0; i < count; i++)
      this.commits.push({ lane: LANE, sequence: this.commits.length + 1, tableOfContents: Buffer.alloc(10) });
    return { lane: LANE, sequence: this.commits.length };
  }
  async *readLog(_call: Call, { after }: ReadLogRequest): AsyncGenerator<Commit> {
    this.reads++;
    if (this.failing-- > 0) throw new Error('storage is away');
    const from = after.find((one) => one.lane === LANE)?.sequence ?? 0;
    for (const commit of this.commits.slice(from)) yield commit;
  }
}
class Store implements FollowedStore {
  sequence = 0;
  generation = 1;
  readonly sizes: number[] = [];
  running = 0;
  before: (() => Promise<void>) | undefined;
  async positions(): Promise<Reached> {
    return { generation: this.generation, positions: new Map(this.sequence > 0 ? [[LANE, this.sequence]] : []) };
  }
  readonly shown: boolean[] = [];
  async show(byUid = false): Promise<number> {
    this.shown.push(!byUid);
    return this.generation;
  }
  async fold(_tenant: string, commits: readonly Commit[]): Promise<Folded> {
    assert.equal(++this.running, 1, 'two folds at once');
    await this.before?.();
    this.running--;
    this.sizes.push(commits.length);
    this.sequence = commits.at(-1)!.sequence;
    return {
      generation: this.generation,
      commits: commits.length,
      instances: 0,
      positions: [{ lane: LANE, sequence: this.sequence }],
      changedStudies: [],
      alarms: [],
      gaps: [],
    };
  }
}

function following() {
  const log = new Log();
  const store = new Store();
  const failures: unknown[] = [];
  const fenced: true[] = [];
  const follower = new Follower(log, store, {
    folded: () => {},
    gap: () => {},
    level: () => {},
    fenced: () => void fenced.push(true),
    failed: (_tenant, error) => failures.push(error),
  });
  const reached = (
    positions: { lane: string; sequence: number }[],
    limitMs = 10_000,
    signal = new AbortController().signal,
    byUid = false,
  ) => follower.reached('main', positions, limitMs, signal, byUid);
  return { log, store, failures, fenced, follower, reached };
}

test('what a wake told of, and what none told of, is folded by whoever asks for its position', async () => {
  const { log, follower, reached } = following();
  assert.equal(await reached([]), true);
  const first = log.add(3);
  follower.wake('main', first);
  assert.equal(await reached([first]), true);
  assert.equal(await reached([log.add()]), true); // its wake was lost
  await follower.stop();
});

test('far behind, many commits go into one fold, and no more than one waits while one runs', async () => {
  const { log, store, reached, follower } = following();
  const last = log.add(FOLD_COMMITS_MAX * 3 + 5);
  assert.equal(await reached([last]), true);
  assert.deepEqual(store.sizes, [FOLD_COMMITS_MAX, FOLD_COMMITS_MAX, FOLD_COMMITS_MAX, 5]);
  await follower.stop();
});

test('lag counts what was announced and is not folded', async () => {
  const { log, store, follower, reached } = following();
  let go: () => void = () => {};
  store.before = () => new Promise((resolve) => (go = resolve));
  const last = log.add(4);
  follower.wake('main', last);
  assert.equal(follower.lag('main'), 4);
  const waiting = reached([last]);
  while (store.running === 0) await new Promise((resolve) => setImmediate(resolve));
  go();
  assert.equal(await waiting, true);
  assert.equal(follower.lag('main'), 0);
  await follower.stop();
});

test('storage away: told, and the next look goes on', async () => {
  const { log, failures, follower, reached } = following();
  log.failing = 1;
  const last = log.add();
  follower.look('main');
  while (failures.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await reached([last]), true);
  await follower.stop();
});

test('who waits is answered at the limit, when they give up, and when the index stops', async () => {
  const { follower, reached } = following();
  const never = [{ lane: LANE, sequence: 99 }];
  assert.equal(await reached(never, 1), false);
  const gaveUp = new AbortController();
  const one = reached(never, 1_000_000, gaveUp.signal);
  gaveUp.abort();
  assert.equal(await one, false);
  const other = reached(never, 1_000_000);
  await new Promise((resolve) => setImmediate(resolve));
  await follower.stop();
  assert.equal(await other, false);
});

test('questions by UID wait for no searches, nor again and again for a lane that stands still', async (t) => {
  const { log, store, follower, reached } = following();
  const never = new AbortController().signal;
  assert.equal(await reached([log.add()], 10_000, never, true), true);
  assert.equal(await reached([log.add()]), true);
  assert.deepEqual(store.shown, [false, true]);
  // A commit that is damaged, or holds what only the next release knows.
  const stuck = { lane: '01BBBBBBBBBBBBBBBBBBBBBBBB', sequence: 4 };
  assert.equal(await reached([stuck], 1, never, true), false);
  const now = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => now() + 10_001);
  assert.equal(await reached([stuck], 1_000_000, never, true), false);
  let folding = (): void => {};
  const begun = new Promise<void>((resolve) => (folding = resolve));
  let go = (): void => {};
  store.before = () => {
    folding();
    return new Promise<void>((resolve) => (go = resolve));
  };
  let answered = false;
  const both = reached([stuck, log.add()], 1_000_000, never, true).then((answer) => {
    answered = true;
    return answer;
  });
  await begun;
  assert.equal(answered, false, 'the others are waited for');
  go();
  assert.equal(await both, false);
  assert.equal(store.sequence, 3);
  assert.equal(await reached([stuck], 1), false);
  // It goes on.
  store.positions = async () => ({
    generation: 1,
    positions: new Map([
      [LANE, store.sequence],
      [stuck.lane, 4],
    ]),
  });
  assert.equal(await reached([stuck]), true);
  assert.equal(await reached([stuck], 10_000, never, true), true);
  await follower.stop();
});

test('while paused nothing is folded; afterwards what came meanwhile is', async () => {
  const { log, store, follower, reached } = following();
  const last = log.add(2);
  await follower.paused(async () => {
    follower.wake('main', last);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(store.sizes, []);
  });
  assert.equal(await reached([last]), true);
  await follower.stop();
});

test('a position in a lane that has long ended is reached, though nothing new speaks of it, and across a rebuild', async () => {
  const { log, store, follower, reached } = following();
  assert.equal(await reached([log.add()]), true);
  const old = { lane: '00OLD', sequence: 5 };
  const withOld = (sequence: number) => async () => ({
    generation: store.generation,
    positions: new Map([
      [LANE, store.sequence],
      [old.lane, sequence],
    ]),
  });
  store.positions = withOld(old.sequence - 1);
  const waiting = reached([old]);
  await follower.paused(async () => {
    store.generation++;
    store.positions = withOld(old.sequence);
  });
  assert.equal(await waiting, true);
  assert.equal(await reached([old, log.add()]), true);
  assert.equal(await reached([{ ...old, sequence: 6 }], 1), false);
  await follower.stop();
});

test('what was folded into an index counts for nothing in the one that has taken its place', async () => {
  const { log, store, follower, reached } = following();
  const last = log.add(3);
  assert.equal(await reached([last]), true);
  store.generation++; // another process has swapped them
  store.sequence = 1;
  let folding = false;
  store.before = async () => {
    folding = true;
  };
  assert.equal(await reached([last]), true);
  assert.ok(folding, 'it was folded into the new one first');
  assert.equal(store.sequence, 3);
  await follower.stop();
});

test('while the index is fenced nothing is folded, nobody is told, and nothing has failed; then it goes on by itself', async () => {
  const { log, store, failures, fenced, follower, reached } = following();
  store.before = async () => {
    if (fenced.length < 2) {
      store.running--;
      throw new Fenced();
    }
  };
  const last = log.add();
  assert.equal(await reached([last]), true);
  assert.deepEqual([fenced.length, failures.length, store.sizes], [2, 0, [1]]);
  await follower.stop();
});

test('a fence that nobody removes is told of, not every time, and what comes is folded once it is gone', async (t) => {
  const { log, store, failures, fenced, follower, reached } = following();
  let standsFor = 4;
  let lateMs = 0;
  const now = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => now() + lateMs);
  store.before = async () => {
    if (standsFor-- <= 0) return;
    store.running--;
    if (fenced.length > 0) lateMs += 20_000;
    throw new Fenced();
  };
  assert.equal(await reached([log.add()], 1_000_000), true);
  assert.equal(fenced.length, 4);
  assert.ok(failures.length === 1 && failures[0] instanceof Fenced, 'after 40 s, and 60 s are too soon again');
  await follower.stop();
});

test('while nobody waits folds keep a pace and gather; whoever waits is not held up by it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] }); // the pace ends when this test says so
  t.mock.method(performance, 'now', () => 1_000_000);
  const { log, store, follower, reached } = following();
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  follower.wake('main', log.add());
  await turns();
  assert.deepEqual(store.sizes, [1], 'the first is folded at once');
  for (let i = 0; i < 5; i++) {
    follower.wake('main', log.add());
    await turns();
  }
  assert.deepEqual(store.sizes, [1], 'the next ones gather');
  t.mock.timers.tick(100); // an instance is to be found within so long
  await turns();
  assert.deepEqual(store.sizes, [1, 5]);
  follower.wake('main', log.add());
  await turns();
  assert.equal(await reached([log.add()]), true);
  assert.deepEqual(store.sizes, [1, 5, 2], 'without the clock having moved');
  await follower.stop();
});
