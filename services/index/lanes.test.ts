import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ulid } from 'ulid';
import type { Commit, ReadLogRequest } from '#proto/storage/v1/storage.ts';
import type { RawCommit } from './fold/commit.ts';
import { Follower } from './follow.ts';
import type { Folded, Reached } from './ports.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const OLD = Array.from({ length: 1000 }, (_, n) => ulid(Date.now() - 30 * DAY_MS + n));
const YOUNG = ulid();

/** A log that gives what `ReadLog` promises, or what its release before did, which knows no `since`; and a store that keeps positions. */
class Bed {
  readonly heads = new Map<string, number>([...OLD.map((lane) => [lane, 3] as const), [YOUNG, 1]]);
  readonly folded = new Map<string, number>();
  readonly requests: ReadLogRequest[] = [];
  given = 0;
  knowsSince = true;
  generation = 1;
  readonly follower: Follower;

  constructor() {
    const fail = (): void => assert.fail('nothing is missing, nothing fails');
    this.follower = new Follower(
      { readLog: (_call, request) => this.#read(request) },
      {
        fold: async (_tenant, commits) => this.#fold(commits),
        positions: async (): Promise<Reached> => ({ generation: this.generation, positions: new Map(this.folded) }),
        show: async () => this.generation,
      },
      { folded() {}, level() {}, gap: fail, failed: fail, fenced: fail },
    );
  }

  async *#read(request: ReadLogRequest): AsyncGenerator<Commit> {
    this.requests.push(request);
    const { lanes, since } = request;
    const after = new Map(request.after.map(({ lane, sequence }) => [lane, sequence]));
    for (const [lane, head] of this.heads) {
      if (lanes.length > 0 && !lanes.includes(lane) && !(this.knowsSince && since !== undefined && lane >= since))
        continue;
      for (let sequence = (after.get(lane) ?? 0) + 1; sequence <= head; sequence++) {
        this.given++;
        yield { lane, sequence, tableOfContents: Buffer.alloc(1) };
      }
    }
  }

  #fold(commits: readonly RawCommit[]): Folded {
    for (const { lane, sequence } of commits) {
      assert.ok(sequence <= (this.folded.get(lane) ?? 0) + 1, 'no gap');
      this.folded.set(lane, Math.max(sequence, this.folded.get(lane) ?? 0));
    }
    const nothing = { instances: 0, changedStudies: [], alarms: [], gaps: [] };
    return { ...nothing, generation: this.generation, commits: commits.length, positions: [...commits] };
  }

  /** One more commit of the lane. */
  grow(lane: string): { lane: string; sequence: number } {
    const sequence = (this.heads.get(lane) ?? 0) + 1;
    this.heads.set(lane, sequence);
    return { lane, sequence };
  }
  /** True at once, or once it is folded. */
  reached(positions: { lane: string; sequence: number }[]): Promise<boolean> {
    return this.follower.reached('main', positions, 10_000, new AbortController().signal);
  }
  async all(): Promise<void> {
    await this.reached([{ lane: YOUNG, sequence: 1 }]); // the last that is read
    this.requests.length = 0;
    this.given = 0;
  }
}
const names = ({ lanes }: ReadLogRequest): string[] => [...lanes].sort();

for (const knowsSince of [true, false])
  test(`lanes that have ended are left out of readings, and none of their commits is lost (since ${knowsSince})`, async (t) => {
    const bed = new Bed();
    bed.knowsSince = knowsSince;
    await bed.all();
    // One that everybody writes, and one that nobody knew.
    const position = bed.grow(YOUNG);
    bed.follower.wake('main', position);
    assert.ok(await bed.reached([position]));
    const born = bed.grow(ulid());
    assert.ok(await bed.reached([born]));
    assert.deepEqual(names(bed.requests.at(-1)!), [born.lane, YOUNG].sort());
    assert.equal(bed.given, 2, 'nothing is read twice');
    if (knowsSince) {
      // One that is just there.
      const { lane } = bed.grow(ulid());
      for (let i = 0; i < 3; i++) assert.ok(await bed.reached([bed.grow(YOUNG)]));
      assert.equal(bed.folded.get(lane), 1);
      assert.equal(bed.given, 6, 'nor is this');
    }
    // An old one of which somebody speaks, or for which somebody waits.
    const told = bed.grow(OLD[5]!);
    bed.follower.wake('main', told);
    while (bed.folded.get(told.lane) !== told.sequence) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(await bed.reached([bed.grow(OLD[6]!)]));
    assert.ok(bed.requests.every(({ after }) => after.length < 10));
    // One of which nobody speaks: when everything is read again.
    const silent = bed.grow(OLD[7]!);
    assert.ok(await bed.reached([bed.grow(YOUNG)]));
    assert.equal(bed.folded.get(silent.lane), 3);
    const now = performance.now.bind(performance);
    t.mock.method(performance, 'now', () => now() + 61_000);
    assert.ok(await bed.reached([bed.grow(YOUNG)]));
    assert.equal(bed.folded.get(silent.lane), 4);
    assert.equal(bed.requests.at(-1)!.lanes.length, 0);
    assert.equal(bed.given, knowsSince ? 11 : 7);
    await bed.follower.stop();
  });

test('in an index that took the place of another everything is read again', async () => {
  const bed = new Bed();
  await bed.all();
  bed.generation++;
  bed.folded.delete(OLD[3]!);
  const position = bed.grow(YOUNG);
  assert.ok(await bed.reached([position]));
  assert.ok(await bed.reached([{ lane: OLD[3]!, sequence: 3 }]));
  assert.ok(bed.requests.some(({ lanes, after }) => lanes.length === 0 && after.length === OLD.length));
  await bed.follower.stop();
});
