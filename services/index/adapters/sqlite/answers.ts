import { SearchRequest, type SearchRow } from '#proto/index/v1/index.ts';
import type { Question } from '../../search/source.ts';
import { type Database, statement } from './schema.ts';

/** Whole answers that a reader keeps until the index changes: adr/0043. */
const ANSWERS_MAX = 32; // of each connection: 8 MiB at the most
const ANSWER_BYTES_MAX = 2 ** 18; // three lists of a hundred studies

interface Answers {
  version: number;
  bySignature: Map<string, SearchRow[]>;
}
const answers = new WeakMap<Database, Answers>();

/** SQLite's data_version changes whenever another connection has committed; the total of changes when this one has. */
const versionOf = (db: Database): number =>
  (statement(db, 'PRAGMA data_version').get()!.data_version as number) * 2 ** 32 +
  (statement(db, 'SELECT total_changes() AS changes').get()!.changes as number);

export function rememberedAnswer(
  db: Database,
  { tenant, request, limits }: Question,
): { rows: readonly SearchRow[] | undefined; keep(rows: SearchRow[]): void } {
  // The snapshot of a read transaction begins with its first read, so the version is that of what will be read.
  statement(db, 'SELECT 1 FROM tenants LIMIT 1').get();
  const version = versionOf(db);
  let known = answers.get(db);
  if (known?.version !== version) answers.set(db, (known = { version, bySignature: new Map() }));
  const { bySignature } = known;
  const signature = `${tenant}\u0000${Object.values(limits).join()}\u0000${Buffer.from(SearchRequest.encode(request).finish()).toString('latin1')}`;
  const rows = bySignature.get(signature);
  if (rows) {
    bySignature.delete(signature);
    bySignature.set(signature, rows); // the last used is the last to go
  }
  return {
    rows,
    keep(fresh) {
      const bytes = fresh.reduce((sum, row) => sum + row.dataSetJson.length, 0);
      if (bytes > ANSWER_BYTES_MAX) return;
      bySignature.set(signature, fresh);
      if (bySignature.size > ANSWERS_MAX) bySignature.delete(bySignature.keys().next().value!);
    },
  };
}
