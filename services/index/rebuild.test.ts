import assert from 'node:assert/strict';
import { syncBuiltinESMExports } from 'node:module';
import { type TestContext, test } from 'node:test';
import timers from 'node:timers/promises';
import { GantryError } from '#platform/errors.ts';
import type { Commit } from '#proto/storage/v1/storage.ts';
import type { Follower } from './follow.ts';
import type { FoldResult, IndexStore, Rebuilding } from './ports.ts';
import { Rebuilder, type RebuilderOptions } from './rebuild.ts';

const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';
const away = () => new GantryError('unavailable', 'storage is away');

/** A log of so many commits and an index that is built from it, both of which fail as they are told; pauses end at once. */
function house(t: TestContext, count: number) {
  t.mock.method(timers, 'setTimeout', async (_ms: number, _value: unknown, { signal }: { signal: AbortSignal }) => {
    await timers.setImmediate();
    signal.throwIfAborted();
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  const commits = Array.from({ length: count }, (_, n): Commit => {
    return { lane: LANE, sequence: n + 1, tableOfContents: Buffer.alloc(2 ** 21) };
  });
  const told = { fences: 0, completed: 0, abandoned: 0, warnings: 0, folded: [] as number[] };
  /** Before each: a commit is read, the heads are asked, a fold, a fence. */
  const before: Record<'read' | 'heads' | 'fold' | 'fence', (n: number) => void> = {
    read() {},
    heads() {},
    fold() {},
    fence() {},
  };
  let [reached, heads] = [0, 0];
  const rebuilding: Rebuilding = {
    async fold(_tenant, some) {
      before.fold(some.at(-1)!.sequence);
      for (const { sequence } of some) told.folded.push(sequence);
      reached = some.at(-1)!.sequence;
      return { commits: some.length, instances: 0 } as FoldResult;
    },
    positions: async () => new Map(reached > 0 ? [[LANE, reached]] : []),
    async fence() {
      before.fence(++told.fences);
    },
    complete: async () => void told.completed++,
    abandon: async () => void told.abandoned++,
  };
  const data: RebuilderOptions['data'] = {
    async *readLog(_call, { after }) {
      for (const commit of commits.slice(after[0]?.sequence ?? 0)) {
        before.read(commit.sequence);
        yield commit;
      }
    },
    async heads() {
      before.heads(++heads);
      return { positions: [{ lane: LANE, sequence: commits.length }] };
    },
  };
  const store = { beginRebuild: async () => rebuilding, tenants: async () => ['main'] } as unknown as IndexStore;
  const follower = { tenants: [], paused: (work: () => Promise<void>) => work() } as unknown as Follower;
  const log = {
    info() {},
    warn() {
      told.warnings++;
    },
  } as unknown as RebuilderOptions['log'];
  return { told, before, commits, rebuilder: new Rebuilder({ data, store, follower, log }) };
}

test('a rebuild goes on where it was when storage, or the index that it builds, was away for a while', async (t) => {
  const { told, before, rebuilder } = house(t, 40);
  let failures = 0;
  before.read = (sequence) => {
    if (sequence === 20 && failures++ < 5) throw away();
  };
  before.fold = (sequence) => {
    if (sequence > 30 && failures++ < 10) throw new GantryError('deadline-exceeded', 'no answer');
  };
  await rebuilder.run();
  assert.ok(failures >= 10);
  assert.deepEqual(
    told.folded,
    Array.from({ length: 40 }, (_, n) => n + 1),
  );
  assert.deepEqual([told.completed, told.abandoned, told.fences], [1, 0, 1]);
  assert.ok(told.warnings <= 3, `${told.warnings} lines`);
});

test('behind the fence too: hours of work are not given up for a moment', async (t) => {
  const { told, before, rebuilder } = house(t, 4);
  before.heads = (n) => {
    if (n <= 3) throw away();
  };
  before.fence = (n) => {
    if (n === 1) throw away();
  };
  await rebuilder.run();
  assert.deepEqual([told.completed, told.abandoned, told.fences], [1, 0, 5]);
});

test('what stays away ends it, at once what cannot pass, and it leaves nothing behind', async (t) => {
  const { told, before, rebuilder } = house(t, 4);
  let lateMs = 0;
  const now = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => now() + lateMs);
  before.read = () => {
    lateMs += 60_000;
    throw away();
  };
  await assert.rejects(rebuilder.run(), { message: 'storage is away' });
  assert.ok(lateMs >= 15 * 60_000 && lateMs < 20 * 60_000, `after ${lateMs} ms`);
  assert.deepEqual([told.completed, told.abandoned], [0, 1]);
  before.read = () => {
    throw new GantryError('damaged', 'a table of contents cannot be read');
  };
  await assert.rejects(rebuilder.run(), { code: 'damaged' });
  assert.deepEqual([told.completed, told.abandoned, told.warnings], [0, 2, 1]);
});

test('told to stop while it waits, it stops', async (t) => {
  const { told, before, rebuilder } = house(t, 4);
  let stopped: Promise<void> | undefined;
  before.read = () => {
    setImmediate(() => (stopped ??= rebuilder.stop()));
    throw away();
  };
  await assert.rejects(rebuilder.run());
  await stopped;
  assert.deepEqual([told.completed, told.abandoned], [0, 1]);
});
