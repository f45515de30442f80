import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { CountsResponse, EntryRow, Fate, Located } from '#proto/index/v1/index.ts';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import type { RawCommit } from './fold/commit.ts';
import { describe } from './fold/describe.ts';
import { history, interleave } from './fold/history.testing.ts';
import { modelOf } from './fold/model.ts';
import { idKey } from './fold/order.ts';
import type { JsonAttributes } from './fold/types.ts';
import { makeInstance } from './instances.testing.ts';
import type { IndexStore } from './ports.ts';

/** An IndexStore on storage of its own: `open` again finds what the last one left. */
export interface StoreUnderTest {
  open(): Promise<IndexStore>;
  remove(): Promise<void>;
}

const collect = async <T>(rows: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const row of rows) all.push(row);
  return all;
};

/** The fold's tests have headers of their own making; a store reads real ones. */
export function withRealHeads(commit: RawCommit): RawCommit {
  const toc = TableOfContents.decode(commit.tableOfContents);
  for (const { kind } of toc.entries) {
    if (kind?.$case !== 'instance' && kind?.$case !== 'large') continue;
    const { value } = kind;
    const { attributes } = JSON.parse(value.head.toString()) as { attributes: JsonAttributes };
    const made = makeInstance({
      study: value.studyInstanceUid,
      series: value.seriesInstanceUid,
      sop: value.sopInstanceUid,
      patientId: String(attributes['00100020']?.Value?.[0] ?? ''),
      accession: String(attributes['00080050']?.Value?.[0] ?? ''),
    });
    value.head = made.instance.head;
  }
  return { ...commit, tableOfContents: TableOfContents.encode(toc).finish() };
}

const located = (one: Located): string =>
  `${one.sopInstanceUid} ${idKey(one.entry!)} ${one.place!.object}:${one.place!.offset}`;
const STUDIES = ['1.2.1', '1.2.2', '1.2.3', '1.2'].map((uid) => uid);

/** What the store shows, by its own queries, as far as the model says it. */
async function seen(store: IndexStore, studies: string[]) {
  const shown: Record<string, string[]> = {};
  const kept: Record<string, string[]> = {};
  for (const studyInstanceUid of studies) {
    const request = {
      studyInstanceUids: [studyInstanceUid],
      seriesInstanceUids: [],
      sopInstanceUids: [],
      patientId: '',
      withHead: false,
      renditions: false,
    };
    shown[studyInstanceUid] = (await collect(store.query<Located>('locate', { tenant: 'main', request })))
      .map(located)
      .sort();
    const fates = await collect(
      store.query<Fate>('fates', { tenant: 'main', request: { studyInstanceUid, entries: [] } }),
    );
    kept[studyInstanceUid] = fates
      .filter((one) => one.state === 'kept')
      .map((one) => idKey(one.id!))
      .sort();
  }
  const [counts] = await collect(store.query<CountsResponse>('counts', { tenant: 'main' }));
  return {
    shown,
    kept,
    studies: counts!.studies,
    instances: counts!.instances,
    bytes: counts!.bytes,
    inTrash: counts!.inTrash,
    patients: counts!.patients,
  };
}

function expected(commits: RawCommit[]) {
  const model = modelOf(commits, 'keep-first', describe);
  const shown: Record<string, string[]> = {};
  for (const study of model.studies)
    shown[study.studyInstanceUid] = study.series
      .flatMap((series) => series.views)
      .filter((view) => view.shown !== '')
      .map((view) => {
        const [, id, place] = /^(\S+) @ (\S+)\+/.exec(view.shown)!;
        return `${view.sopInstanceUid} ${id} ${place}`;
      })
      .sort();
  const live = model.studies.filter((study) => study.instances > 0);
  const sum = (of: (study: (typeof live)[number]) => number) =>
    model.studies.reduce((total, study) => total + of(study), 0);
  return {
    shown,
    studies: live.length,
    instances: sum((one) => one.instances),
    bytes: sum((one) => one.bytes),
    inTrash: sum((one) => one.trashInstances),
    patients: model.patients.length,
    keptOf: new Map(
      model.studies.map((study) => [
        study.studyInstanceUid,
        study.series.flatMap((series) => series.views.flatMap((view) => view.kept.map((one) => one.split(' ')[0]!))),
      ]),
    ),
  };
}

export function indexStoreContract(name: string, make: () => Promise<StoreUnderTest>): void {
  const using = async (work: (store: IndexStore, under: StoreUnderTest) => Promise<void>): Promise<void> => {
    const under = await make();
    const store = await under.open();
    try {
      await work(store, under);
    } finally {
      await store.close();
      await under.remove();
    }
  };
  const one = (sequence: number, sop: number, study = '1.2'): RawCommit => {
    const { instance } = makeInstance({ study, series: `${study}.1`, sop: `${study}.1.${sop}`, number: sop });
    const entry = {
      n: 0,
      stamp: (1000 + sequence).toString(16).padStart(12, '0') + '0000',
      kind: { $case: 'instance' as const, value: instance },
    };
    const lane = '01AAAAAAAAAAAAAAAAAAAAAAAA';
    const toc = { formatVersion: 1, tenant: 'main', lane, sequence, entries: [entry] };
    return { lane, sequence, tableOfContents: TableOfContents.encode(toc).finish() };
  };

  test(`${name}: queries say what the model says, live, repeated, reopened and rebuilt`, async () => {
    await fc.assert(
      fc.asyncProperty(
        history,
        fc.array(fc.nat(5), { minLength: 1, maxLength: 9 }),
        fc.nat(30),
        async (made, choices, cut) => {
          const commits = interleave(made.map(withRealHeads), choices);
          const model = expected(commits);
          const under = await make();
          let store = await under.open();
          try {
            await store.fold('main', commits.slice(0, cut));
            await store.fold('main', commits.slice(0, cut + 2));
            await store.close();
            store = await under.open();
            await store.fold('main', commits);
            const check = async () => {
              const studies = Object.keys(model.shown);
              const { shown, kept, ...totals } = await seen(store, studies);
              assert.deepEqual(shown, model.shown);
              const { shown: _, keptOf, ...rest } = model;
              assert.deepEqual(totals, rest);
              // Whatever the model needs, the store tells the keeper to keep.
              for (const [study, ids] of keptOf)
                for (const id of ids) assert.ok(kept[study]!.includes(id), `${id} of ${study}`);
            };
            await check();
            const rebuilding = await store.beginRebuild();
            await rebuilding.fold('main', commits);
            await rebuilding.complete();
            await check();
          } finally {
            await store.close();
            await under.remove();
          }
        },
      ),
      { numRuns: 6, endOnFailure: true },
    );
  });

  test(`${name}: positions move with the rows, and stay`, () =>
    using(async (store) => {
      assert.deepEqual((await store.positions('main')).positions, new Map());
      const { positions, gaps } = await store.fold('main', [one(1, 1), one(2, 2), one(4, 4)]);
      assert.deepEqual(
        [positions, gaps],
        [[{ lane: '01AAAAAAAAAAAAAAAAAAAAAAAA', sequence: 2 }], ['01AAAAAAAAAAAAAAAAAAAAAAAA']],
      );
      assert.deepEqual((await store.positions('main')).positions, new Map([['01AAAAAAAAAAAAAAAAAAAAAAAA', 2]]));
      assert.deepEqual(await store.tenants(), ['main']);
      assert.equal((await seen(store, STUDIES)).instances, 2);
    }));

  test(`${name}: a query sees one state to its end, whatever is folded meanwhile; the next one sees it all`, () =>
    using(async (store) => {
      await store.fold(
        'main',
        Array.from({ length: 600 }, (_, n) => one(n + 1, n + 1)),
      );
      const request = { studyInstanceUid: '1.2', seriesInstanceUid: '', sopInstanceUid: '', inTrash: false };
      const rows = store.query<EntryRow>('entries', { tenant: 'main', request })[Symbol.asyncIterator]();
      await rows.next();
      await store.fold('main', [one(601, 601)]);
      let seen = 1;
      while (!(await rows.next()).done) seen++;
      assert.equal(seen, 600);
      assert.equal((await collect(store.query('entries', { tenant: 'main', request }))).length, 601);
    }));

  test(`${name}: a query goes on in the index in which it began while another takes its place`, () =>
    using(async (store) => {
      const commits = Array.from({ length: 600 }, (_, n) => one(n + 1, n + 1));
      await store.fold('main', commits);
      const request = { studyInstanceUid: '1.2', seriesInstanceUid: '', sopInstanceUid: '', inTrash: false };
      const rows = store.query<EntryRow>('entries', { tenant: 'main', request })[Symbol.asyncIterator]();
      await rows.next();
      const rebuilding = await store.beginRebuild();
      await rebuilding.fold('main', commits.slice(0, 300));
      assert.equal((await rebuilding.positions('main')).size, 1);
      await rebuilding.complete();
      let seen = 1;
      while (!(await rows.next()).done) seen++;
      assert.equal(seen, 600);
      assert.equal((await collect(store.query('entries', { tenant: 'main', request }))).length, 300);
      const abandoned = await store.beginRebuild();
      await abandoned.abandon();
      assert.equal((await collect(store.query('entries', { tenant: 'main', request }))).length, 300);
    }));

  test(`${name}: a query ends when its caller gives up, and an error keeps its code`, () =>
    using(async (store) => {
      await store.fold(
        'main',
        Array.from({ length: 600 }, (_, n) => one(n + 1, n + 1)),
      );
      const request = { studyInstanceUid: '1.2', seriesInstanceUid: '', sopInstanceUid: '', inTrash: false };
      const giveUp = new AbortController();
      await assert.rejects(async () => {
        for await (const _ of store.query('entries', { tenant: 'main', request }, { signal: giveUp.signal }))
          giveUp.abort();
      });
      await assert.rejects(
        collect(store.query('entries', { tenant: 'main', request: { ...request, studyInstanceUid: '' } })),
        { code: 'invalid-argument' },
      );
      await assert.rejects(collect(store.query('no such query', {})), { code: 'unimplemented' });
    }));

  test(`${name}: a study is due once nothing has come since, is written, and is announced until that is said`, () =>
    using(async (store) => {
      await store.fold('main', [one(1, 1), one(2, 2)]);
      assert.deepEqual(await store.settling.due(1000, 10), []);
      const [due] = await store.settling.due(2000, 10);
      assert.deepEqual([due!.studyInstanceUid, due!.settled], ['1.2', 0]);
      assert.equal(await store.settling.settle(due!), true);
      assert.equal((await store.settling.due(2000, 10))[0]!.settled, 1);
      await store.settling.announced(due!);
      assert.deepEqual(await store.settling.due(2000, 10), []);
      // A later arrival unsettles.
      await store.fold('main', [one(3, 3)]);
      assert.equal((await store.settling.due(2000, 10))[0]!.settled, 0);
    }));

  test(`${name}: what was due in one index settles nothing in the next`, () =>
    using(async (store) => {
      await store.fold('main', [one(1, 1, '1.2')]);
      const [due] = await store.settling.due(2000, 10);
      const rebuilding = await store.beginRebuild();
      await rebuilding.fold('main', [one(1, 1, '1.3')]);
      await rebuilding.complete();
      await rebuilding.abandon(); // too late: it is the index now
      assert.equal(await store.settling.settle(due!), false);
      await store.settling.announced({ ...due!, settled: 1 });
      const [next] = await store.settling.due(2000, 10);
      assert.deepEqual([next!.studyInstanceUid, next!.settled], ['1.3', 0]);
    }));
}
