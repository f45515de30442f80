import type { DatabaseSync } from 'node:sqlite';
import type { Entry, EntryId } from '#proto/storage/v1/log.ts';
import { overlayAttributes } from '../../fold/commit.ts';
import { type ControlPatch, joinControl } from '../../fold/control.ts';
import { type Correction, lastMerges, type Merge } from '../../fold/correct.ts';
import { idKey, orderOf } from '../../fold/order.ts';
import type { EntryControl } from '../../fold/types.ts';
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

/**
 * Keeps a control entry for what is asked later: who deleted and why, corrections, holds, merges. Answers the study that it speaks of, a
 * word for an identity, undefined where nothing is kept.
 */
export function keepControl(
  db: DatabaseSync,
  tenant: number,
  id: EntryId,
  entry: Entry,
  alarms: string[],
): string | undefined {
  const kind = entry.kind!;
  const keep = (study: string, body: unknown): string => {
    statement(
      db,
      'INSERT OR REPLACE INTO controls (tenant, sort, kind, study_instance_uid, body) VALUES (?, ?, ?, ?, ?)',
    ).run(tenant, orderOf(entry.stamp, id), kind.$case, study, JSON.stringify(body));
    return study;
  };
  switch (kind.$case) {
    case 'delete':
      return keep(kind.value.studyInstanceUid, { actor: kind.value.actor, reason: kind.value.reason });
    case 'restore':
      return keep(kind.value.studyInstanceUid, { actor: kind.value.actor });
    case 'decision':
      return keep(kind.value.subject, { actor: kind.value.actor, verdict: kind.value.verdict });
    case 'hold':
      return keep(kind.value.studyInstanceUid, {
        on: kind.value.on,
        reason: kind.value.reason,
        actor: kind.value.actor,
      });
    case 'overlay': {
      const attributes = overlayAttributes(kind.value.dataSetJson);
      if (!attributes) {
        alarms.push(`the correction ${idKey(id)} is no DICOM JSON object, and is not shown`);
        return undefined;
      }
      const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = kind.value;
      return keep(studyInstanceUid, { seriesInstanceUid, sopInstanceUid, attributes });
    }
    case 'identity': {
      const { fromPatient, fromIssuer, toPatient, toIssuer } = kind.value;
      if (kind.value.kind !== 'merge' || fromPatient === '' || toPatient === '') return undefined;
      return keep('identity', {
        from: { patientId: fromPatient, issuer: fromIssuer },
        to: { patientId: toPatient, issuer: toIssuer },
      });
    }
    default:
      return undefined; // moved speaks only to entries, closed to nobody here
  }
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
