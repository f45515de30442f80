import type { DatabaseSync } from 'node:sqlite';
import type { EntryId } from '#proto/storage/v1/log.ts';
import { type ControlPatch, joinControl } from '../../fold/control.ts';
import { type Correction, lastMerges, type Merge } from '../../fold/correct.ts';
import type { EntryControl } from '../../fold/types.ts';
import type { KeptControl } from '../../state/commits.ts';
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

/** All that were folded, superseded ones too. */
export function keptMerges(db: DatabaseSync, tenant: number): Merge[] {
  return statement(db, `SELECT sort, body FROM controls WHERE tenant = ? AND kind = 'identity'`)
    .all(tenant)
    .map((row) => ({ ...(JSON.parse(row.body as string) as Omit<Merge, 'order'>), order: row.sort as string }));
}
export const mergesOf = (db: DatabaseSync, tenant: number): Map<string, Merge> => lastMerges(keptMerges(db, tenant));

/** `study` is `identity` for what is nobody's. */
export function keepControl(db: DatabaseSync, tenant: number, study: string, { sort, kind, body }: KeptControl): void {
  statement(
    db,
    'INSERT OR REPLACE INTO controls (tenant, sort, kind, study_instance_uid, body) VALUES (?, ?, ?, ?, ?)',
  ).run(tenant, sort, kind, study, JSON.stringify(body));
}

const PENDING = 'tenant = ? AND lane = ? AND sequence = ? AND n = ? AND study_instance_uid = ?';

/** What was said of an entry before it came. */
export function takePending(db: DatabaseSync, tenant: number, study: string, id: EntryId): EntryControl | undefined {
  const key = [tenant, id.lane, id.sequence, id.n, study] as const;
  const row = statement(db, `SELECT control FROM pending WHERE ${PENDING}`).get(...key);
  if (!row) return undefined;
  statement(db, `DELETE FROM pending WHERE ${PENDING}`).run(...key);
  return JSON.parse(row.control as string) as EntryControl;
}

export function keepPending(db: DatabaseSync, tenant: number, patches: Iterable<ControlPatch>): void {
  for (const { id, studyInstanceUid, control } of patches) {
    const key = [tenant, id.lane, id.sequence, id.n, studyInstanceUid] as const;
    const row = statement(db, `SELECT control FROM pending WHERE ${PENDING}`).get(...key);
    const joined = joinControl(row && (JSON.parse(row.control as string) as EntryControl), control);
    statement(
      db,
      'INSERT OR REPLACE INTO pending (tenant, lane, sequence, n, study_instance_uid, control) VALUES (?, ?, ?, ?, ?, ?)',
    ).run(...key, JSON.stringify(joined));
  }
}
