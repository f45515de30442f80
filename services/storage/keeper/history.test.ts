import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { TestContext } from '#platform/testing.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import type { EntryId } from '#proto/storage/v1/log.ts';
import {
  all,
  compact,
  hold,
  house,
  kindsOf,
  locate,
  make,
  purge,
  read,
  reclaim,
  restore,
  store,
  storeLarge,
  trash,
  verified,
} from './house.testing.ts';

/** Random histories against a model of what must be readable, on the modules as they run. By hand: raise it. */
const HISTORIES = 12;

const STUDIES = ['1.2.1', '1.2.2'];
const sopOf = (study: number, n: number): string => `${STUDIES[study]}.1.${n}`;
/** Found in a file as it is, and in no other instance's. */
const textOf = (sop: string, version: number): string => `<${sop} ${version}>`;

interface Known {
  id: EntryId;
  study: number;
  sop: string;
  version: number;
  trash: boolean;
  purged: boolean;
}
type Change =
  | { do: 'store'; study: number; sop: number; version: number; large: boolean }
  | { do: 'trash' | 'restore' | 'purge'; study: number; pick: number[] }
  | { do: 'hold'; study: number; on: boolean };
type Step =
  | Change
  | { do: 'compact'; study: number }
  | { do: 'reclaim' }
  | { do: 'rebuild' }
  | { do: 'during'; study: number; change: Change };

const study = fc.nat(1);
const pick = fc.array(fc.nat(12), { minLength: 1, maxLength: 4 });
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('store' as const),
      study,
      sop: fc.nat(1),
      version: fc.nat(1),
      large: fc.nat(4).map((n) => n === 0),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('trash' as const, 'restore' as const, 'purge' as const), study, pick }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('hold' as const), study, on: fc.boolean() }) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: change },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('compact' as const), study }) },
  { weight: 2, arbitrary: fc.constant({ do: 'reclaim' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('during' as const), study, change }) },
  { weight: 1, arbitrary: fc.constant({ do: 'rebuild' as const }) },
);

class History {
  readonly #context: TestContext;
  readonly #known: Known[] = [];

  constructor(context: TestContext) {
    this.#context = context;
  }

  async take(one: Step): Promise<void> {
    const context = this.#context;
    switch (one.do) {
      case 'compact':
        await compact(context, STUDIES[one.study]!);
        return;
      case 'reclaim':
        await reclaim(context);
        return;
      case 'rebuild':
        await all(context.client(IndexService).rebuild(context.call(), {}));
        return;
      case 'during': {
        const keeping = Promise.all([compact(context, STUDIES[one.study]!), reclaim(context)]);
        await this.#change(one.change);
        await keeping;
        return;
      }
      default:
        await this.#change(one);
    }
  }

  async #change(one: Change): Promise<void> {
    const context = this.#context;
    const uid = STUDIES[one.study]!;
    if (one.do === 'hold') return hold(context, uid, one.on);
    if (one.do === 'store') {
      const sop = sopOf(one.study, one.sop);
      const made = { study: uid, sop, text: textOf(sop, one.version) };
      const id = one.large ? (await storeLarge(context, made)).id : await store(context, made);
      this.#known.push({ id, study: one.study, sop, version: one.version, trash: false, purged: false });
      return;
    }
    const own = this.#known.filter((known) => known.study === one.study);
    if (own.length === 0) return;
    const named = [...new Set(one.pick.map((n) => own[n % own.length]!))];
    const ids = named.map(({ id }) => id);
    if (one.do === 'purge') await purge(context, uid, ...ids);
    else await (one.do === 'trash' ? trash : restore)(context, uid, ...ids);
    for (const known of named) {
      if (one.do === 'purge') known.purged = true;
      else known.trash = one.do === 'trash';
    }
  }

  /** keep-first: of what is live, the first to come shows. */
  async check(): Promise<void> {
    for (const [index, uid] of STUDIES.entries()) {
      const live = this.#known.filter((one) => one.study === index && !one.trash && !one.purged);
      const located = new Map((await locate(this.#context, uid)).map((one) => [one.sopInstanceUid, one]));
      assert.deepEqual([...located.keys()].sort(), [...new Set(live.map(({ sop }) => sop))].sort());
      for (const [sop, one] of located) {
        const first = live.find((known) => known.sop === sop)!;
        const { file } = make({ study: uid, sop, text: textOf(sop, first.version) });
        assert.ok((await read(this.#context, one)).equals(file), `${sop} reads as it was sent`);
      }
    }
    const findings = await verified(this.#context);
    assert.deepEqual(kindsOf(findings), ['ok-summary'], JSON.stringify(findings)); // every version kept, hidden and in the trash too
  }

  /** What was purged is nowhere any more; what is in the trash comes back. */
  async end(): Promise<void> {
    const context = this.#context;
    for (const uid of STUDIES) await hold(context, uid, false);
    for (const uid of STUDIES) for (let i = 0; i < 2; i++) await compact(context, uid);
    await store(context, { study: '1.9', sop: '1.9.1', text: 'seals the segment before it' });
    await reclaim(context);
    await this.check();
    let archive = '';
    for (const entry of await readdir(join(context.dataDir, 'archive'), { recursive: true, withFileTypes: true }))
      if (entry.isFile()) archive += await readFile(join(entry.parentPath, entry.name), 'latin1');
    for (const { sop, version } of this.#known) {
      const kept = this.#known.some((one) => one.sop === sop && one.version === version && !one.purged);
      const text = textOf(sop, version);
      assert.equal(archive.includes(`${text} ${text}`), kept, `${text} ${kept ? 'is kept' : 'was purged'}`);
    }
    const trashed = this.#known.filter((one) => one.trash && !one.purged);
    for (const one of trashed) {
      await restore(context, STUDIES[one.study]!, one.id);
      one.trash = false;
    }
    await this.check();
  }
}

test('whatever is stored, deleted, restored, purged, packed and reclaimed, in any order: what must be readable is, and the rest is gone', () =>
  fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 8, maxLength: 24 }), async (steps) => {
      const context = await house();
      try {
        const history = new History(context);
        for (const one of steps) await history.take(one);
        await history.check();
        await history.end();
      } finally {
        await context.stop();
      }
    }),
    { numRuns: HISTORIES, endOnFailure: true },
  ));
