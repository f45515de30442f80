import type { DatabaseSync } from 'node:sqlite';
import { compareInstances, viewSeries } from '../../fold/instance.ts';
import type { EntryRecord, InstanceView, VersionPolicy } from '../../fold/types.ts';
import { decodeBlock } from '../../state/block.ts';
import { sopHash } from '../../state/sop-hash.ts';
import { blockId, statement } from './schema.ts';

/** Every entry of a series, in the order of arrival here. */
export function readBlocks(db: DatabaseSync, series: number): EntryRecord[] {
  return statement(db, 'SELECT data FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id')
    .all(blockId(series, 0), blockId(series, 2 ** 20 - 1))
    .flatMap((row) => decodeBlock(row.data as Uint8Array));
}

export function policyOf(db: DatabaseSync): VersionPolicy {
  return (statement(db, `SELECT value FROM meta WHERE key = 'policy'`).get()?.value ?? 'keep-first') as VersionPolicy;
}

/** The series' instances by InstanceNumber, then UID; those that do not show come last. */
export function instancesOf(db: DatabaseSync, series: number, policy: VersionPolicy = policyOf(db)): InstanceView[] {
  return viewSeries(readBlocks(db, series), policy).sort((a, b) =>
    a.shown && b.shown
      ? compareInstances(a.shown, b.shown)
      : a.shown
        ? -1
        : b.shown
          ? 1
          : a.sopInstanceUid < b.sopInstanceUid
            ? -1
            : 1,
  );
}

export interface SeriesOfSop {
  series: number;
  study: number;
  seriesInstanceUid: string;
  studyInstanceUid: string;
}

/** Candidates: series of the tenant that hold this SOP instance, or one whose UID has the same 48 bits. */
export function seriesOfSop(db: DatabaseSync, tenant: string, sopInstanceUid: string): SeriesOfSop[] {
  return statement(
    db,
    `SELECT series.id AS series, studies.id AS study, series_instance_uid AS seriesInstanceUid, study_instance_uid AS studyInstanceUid
     FROM sops JOIN series ON series.id = sops.series JOIN studies ON studies.id = series.study
     JOIN tenants ON tenants.id = studies.tenant
     WHERE hash = ? AND tenants.name = ? ORDER BY study_instance_uid, series_instance_uid`,
  ).all(sopHash(tenant, sopInstanceUid), tenant) as unknown as SeriesOfSop[];
}
