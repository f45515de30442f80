import type { SearchRow } from '#proto/index/v1/index.ts';
import { SearchRequest } from '#proto/index/v1/index.ts';
import type { Database } from '../adapters/sqlite/schema.ts';
import { statement } from '../adapters/sqlite/schema.ts';
import { StudyEntity } from './entities.ts';
import type { RowBuilder, RowEntity } from './rows.ts';
import type { SearchLimits } from './settings.ts';

/**
 * What a reader keeps because it is asked again and again: the rows of studies, and whole answers until the index changes. Worklists
 * poll: the same list, by many viewers, every few seconds. Measured: adr/0043.
 */
const ANSWERS_MAX = 32; // of each connection: 8 MiB at the most
const ANSWER_BYTES_MAX = 2 ** 18; // three lists of a hundred studies
const ROWS_MAX = 2_000; // of each signature: with their documents 40 MB of a thread at the most
const SIGNATURES_MAX = 8;

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
  tenant: string,
  request: SearchRequest,
  limits: SearchLimits,
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

interface KeptRow {
  doc: string;
  series: number;
  instances: number;
  json: Buffer;
}
/**
 * By signature of the row, then by study. A row is a function of its signature, the UID, the document and the counts, so connections
 * and even tenants may share it.
 */
const rows = new Map<string, Map<string, KeptRow>>();

/** The row of a study, kept as long as its document and counts are what it was made of. */
export function rememberedRow(builder: RowBuilder, entity: RowEntity): Buffer {
  if (!(entity instanceof StudyEntity) || !builder.fromDocument) return builder.build(entity);
  let alike = rows.get(builder.signature);
  if (!alike) {
    rows.set(builder.signature, (alike = new Map()));
    if (rows.size > SIGNATURES_MAX) rows.delete(rows.keys().next().value!);
  }
  const kept = alike.get(entity.uid);
  const { doc, series, instances } = entity.row as unknown as KeptRow;
  if (kept && kept.doc === doc && kept.series === series && kept.instances === instances) return kept.json;
  const json = builder.build(entity);
  alike.delete(entity.uid);
  alike.set(entity.uid, { doc, series, instances, json });
  if (alike.size > ROWS_MAX) alike.delete(alike.keys().next().value!);
  return json;
}
