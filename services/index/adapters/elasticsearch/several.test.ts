import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Client } from '@elastic/elasticsearch';
import fc from 'fast-check';
import { Tag } from '#dicom/tags.ts';
import { type CountsResponse, type EntryRow, type Located, SearchRequest } from '#proto/index/v1/index.ts';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { type ElasticsearchNodes, startElasticsearch } from '../../../../tools/servers/index.ts';
import type { RawCommit } from '../../fold/commit.ts';
import { describe } from '../../fold/describe.ts';
import { history, interleave } from '../../fold/history.testing.ts';
import { modelOf } from '../../fold/model.ts';
import { withRealHeads } from '../../index.contract.ts';
import { collect, makeInstance } from '../../instances.testing.ts';
import { SEARCH_LIMITS } from '../../search/settings.ts';
import { optionsOf } from './options.testing.ts';
import { ElasticIndexStore } from './store.ts';

let servers: ElasticsearchNodes;
before(async () => {
  servers = await startElasticsearch();
});
after(async () => servers?.close());

const LANES = ['01AAAAAAAAAAAAAAAAAAAAAAAA', '01BBBBBBBBBBBBBBBBBBBBBBBB'] as const;
function commit(lane: string, sequence: number, study: string, sops: number[]): RawCommit {
  const entries = sops.map((sop, n) => ({
    n,
    stamp: (1000 + sequence).toString(16).padStart(12, '0') + n.toString(16).padStart(4, '0'),
    kind: {
      $case: 'instance' as const,
      value: makeInstance({ study, series: `${study}.1`, sop: `${study}.1.${sop}`, number: sop }).instance,
    },
  }));
  const toc = { formatVersion: 1, tenant: 'main', lane, sequence, entries };
  return { lane, sequence, tableOfContents: TableOfContents.encode(toc).finish() };
}
const storeOf = (prefix: string, more: Parameters<typeof optionsOf>[2] = {}) =>
  new ElasticIndexStore(optionsOf(servers.urls, prefix, more));
const newPrefix = () => `t${randomBytes(4).toString('hex')}`;
const entriesOf = (store: ElasticIndexStore, studyInstanceUid: string) =>
  collect(
    store.query<EntryRow>('entries', {
      tenant: 'main',
      request: { studyInstanceUid, seriesInstanceUid: '', sopInstanceUid: '', inTrash: false },
    }),
  );
const countsOf = async (store: ElasticIndexStore) =>
  (await collect(store.query<CountsResponse>('counts', { tenant: 'main' })))[0]!;

test('two processes fold the same log at once: every entry is there, and there once', async () => {
  const prefix = newPrefix();
  const [left, right] = [storeOf(prefix), storeOf(prefix)];
  try {
    const commits = LANES.flatMap((lane, at) =>
      Array.from({ length: 40 }, (_, n) =>
        commit(
          lane,
          n + 1,
          `1.2.${n % 3}`,
          Array.from({ length: 20 }, (_, k) => (at * 40 + n) * 20 + k),
        ),
      ),
    );
    const give = async (store: ElasticIndexStore, size: number): Promise<void> => {
      for (let at = 0; at < commits.length; at += size) await store.fold('main', commits.slice(at, at + size));
    };
    await Promise.all([give(left, 7), give(right, 5)]);
    for (const store of [left, right]) {
      const counts = await countsOf(store);
      assert.deepEqual([counts.studies, counts.instances, counts.patients], [3, 1600, 1]);
      assert.deepEqual(
        counts.positions.map((one) => one.sequence),
        [40, 40],
      );
      let entries = 0;
      for (let n = 0; n < 3; n++) {
        const rows = await entriesOf(store, `1.2.${n}`);
        assert.equal(new Set(rows.map((row) => `${row.id!.lane}/${row.id!.sequence}/${row.id!.n}`)).size, rows.length);
        entries += rows.length;
      }
      assert.equal(entries, 1600);
    }
  } finally {
    await left.close();
    await right.close();
  }
});

test('a merge that is superseded: what it had led elsewhere follows the newer one', async () => {
  const store = storeOf(newPrefix());
  try {
    const merge = (sequence: number, toPatient: string): RawCommit => {
      const value = { kind: 'merge', fromPatient: 'P1', fromIssuer: '', toPatient, toIssuer: '', actor: '' };
      const stamp = (1000 + sequence).toString(16).padStart(12, '0').padEnd(16, '0');
      const entries = [{ n: 0, stamp, kind: { $case: 'identity' as const, value } }];
      const toc = { formatVersion: 1, tenant: 'main', lane: LANES[0], sequence, entries };
      return { lane: LANES[0], sequence, tableOfContents: TableOfContents.encode(toc).finish() };
    };
    const commits = [commit(LANES[0], 1, '1.2.1', [1]), merge(2, 'WRONG'), merge(3, 'RIGHT'), merge(4, 'P1')];
    for (const [at, patient] of ['P1', 'WRONG', 'RIGHT', 'P1'].entries()) {
      await store.fold('main', commits.slice(at, at + 1));
      await store.show();
      for (const asked of ['P1', 'WRONG', 'RIGHT']) {
        const match = [{ path: [Tag.PatientID], vr: 'LO', values: [asked] }];
        const request = SearchRequest.fromPartial({ level: 'STUDY', match });
        const rows = await collect(store.query('search', { tenant: 'main', request, limits: SEARCH_LIMITS }));
        assert.equal(rows.length, asked === patient ? 1 : 0, `after ${at + 1} commits, of ${asked}`);
      }
      assert.equal((await countsOf(store)).patients, 1);
    }
  } finally {
    await store.close();
  }
});

test('two processes fold any history in any order at once, and say what the model says', async () => {
  await fc.assert(
    fc.asyncProperty(
      history,
      fc.array(fc.nat(5), { minLength: 1, maxLength: 9 }),
      fc.nat(5),
      async (made, choices, size) => {
        const commits = interleave(made.map(withRealHeads), choices);
        const model = modelOf(commits, 'keep-first', describe);
        const prefix = newPrefix();
        const [left, right] = [storeOf(prefix), storeOf(prefix)];
        try {
          const give = async (store: ElasticIndexStore, step: number): Promise<void> => {
            for (let at = 0; at < commits.length; at += step) await store.fold('main', commits.slice(at, at + step));
          };
          await Promise.all([give(left, 1 + size), give(right, 3)]);
          const counts = await countsOf(right);
          const sum = (of: (study: (typeof model.studies)[number]) => number) =>
            model.studies.reduce((total, study) => total + of(study), 0);
          assert.deepEqual(
            [counts.studies, counts.instances, counts.bytes, counts.inTrash, counts.patients],
            [
              model.studies.filter((one) => one.instances > 0).length,
              sum((one) => one.instances),
              sum((one) => one.bytes),
              sum((one) => one.trashInstances),
              model.patients.length,
            ],
          );
          for (const study of model.studies) {
            const request = {
              studyInstanceUids: [study.studyInstanceUid],
              seriesInstanceUids: [],
              sopInstanceUids: [],
              patientId: '',
              withHead: false,
              renditions: false,
            };
            const rows = await collect(left.query<Located>('locate', { tenant: 'main', request }));
            assert.deepEqual(
              rows
                .map((row) => `${row.sopInstanceUid} ${row.entry!.lane}/${row.entry!.sequence}/${row.entry!.n}`)
                .sort(),
              study.series
                .flatMap((one) => one.views)
                .filter((view) => view.shown !== '')
                .map((view) => `${view.sopInstanceUid} ${view.shown.split(' ')[0]!}`)
                .sort(),
            );
          }
        } finally {
          await left.close();
          await right.close();
          await forget(prefix);
        }
      },
    ),
    { numRuns: 10, endOnFailure: true },
  );
});

async function forget(prefix: string): Promise<void> {
  const client = new Client({ nodes: servers.urls });
  const found = await client.indices.get({ index: `${prefix}-*` });
  for (const index of Object.keys(found)) await client.indices.delete({ index });
  await client.close();
}

test('an index of a newer version is neither folded nor asked, and says why; one of an older is found outdated', async () => {
  const prefix = newPrefix();
  const first = storeOf(prefix);
  const client = new Client({ nodes: servers.urls });
  try {
    await first.fold('main', [commit(LANES[0], 1, '1.2', [1])]);
    for (const version of [99, 0]) {
      const index = `${prefix}-v${version}-7-studies-0`;
      await client.indices.create({ index });
      const alias = `${prefix}-studies`;
      const [now] = Object.keys(await client.indices.getAlias({ name: alias }));
      await client.indices.updateAliases({ actions: [{ remove: { index: now!, alias } }, { add: { index, alias } }] });
      const store = storeOf(prefix);
      if (version === 0) assert.deepEqual(await store.find(), { fresh: false, outdated: true });
      await assert.rejects(store.fold('main', [commit(LANES[0], 2, '1.2', [2])]), {
        code: 'unavailable',
        message: version === 99 ? /newer release/ : /built again/,
      });
      await assert.rejects(countsOf(store), { code: 'unavailable' });
      await store.close();
    }
  } finally {
    await client.close();
    await first.close();
  }
});

test('a rebuild of another policy is taken over by processes that run, and they fold as it says', async () => {
  const prefix = newPrefix();
  const [old, next] = [storeOf(prefix), storeOf(prefix, { policy: 'newest-wins' })];
  try {
    const commits = [1, 2].map((sequence) => commit(LANES[0], sequence, '1.2', [sequence]));
    await old.fold('main', commits);
    assert.deepEqual(await next.find(), { fresh: false, outdated: true });
    const rebuilding = await next.beginRebuild();
    await rebuilding.fold('main', commits);
    await old.fold('main', [commit(LANES[0], 3, '1.2', [3])]); // it serves and folds meanwhile
    assert.equal((await countsOf(old)).instances, 3);
    await rebuilding.complete();
    assert.deepEqual(await next.find(), { fresh: false, outdated: false });
    // The slower of two rebuilds finds that its place is taken.
    const [a, b] = [await next.beginRebuild(), await old.beginRebuild()];
    await a.complete();
    await assert.rejects(b.complete());
    await b.abandon();
  } finally {
    await old.close();
    await next.close();
  }
});
