import { TableOfContents } from '#proto/storage/v1/log.ts';
import type { RawCommit } from '../../fold/commit.ts';
import { makeInstance } from '../../instances.testing.ts';
import { optionsOf } from './options.testing.ts';
import { ElasticIndexStore } from './store.ts';

export const LANE = '01AAAAAAAAAAAAAAAAAAAAAAAA';

/** Ten instances for each of some studies in turn. */
export function commitOf(sequence: number, studies = 3): RawCommit {
  const study = `1.2.${sequence % studies}`;
  const entries = Array.from({ length: 10 }, (_, n) => ({
    n,
    stamp: (1000 + sequence).toString(16).padStart(12, '0') + n.toString(16).padStart(4, '0'),
    kind: {
      $case: 'instance' as const,
      value: makeInstance({ study, series: `${study}.1`, sop: `${study}.1.${sequence}.${n}` }).instance,
    },
  }));
  const toc = { formatVersion: 1, tenant: 'main', lane: LANE, sequence, entries };
  return { lane: LANE, sequence, tableOfContents: TableOfContents.encode(toc).finish() };
}

/** As a process of its own (fork it with a node's address, a prefix, how many commits, and whether it is about to end): builds so far, says so, and waits to be killed. */
if (import.meta.main) {
  const [url = '', prefix = '', commits = '0', ends = ''] = process.argv.slice(2);
  const store = new ElasticIndexStore(optionsOf([url], prefix));
  const rebuilding = await store.beginRebuild();
  await rebuilding.fold(
    'main',
    Array.from({ length: Number(commits) }, (_, n) => commitOf(n + 1)),
  );
  if (ends === 'ends') await rebuilding.fence?.();
  process.send!('so far');
  process.on('disconnect', () => process.exit()); // its test ended early
}
