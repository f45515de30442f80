import type { DatabaseSync } from 'node:sqlite';
import { type Correction, lastMerges, type Merge } from '../../fold/correct.ts';
import { statement } from './schema.ts';

/** The corrections of a study, as they were folded. */
export function correctionsOf(db: DatabaseSync, tenant: number, studyInstanceUid: string): Correction[] {
  return statement(
    db,
    `SELECT sort, body FROM controls WHERE tenant = ? AND kind = 'overlay' AND study_instance_uid = ? ORDER BY sort`,
  )
    .all(tenant, studyInstanceUid)
    .map((row) => ({
      ...(JSON.parse(row.body as string) as Omit<Correction, 'order'>),
      order: row.sort as string,
    }));
}

export function mergesOf(db: DatabaseSync, tenant: number): Map<string, Merge> {
  return lastMerges(
    statement(db, `SELECT sort, body FROM controls WHERE tenant = ? AND kind = 'identity'`)
      .all(tenant)
      .map((row) => ({ ...(JSON.parse(row.body as string) as Omit<Merge, 'order'>), order: row.sort as string })),
  );
}
