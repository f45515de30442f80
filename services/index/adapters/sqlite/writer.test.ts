import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { describeFake, history, interleave } from '../../fold/history.testing.ts';
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
