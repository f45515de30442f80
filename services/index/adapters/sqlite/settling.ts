import type { DatabaseSync } from 'node:sqlite';
import { type RawCommit, readCommit } from '../../fold/commit.ts';
import type { DueStudy } from '../../ports.ts';
import { keepHeads } from './heads.ts';
import { statement, tenantId } from './schema.ts';
import type { IndexWriter } from './writer.ts';

export interface SettledSeries {
  series: number;
  revision: number;
  metadata: string;
  /** The newest row of `recent_heads` that the metadata object has seen. */
  headsThrough: number;
}
export interface Settled {
  study: number;
  series: SettledSeries[];
}

export function dueStudies(db: DatabaseSync, beforeMs: number, limit: number): Omit<DueStudy, 'generation'>[] {
  return statement(
    db,
    `SELECT tenants.name AS tenant, studies.id AS study, study_instance_uid AS studyInstanceUid, settled
     FROM studies JOIN tenants ON tenants.id = studies.tenant
     WHERE settled < 2 AND changed_ms <= ? ORDER BY settled DESC, changed_ms LIMIT ?`,
  ).all(beforeMs, limit) as unknown as Omit<DueStudy, 'generation'>[];
}

/** Takes over the metadata objects, unless something has come meanwhile. Answers the objects that nothing names any more. */
export function settle(db: DatabaseSync, settled: Settled, writer: IndexWriter): { done: boolean; replaced: string[] } {
  const replaced: string[] = [];
  db.exec('BEGIN IMMEDIATE');
  try {
    const rows = statement(db, 'SELECT id, revision, metadata FROM series WHERE study = ?').all(settled.study);
    const known = new Map(settled.series.map((one) => [one.series, one]));
    if (rows.some((row) => known.get(row.id as number)?.revision !== row.revision)) {
      db.exec('ROLLBACK');
      return {
        done: false,
        replaced: settled.series
          .map((one) => one.metadata)
          .filter((name) => !rows.some((row) => row.metadata === name)),
      };
    }
    for (const row of rows) {
      const { series, metadata, headsThrough } = known.get(row.id as number)!;
      if (row.metadata !== metadata) {
        if (row.metadata !== '') replaced.push(row.metadata as string);
        statement(db, 'UPDATE series SET metadata = ? WHERE id = ?').run(metadata, series);
      }
      statement(db, 'DELETE FROM recent_heads WHERE series = ? AND id <= ?').run(series, headsThrough);
    }
    writer.joinBlocks(settled.study);
    statement(db, 'UPDATE studies SET settled = max(settled, 1) WHERE id = ?').run(settled.study);
    db.exec('COMMIT');
    return { done: true, replaced };
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    writer.forget();
    throw error;
  }
}

export function announced(db: DatabaseSync, study: number): void {
  statement(db, 'UPDATE studies SET settled = 2 WHERE id = ? AND settled = 1').run(study);
}

/** Headers again, for series whose metadata object was lost: as if they had just arrived, so that the next settling writes it anew. */
export function giveHeads(db: DatabaseSync, tenantName: string, commits: readonly RawCommit[]): void {
  const tenant = tenantId(db, tenantName);
  if (tenant === undefined) return;
  db.exec('BEGIN IMMEDIATE');
  try {
    for (const raw of commits)
      for (const { id, entry } of readCommit(raw).entries) {
        const { kind } = entry;
        if (kind?.$case !== 'instance' && kind?.$case !== 'large') continue;
        const { studyInstanceUid, seriesInstanceUid } = kind.value;
        const row = statement(
          db,
          `SELECT series.id, study FROM series JOIN studies ON studies.id = study
           WHERE tenant = ? AND study_instance_uid = ? AND series_instance_uid = ?`,
        ).get(tenant, studyInstanceUid, seriesInstanceUid);
        if (!row) continue;
        keepHeads(db, row.id as number, [{ id, instance: kind.value }]);
        statement(db, 'UPDATE studies SET settled = 0 WHERE id = ?').run(row.study as number);
      }
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}
