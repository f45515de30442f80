import type { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import type { RawCommit } from '../../fold/commit.ts';
import { describe } from '../../fold/describe.ts';
import type { VersionPolicy } from '../../fold/types.ts';
import { openIndex, prepareIndex, statement } from './schema.ts';
import { announced, dueStudies, giveHeads, type Settled, settle } from './settling.ts';
import { carry } from './thread.ts';
import { IndexWriter } from './writer.ts';

export interface WriterData {
  path: string;
  policy: VersionPolicy;
  /** A new file for a rebuild: incomplete until it is told. */
  rebuild: boolean;
  fresh: boolean;
}

const { path, policy, rebuild, fresh } = workerData as WriterData;
const db: DatabaseSync = openIndex(path);
if (fresh) prepareIndex(db, { policy, complete: !rebuild });
const writer = new IndexWriter(db, { policy, describe, acceptGaps: rebuild });

const operations: Record<string, (args: never) => unknown> = {
  fold: ({ tenant, commits }: { tenant: string; commits: RawCommit[] }) => writer.fold(tenant, commits),
  positions: (tenant: string) =>
    statement(db, 'SELECT lane, sequence FROM positions JOIN tenants ON tenants.id = tenant WHERE name = ?').all(
      tenant,
    ),
  tenants: () => statement(db, 'SELECT name FROM tenants ORDER BY id').all(),
  due: ({ beforeMs, limit }: { beforeMs: number; limit: number }) => dueStudies(db, beforeMs, limit),
  settle: (settled: Settled) => settle(db, settled, writer),
  announced: (study: number) => announced(db, study),
  giveHeads: ({ tenant, commits }: { tenant: string; commits: RawCommit[] }) => giveHeads(db, tenant, commits),
  complete: () => statement(db, `UPDATE meta SET value = '1' WHERE key = 'complete'`).run(),
  liveFrom: () => writer.refuseGaps(),
  close: () => {
    db.exec('PRAGMA optimize');
    db.close();
  },
};

parentPort!.on('message', ({ id, op, args }: { id: number; op: string; args: never }) => {
  try {
    parentPort!.postMessage({ id, value: operations[op]!(args) });
  } catch (error) {
    parentPort!.postMessage({ id, error: carry(error) });
  }
});
