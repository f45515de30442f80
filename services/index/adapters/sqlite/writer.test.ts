import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import {
  commitOf,
  describeFake,
  type FakeInstance,
  fakeInstance,
  history,
  interleave,
} from '../../fold/history.testing.ts';
import { modelOf } from '../../fold/model.ts';
import type { VersionPolicy } from '../../fold/types.ts';
import { dumpIndex } from './dump.ts';
import { openIndex, prepareIndex } from './schema.ts';
import { IndexWriter } from './writer.ts';

function create(policy: VersionPolicy = 'keep-first') {
  const db = openIndex(':memory:');
  prepareIndex(db, { policy });
  return { db, writer: new IndexWriter(db, { policy, describe: describeFake }) };
}

test('live, rebuilt and model say the same of any history, in any order, repeated and cut short', () => {
  fc.assert(
    fc.property(
      history,
      fc.array(fc.nat(5), { minLength: 1, maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1 }),
      fc.constantFrom<VersionPolicy>('keep-first', 'newest-wins', 'quarantine'),
      fc.nat(40),
      (commits, choices, sizes, policy, cut) => {
        const mixed = interleave(commits, choices);
        const live = create(policy);
        const prefix = mixed.slice(0, cut);
        // In batches of any size, each of them given twice: a wake may come again.
        const give = (target: IndexWriter, list: typeof mixed) => {
          for (let at = 0, turn = 0; at < list.length; turn++) {
            const size = sizes[turn % sizes.length]!;
            const result = target.fold('main', list.slice(at, at + size));
            assert.deepEqual(result.gaps, []);
            if (turn % 2 === 0) target.fold('main', list.slice(Math.max(0, at - 2), at + size));
            at += size;
          }
        };
        give(live.writer, prefix);
        assert.deepEqual(dumpIndex(live.db, 'main'), modelOf(prefix, policy, describeFake));
        // A new process goes on from what the file holds.
        give(new IndexWriter(live.db, { policy, describe: describeFake }), mixed.slice(cut));
        const model = modelOf(mixed, policy, describeFake);
        assert.deepEqual(dumpIndex(live.db, 'main'), model);
        const rebuilt = create(policy);
        rebuilt.writer.fold('main', commits);
        assert.deepEqual(dumpIndex(rebuilt.db, 'main'), model);
        live.db.close();
        rebuilt.db.close();
      },
    ),
    { numRuns: 400 },
  );
});

const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';
const stored = (sequence: number, more: Partial<FakeInstance> = {}, ms = 1000 + sequence) =>
  commitOf(LANE, sequence, [
    {
      ms,
      kind: {
        $case: 'instance',
        value: fakeInstance(
          {
            study: '1.2',
            series: '1.2.1',
            sop: `1.2.1.${sequence}`,
            bytes: 0,
            patientId: 'P',
            patientName: 'N',
            modality: 'CT',
            ...more,
          },
          { object: 'log/x', offset: sequence * 100, length: 100 },
        ),
      },
    },
  ]);

test('a missing commit stops its lane and is told; nothing behind it is shown', () => {
  const { db, writer } = create();
  const result = writer.fold('main', [stored(1), stored(3), stored(4)]);
  assert.deepEqual([result.gaps, result.positions], [[LANE], [{ lane: LANE, sequence: 1 }]]);
  assert.deepEqual(writer.fold('main', [stored(2), stored(3)]).gaps, []);
  assert.equal(dumpIndex(db, 'main').studies[0]!.instances, 3);
  // A rebuild takes what is left of a log whose beginnings were compacted away.
  const rebuilt = openIndex(':memory:');
  prepareIndex(rebuilt, { policy: 'keep-first' });
  const rebuilder = new IndexWriter(rebuilt, { policy: 'keep-first', describe: describeFake, acceptGaps: true });
  assert.deepEqual(rebuilder.fold('main', [stored(5), stored(9)]).gaps, []);
});

test('an entry of an unknown kind, of a newer format or without its digest stops its lane with an alarm; other lanes go on', () => {
  const other = '01BBBBBBBBBBBBBBBBBBBBBBBB';
  const strange = [
    commitOf(LANE, 2, [{ ms: 1, kind: undefined }]),
    {
      ...stored(2),
      tableOfContents: TableOfContents.encode({
        ...TableOfContents.decode(stored(2).tableOfContents),
        formatVersion: 2,
      }).finish(),
    },
    { ...stored(2), tableOfContents: Buffer.from([0xff, 0xff]) },
    commitOf(LANE, 2, [
      {
        ms: 1,
        kind: {
          $case: 'instance',
          value: {
            ...fakeInstance({ study: '1', series: '1', sop: '1', bytes: 1 }, { object: '', offset: 0, length: 0 }),
            version: Buffer.alloc(3),
          },
        },
      },
    ]),
  ];
  for (const commit of strange) {
    const { db, writer } = create();
    const result = writer.fold('main', [stored(1), commit, stored(3), { ...stored(1), lane: other }]);
    assert.deepEqual([result.alarms.length, result.gaps], [1, []]);
    assert.deepEqual(
      result.positions.map((one) => one.sequence),
      [1, 1],
    );
    // Nor does it go on later, not even past it.
    assert.deepEqual(writer.fold('main', [stored(3)]).positions, []);
    assert.equal(dumpIndex(db, 'main').studies[0]!.instances, 1);
  }
});

test('a header that cannot be read is told, and its instance shows by its UIDs', () => {
  const { db, writer } = create();
  const commit = TableOfContents.decode(stored(1).tableOfContents);
  const kind = commit.entries[0]!.kind;
  assert.ok(kind?.$case === 'instance');
  kind.value.head = Buffer.from('no header');
  const result = writer.fold('main', [
    { lane: LANE, sequence: 1, tableOfContents: TableOfContents.encode(commit).finish() },
  ]);
  assert.equal(result.alarms.length, 1);
  const [study] = dumpIndex(db, 'main').studies;
  assert.deepEqual([study!.instances, study!.doc.modalities], [1, ['OT']]);
});

test('tenants share nothing: neither instances nor conflicts nor patients', () => {
  const { db, writer } = create();
  writer.fold('main', [stored(1)]);
  writer.fold('other', [stored(1, { bytes: 1 })]);
  for (const tenant of ['main', 'other']) {
    const { studies, patients } = dumpIndex(db, tenant);
    assert.deepEqual([studies.length, studies[0]!.conflicts, patients.length], [1, 0, 1]);
  }
  assert.equal(db.prepare('SELECT count(*) AS n FROM shared_sops').get()!.n, 0);
});

test('the first by stamp shows its values, though it was folded last', () => {
  const { db, writer } = create();
  writer.fold('main', [stored(1, { accession: 'A' }, 3000)]);
  writer.fold('main', [stored(2, { accession: 'B' }, 2000)]);
  assert.deepEqual(dumpIndex(db, 'main').studies[0]!.doc.attributes['00080050']!.Value, ['B']);
  writer.fold('main', [stored(3, { accession: 'A' }, 1000)]);
  const { doc } = dumpIndex(db, 'main').studies[0]!;
  assert.deepEqual([doc.attributes['00080050']!.Value, doc.values['00080050']![0]!.Value], [['A'], ['B']]);
});

test('a merge that is superseded: what it had led elsewhere follows the newer one, back home too', () => {
  const merge = (sequence: number, toPatient: string) =>
    commitOf(LANE, sequence, [
      {
        ms: 1000 + sequence,
        kind: {
          $case: 'identity',
          value: { kind: 'merge', fromPatient: 'P', fromIssuer: '', toPatient, toIssuer: '', actor: '' },
        },
      },
    ]);
  const { db, writer } = create();
  const commits = [stored(1), merge(2, 'WRONG'), merge(3, 'RIGHT'), merge(4, 'P')];
  for (const [at, patient] of ['P', 'WRONG', 'RIGHT', 'P'].entries()) {
    writer.fold('main', commits.slice(at, at + 1));
    const { patients, studies } = dumpIndex(db, 'main');
    assert.deepEqual(
      patients.map((one) => one.doc.attributes['00100020']!.Value),
      [[patient]],
    );
    assert.deepEqual({ studies, patients }, modelOf(commits.slice(0, at + 1), 'keep-first', describeFake));
  }
});

test('a series of thousands, commit by commit, ends in full blocks, and every entry is there', () => {
  const { db, writer } = create();
  const commits = Array.from({ length: 1500 }, (_, n) => stored(n + 1));
  for (let at = 0; at < commits.length; at += 3) writer.fold('main', commits.slice(at, at + 3));
  const blocks = db
    .prepare('SELECT entries FROM blocks')
    .all()
    .map((row) => row.entries as number);
  assert.equal(
    blocks.reduce((sum, one) => sum + one, 0),
    1500,
  );
  assert.ok(blocks.length < 25, `${blocks.length} blocks`);
  assert.equal(dumpIndex(db, 'main').studies[0]!.series[0]!.views.length, 1500);
  db.exec('BEGIN');
  writer.joinBlocks(1);
  db.exec('COMMIT');
  assert.deepEqual(
    db
      .prepare('SELECT entries FROM blocks ORDER BY id')
      .all()
      .map((row) => row.entries),
    [512, 512, 476],
  );
  assert.equal(dumpIndex(db, 'main').studies[0]!.series[0]!.views.length, 1500);
});

test('a transaction that fails leaves nothing behind, and the writer goes on from what the file says', () => {
  const { db, writer } = create();
  writer.fold('main', [stored(1)]);
  const before = dumpIndex(db, 'main');
  db.exec(`CREATE TRIGGER full BEFORE INSERT ON recent_heads BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
  assert.throws(() => writer.fold('main', [stored(2)]), /disk full/);
  assert.deepEqual(dumpIndex(db, 'main'), before);
  db.exec('DROP TRIGGER full');
  writer.fold('main', [stored(2)]);
  assert.deepEqual(dumpIndex(db, 'main'), modelOf([stored(1), stored(2)], 'keep-first', describeFake));
});
