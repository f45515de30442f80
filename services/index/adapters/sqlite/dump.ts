import type { DatabaseSync } from 'node:sqlite';
import { type IndexState, summarize } from '../../fold/model.ts';
import type { LevelDoc, SeriesDoc, StudyDoc } from '../../fold/types.ts';
import { keysOf } from '../../state/keys.ts';
import { instancesOf } from './read.ts';

/** The whole index of a tenant as `modelOf` says it, for comparison: `verify` and the tests. Checks that its inner copies agree. */
export function dumpIndex(db: DatabaseSync, tenant: string): IndexState {
  const state: IndexState = { studies: [], patients: [] };
  const tenantRow = db.prepare('SELECT id FROM tenants WHERE name = ?').get(tenant);
  if (!tenantRow) return state;
  const id = tenantRow.id as number;
  for (const row of db.prepare('SELECT * FROM studies WHERE tenant = ? ORDER BY study_instance_uid').all(id)) {
    const doc = JSON.parse(row.doc as string) as StudyDoc;
    const keys = db
      .prepare('SELECT tag, value FROM study_keys WHERE tenant = ? AND study = ?')
      .all(id, row.id as number);
    const said = keys.map((one) => `${one.tag}\u0000${one.value}`).sort();
    if (said.join('\n') !== [...keysOf(doc)].sort().join('\n'))
      throw new Error('study_keys disagree with the document');
    const series = db
      .prepare('SELECT * FROM series WHERE study = ? ORDER BY series_instance_uid')
      .all(row.id as number);
    state.studies.push({
      studyInstanceUid: row.study_instance_uid as string,
      doc,
      instances: row.instances as number,
      bytes: row.bytes as number,
      trashInstances: row.trash_instances as number,
      trashBytes: row.trash_bytes as number,
      conflicts: row.conflicts as number,
      compactable: row.compactable as number,
      disagrees: row.disagrees === 1,
      hold: row.hold === 1,
      changedMs: row.changed_ms as number,
      series: series.map((one) => ({
        seriesInstanceUid: one.series_instance_uid as string,
        doc: JSON.parse(one.doc as string) as SeriesDoc,
        instances: one.instances as number,
        views: instancesOf(db, one.id as number)
          .map(summarize)
          .sort((a, b) => (a.sopInstanceUid < b.sopInstanceUid ? -1 : 1)),
      })),
    });
  }
  for (const row of db.prepare('SELECT * FROM patients WHERE tenant = ?').all(id)) {
    const studies = db.prepare('SELECT study_instance_uid AS uid FROM studies WHERE patient = ?').all(row.id as number);
    state.patients.push({
      key: row.key as string,
      doc: JSON.parse(row.doc as string) as LevelDoc,
      studies: studies.map((one) => one.uid as string).sort(),
    });
  }
  const sums = db
    .prepare(
      `SELECT coalesce(sum(instances > 0), 0) AS studies, coalesce(sum(series), 0) AS series, coalesce(sum(instances), 0) AS instances,
       coalesce(sum(bytes), 0) AS bytes, coalesce(sum(trash_instances), 0) AS trash_instances,
       coalesce(sum(conflicts), 0) AS conflicts, coalesce(sum(disagrees), 0) AS disagrees FROM studies WHERE tenant = ?`,
    )
    .get(id);
  const totals = db
    .prepare(
      'SELECT studies, series, instances, bytes, trash_instances, conflicts, disagrees FROM totals WHERE tenant = ?',
    )
    .get(id);
  if (totals && JSON.stringify(totals) !== JSON.stringify(sums)) throw new Error('totals disagree with the studies');
  if (!totals && Object.values(sums!).some((one) => one !== 0)) throw new Error('totals are missing');
  state.patients.sort((a, b) => (a.key < b.key ? -1 : 1));
  return state;
}
