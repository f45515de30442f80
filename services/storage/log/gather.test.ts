import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import type { NewEntry } from '../ports.ts';
import { Gather, type GatherLimits } from './gather.ts';
import { sampleEntry, sampleHold } from './sample.testing.ts';

const LIMITS: GatherLimits = { commitBytes: 100_000, commitEntries: 4, queueBytes: 1_000_000, queueEntries: 100 };
const reasonOf = (entry: NewEntry): string => (entry.kind.$case === 'hold' ? entry.kind.value.reason : '?');

/** A commit that ends when the test says so. */
function slow() {
  const commits: string[][] = [];
  const release: (() => void)[] = [];
  const begun: (() => void)[] = [];
  let sequence = 0;
  return {
    commits,
    release,
    next: () => new Promise<void>((resolve) => begun.push(resolve)),
    commit: async (entries: readonly NewEntry[]) => {
      commits.push(entries.map(reasonOf));
      begun.shift()?.();
      await new Promise<void>((resolve) => release.push(resolve));
      return { lane: 'L', sequence: ++sequence, entries: [], places: entries.map(() => undefined) };
    },
  };
}

test('one commit is in flight while the next gathers, and requesters take turns', async () => {
  const disk = slow();
  const gather = new Gather(LIMITS, disk.commit);
  let begun = disk.next();
  const first = gather.append('a', [sampleHold('a1')]);
  await begun;
  const rest = ['a2', 'a3', 'a4', 'a5', 'a6'].map((reason) => gather.append('a', [sampleHold(reason)]));
  rest.push(gather.append('b', [sampleHold('b1'), sampleHold('b1+')]), gather.append('c', [sampleHold('c1')]));
  assert.deepEqual(disk.commits, [['a1']], 'nothing more goes out before the first is durable');
  begun = disk.next();
  disk.release.shift()!();
  assert.deepEqual(await first, {
    position: { lane: 'L', sequence: 1 },
    ids: [{ lane: 'L', sequence: 1, n: 0 }],
    places: [undefined],
  });
  await begun;
  assert.deepEqual(disk.commits[1], ['a2', 'b1', 'b1+', 'c1'], 'five of a do not go before one of b and c');
  begun = disk.next();
  disk.release.shift()!();
  await begun;
  assert.deepEqual(disk.commits[2], ['a3', 'a4', 'a5', 'a6']);
  disk.release.shift()!();
  const all = await Promise.all(rest);
  assert.deepEqual(all[5]!.ids, [
    { lane: 'L', sequence: 2, n: 1 },
    { lane: 'L', sequence: 2, n: 2 },
  ]);
});

test('what is too much to wait is refused with no-permit, and room comes back', async () => {
  const disk = slow();
  const gather = new Gather({ ...LIMITS, queueEntries: 3, queueBytes: 100_000 }, disk.commit);
  const begun = disk.next();
  const first = gather.append('a', [sampleHold()]);
  await begun;
  const waiting = [1, 2, 3].map(() => gather.append('a', [sampleHold()]));
  const refused = (error: unknown) => error instanceof GantryError && error.code === 'no-permit';
  await assert.rejects(gather.append('b', [sampleHold()]), refused);
  disk.release.shift()!();
  await first;
  const next = disk.next();
  void next;
  while (disk.release.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const more = gather.append('b', [sampleEntry(Buffer.alloc(90_000))]);
  await assert.rejects(gather.append('b', [sampleEntry(Buffer.alloc(90_000))]), refused, 'bytes count too');
  const pump = setInterval(() => disk.release.shift()?.(), 1);
  await Promise.all([...waiting, more]);
  assert.equal(gather.queuedBytes, 0);
  clearInterval(pump);
});

test('a request larger than a commit goes alone; a failed commit fails its own waiters only', async () => {
  let fail = true;
  const sizes: number[] = [];
  const gather = new Gather(LIMITS, async (entries) => {
    sizes.push(entries.length);
    if (fail) throw new GantryError('unavailable', 'the disk said no');
    return { lane: 'L', sequence: 1, entries: [], places: [] };
  });
  const large = gather.append('a', [sampleEntry(Buffer.alloc(500_000))]);
  const many = gather.append(
    'b',
    Array.from({ length: 9 }, () => sampleHold()),
  );
  await assert.rejects(large, /the disk said no/);
  await assert.rejects(many, /the disk said no/);
  assert.deepEqual(sizes, [1, 9]);
  fail = false;
  await gather.append('a', [sampleHold()]);
  await gather.close();
  await assert.rejects(
    gather.append('a', [sampleHold()]),
    (error) => error instanceof GantryError && error.code === 'unavailable',
  );
});

test('with several lanes a slow commit delays nobody else', async () => {
  const disk = slow();
  const gather = new Gather(LIMITS, disk.commit, 2);
  let begun = disk.next();
  const first = gather.append('a', [sampleHold('slow')]);
  await begun;
  begun = disk.next();
  const second = gather.append('b', [sampleHold('b1')]);
  await begun;
  const third = gather.append('c', [sampleHold('c1')]);
  assert.deepEqual(disk.commits, [['slow'], ['b1']], 'two are in flight, and no more');
  begun = disk.next();
  disk.release.pop()!();
  await second;
  await begun;
  assert.deepEqual(disk.commits[2], ['c1']);
  disk.release.pop()!();
  await third;
  let closed = false;
  const closing = gather.close().then(() => (closed = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(closed, false, 'closing waits for what is in flight');
  disk.release.pop()!();
  await Promise.all([first, closing]);
});
