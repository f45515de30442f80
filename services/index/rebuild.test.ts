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
function house(t: TestContext, count: number, alone?: RebuilderOptions['alone']) {
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
  const before: Record<'read' | 'heads' | 'fold' | 'fence', (n: number) => void | Promise<void>> = {
    read() {},
    heads() {},
    fold() {},
    fence() {},
  };
  let [reached, heads, lateMs] = [0, 0, 0];
  const now = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => now() + lateMs);
  const late = (ms: number): void => void (lateMs += ms);
  const rebuilding: Rebuilding = {
    async fold(_tenant, some) {
      await before.fold(some.at(-1)!.sequence);
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
  const rebuilder = new Rebuilder({ data, store, follower, log, ...(alone && { alone }) });
  return { told, before, late, rebuilder };
}

test('a rebuild goes on where it was when the log was away for a while, and again when it had moved since', async (t) => {
  const { told, before, late, rebuilder } = house(t, 40);
  let failures = 0;
  before.read = (sequence) => {
    if ((sequence === 20 || sequence === 30) && ++failures % 6 !== 0) {
      late(3 * 60_000);
      throw failures % 2 === 0 ? away() : new GantryError('deadline-exceeded', 'no answer');
    }
  };
  await rebuilder.run(); // away for 15 minutes twice, but it moved between
  assert.deepEqual(
    told.folded,
    Array.from({ length: 40 }, (_, n) => n + 1),
  );
  assert.deepEqual([told.completed, told.abandoned, told.fences, told.warnings], [1, 0, 1, 2]);
});

test('what was being folded is waited for before the log is read again: two folds at once would not be', async (t) => {
  const { told, before, rebuilder } = house(t, 40);
  let [running, failed] = [0, false];
  before.fold = async () => {
    assert.equal(++running, 1);
    for (let n = 0; n < 10; n++) await timers.setImmediate();
    running--;
  };
  before.read = (sequence) => {
    if (sequence === 20 && !failed) {
      failed = true;
      throw away();
    }
  };
  await rebuilder.run();
  assert.deepEqual([told.completed, told.folded.length], [1, 40]);
});

test('behind the fence too, which is put up once: hours of work are not given up for a moment', async (t) => {
  const { told, before, rebuilder } = house(t, 4);
  before.heads = (n) => {
    if (n <= 3) throw away();
  };
  await rebuilder.run();
  assert.deepEqual([told.completed, told.abandoned, told.fences], [1, 0, 1]);
});

test('behind the fence nobody else folds either: a minute, and the old index is left as it was', async (t) => {
  const { told, before, late, rebuilder } = house(t, 4);
  before.heads = (n) => {
    late(20_000);
    assert.ok(n <= 4, `asked ${n} times`);
    throw away();
  };
  await assert.rejects(rebuilder.run(), { message: 'storage is away' });
  assert.deepEqual([told.completed, told.abandoned], [0, 1]);
});

test('what stays away ends it, and leaves nothing behind', async (t) => {
  const { told, before, late, rebuilder } = house(t, 4);
  let asked = 0;
  before.read = () => {
    asked++;
    late(60_000);
    throw away();
  };
  await assert.rejects(rebuilder.run(), { message: 'storage is away' });
  assert.ok(asked >= 15 && asked < 20, `${asked} times`);
  assert.deepEqual([told.completed, told.abandoned, told.warnings], [0, 1, 1]);
});

test('what is no absence of the log ends it at once: broken tables, and every failure of the index that is built', async (t) => {
  const { told, before, rebuilder } = house(t, 4);
  for (const [where, code] of [
    ['read', 'damaged'],
    ['read', 'internal'],
    ['fold', 'unavailable'],
    ['fence', 'unavailable'],
  ] as const) {
    const abandoned = told.abandoned;
    before[where] = () => {
      throw new GantryError(code, `not ${where}`);
    };
    await assert.rejects(rebuilder.run(), { code, message: `not ${where}` });
    before[where] = () => {};
    assert.deepEqual([told.completed, told.abandoned, told.warnings], [0, abandoned + 1, 0]);
  }
});

test('told to stop while it waits, or when another may rebuild, it stops before it fences anything', async (t) => {
  const { told, before, rebuilder } = house(t, 4);
  let stopped: Promise<void> | undefined;
  before.read = () => {
    setImmediate(() => (stopped ??= rebuilder.stop()));
    throw away();
  };
  await assert.rejects(rebuilder.run());
  await stopped;
  assert.deepEqual([told.completed, told.abandoned, told.fences], [0, 1, 0]);

  const lost = new AbortController();
  const other = house(t, 4, (_signal, work) => work(lost.signal));
  other.before.fold = async () => lost.abort(new Error('the lease is lost'));
  await assert.rejects(other.rebuilder.run(), { message: 'the lease is lost' });
  assert.deepEqual([other.told.completed, other.told.abandoned, other.told.fences], [0, 1, 0]);
});
