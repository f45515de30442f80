import type { DatabaseSync } from 'node:sqlite';
import { disagrees, studyDoc, textOf, type Variant } from '../../fold/levels.ts';
import type { StudyDoc } from '../../fold/types.ts';
import { plainDate } from '../../search/match-time.ts';
import { keysOf, keyText } from '../../state/keys.ts';
import { EMPTY_STUDY, PATIENT_VARIANTS_MAX, patientDoc, patientOfStudy, patientParts } from '../../state/study-docs.ts';
import { decodeVariants } from '../../state/variants.ts';
import { statement } from './schema.ts';
import type { SeriesState } from './series-state.ts';

/** What a study counts for in `totals`; `instances` > 0 means live. */
export interface Counts {
  series: number;
  instances: number;
  bytes: number;
  trash_instances: number;
  conflicts: number;
  disagrees: number;
}
const NONE: Counts = { series: 0, instances: 0, bytes: 0, trash_instances: 0, conflicts: 0, disagrees: 0 };

export interface StudyRow {
  id: number;
  tenant: number;
  studyInstanceUid: string;
  patient: number;
  firstOrder: string;
  counts: Counts;
  changedMs: number;
  patientDigests: string[];
  doc: StudyDoc;
}

export function loadStudy(db: DatabaseSync, tenant: number, studyInstanceUid: string): StudyRow | undefined {
  const row = statement(db, 'SELECT * FROM studies WHERE tenant = ? AND study_instance_uid = ?').get(
    tenant,
    studyInstanceUid,
  );
  return (
    row && {
      id: row.id as number,
      tenant,
      studyInstanceUid,
      patient: row.patient as number,
      firstOrder: row.first_order as string,
      counts: {
        series: row.series as number,
        instances: row.instances as number,
        bytes: row.bytes as number,
        trash_instances: row.trash_instances as number,
        conflicts: row.conflicts as number,
        disagrees: row.disagrees as number,
      },
      changedMs: row.changed_ms as number,
      patientDigests: JSON.parse(row.patient_digests as string) as string[],
      doc: JSON.parse(row.doc as string) as StudyDoc,
    }
  );
}

export function createStudy(db: DatabaseSync, tenant: number, studyInstanceUid: string): StudyRow {
  const { lastInsertRowid } = statement(
    db,
    `INSERT INTO studies (tenant, study_instance_uid, patient, first_order, study_date, study_time, series, instances, bytes,
     trash_instances, trash_bytes, conflicts, compactable, disagrees, hold, changed_ms, settled, patient_digests, doc)
     VALUES (?, ?, 0, '', '', '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '[]', ?)`,
  ).run(tenant, studyInstanceUid, JSON.stringify(EMPTY_STUDY));
  return {
    id: Number(lastInsertRowid),
    tenant,
    studyInstanceUid,
    patient: 0,
    firstOrder: '',
    counts: NONE,
    changedMs: 0,
    patientDigests: [],
    doc: EMPTY_STUDY,
  };
}

/** Counts are the sum of the series' counts; the document is written again only when what the series carry has changed. */
export function saveStudy(
  db: DatabaseSync,
  study: StudyRow,
  held: ReadonlyMap<string, SeriesState>,
  change: { docChanged: boolean; unsettles: boolean; hold: boolean },
): void {
  const sums = statement(
    db,
    `SELECT coalesce(sum(instances > 0), 0) AS series, coalesce(sum(instances), 0) AS instances, coalesce(sum(bytes), 0) AS bytes,
     coalesce(sum(trash_instances), 0) AS trash_instances, coalesce(sum(trash_bytes), 0) AS trash_bytes,
     coalesce(sum(conflicts), 0) AS conflicts, coalesce(sum(compactable), 0) AS compactable, min(CASE WHEN instances > 0 THEN first_order END) AS first_order
     FROM series WHERE study = ?`,
  ).get(study.id)!;
  const firstOrder = (sums.first_order as string | null) ?? '';
  const before = study.counts;
  study.counts = {
    series: sums.series as number,
    instances: sums.instances as number,
    bytes: sums.bytes as number,
    trash_instances: sums.trash_instances as number,
    conflicts: sums.conflicts as number,
    disagrees: before.disagrees,
  };
  if (change.docChanged || firstOrder !== study.firstOrder) {
    study.firstOrder = firstOrder;
    saveDocument(db, study, held);
  }
  statement(
    db,
    `UPDATE studies SET series = ?, instances = ?, bytes = ?, trash_instances = ?, trash_bytes = ?, conflicts = ?, compactable = ?, hold = ?,
     changed_ms = ?, settled = CASE WHEN ? THEN 0 ELSE settled END WHERE id = ?`,
  ).run(
    sums.series as number,
    study.counts.instances,
    sums.bytes as number,
    sums.trash_instances as number,
    sums.trash_bytes as number,
    sums.conflicts as number,
    sums.compactable as number,
    change.hold ? 1 : 0,
    study.changedMs,
    change.unsettles ? 1 : 0,
    study.id,
  );
  saveTotals(db, study.tenant, before, study.counts);
}

function saveTotals(db: DatabaseSync, tenant: number, before: Counts, after: Counts): void {
  const columns = Object.keys(NONE) as (keyof Counts)[];
  const changes = columns.map((column) => after[column] - before[column]);
  const studies = Math.sign(after.instances) - Math.sign(before.instances);
  if (studies === 0 && changes.every((one) => one === 0)) return;
  statement(
    db,
    `INSERT INTO totals (tenant, studies, ${columns.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
     studies = studies + excluded.studies, ${columns.map((one) => `${one} = ${one} + excluded.${one}`).join(', ')}`,
  ).run(tenant, studies, ...changes);
}

function saveDocument(db: DatabaseSync, study: StudyRow, held: ReadonlyMap<string, SeriesState>): void {
  const variants: Variant[] = [];
  for (const row of statement(db, 'SELECT series_instance_uid, instances, variants FROM series WHERE study = ?').all(
    study.id,
  )) {
    if (row.instances === 0) continue;
    const state = held.get(row.series_instance_uid as string);
    variants.push(...(state ?? decodeVariants(row.variants as Uint8Array)).effective);
  }
  const doc = study.counts.instances > 0 ? studyDoc(variants) : EMPTY_STUDY;
  saveKeys(db, study, doc);
  study.doc = doc;
  study.counts.disagrees = disagrees(doc) || disagrees(doc.patient) ? 1 : 0;
  const patients = joinPatient(db, study, variants);
  statement(
    db,
    `UPDATE studies SET first_order = ?, study_date = ?, study_time = ?, disagrees = ?, doc = ?, patient = ?, patient_digests = ?
     WHERE id = ?`,
  ).run(
    study.firstOrder,
    plainDate(textOf(doc.attributes['00080020'])) ?? '',
    textOf(doc.attributes['00080030']),
    study.counts.disagrees,
    JSON.stringify(doc),
    study.patient,
    JSON.stringify(study.patientDigests),
    study.id,
  );
  // The studies' own rows tell which of a patient's studies came first, so they go before the patient's.
  for (const patient of patients) savePatient(db, patient);
}

function saveKeys(db: DatabaseSync, study: StudyRow, doc: StudyDoc): void {
  const before = keysOf(study.doc);
  const after = keysOf(doc);
  const split = (key: string): [number, string] => {
    const at = key.indexOf('\u0000');
    return [Number(key.slice(0, at)), key.slice(at + 1)];
  };
  for (const key of before)
    if (!after.has(key))
      statement(db, 'DELETE FROM study_keys WHERE tenant = ? AND tag = ? AND value = ? AND study = ?').run(
        study.tenant,
        ...split(key),
        study.id,
      );
  for (const key of after)
    if (!before.has(key))
      statement(db, 'INSERT OR IGNORE INTO study_keys (tenant, tag, value, study) VALUES (?, ?, ?, ?)').run(
        study.tenant,
        ...split(key),
        study.id,
      );
}

/** Moves the study to its patient, and keeps the set of what the patient's studies carry. Answers whose rows that concerns. */
function joinPatient(db: DatabaseSync, study: StudyRow, variants: readonly Variant[]): number[] {
  const parts = patientParts(variants);
  const digests = [...parts.keys()].sort();
  const before = study.patient;
  let after = 0;
  if (study.counts.instances > 0) {
    const { key, patientId, issuer } = patientOfStudy(study.studyInstanceUid, study.doc);
    const row = statement(db, 'SELECT id FROM patients WHERE tenant = ? AND key = ?').get(study.tenant, key);
    after = row
      ? (row.id as number)
      : Number(
          statement(
            db,
            `INSERT INTO patients (tenant, key, patient_id, issuer, name, live, doc) VALUES (?, ?, ?, ?, '', 1, '{}')`,
          ).run(study.tenant, key, patientId, issuer).lastInsertRowid,
        );
  }
  study.patient = after;
  if (before !== 0)
    for (const digest of study.patientDigests)
      statement(db, 'UPDATE patient_variants SET studies = studies - 1 WHERE patient = ? AND digest = ?').run(
        before,
        digest,
      );
  if (after !== 0)
    for (const [digest, text] of parts)
      statement(
        db,
        `INSERT INTO patient_variants (patient, digest, studies, doc) VALUES (?, ?, 1, ?)
         ON CONFLICT DO UPDATE SET studies = studies + 1`,
      ).run(after, digest, text);
  study.patientDigests = digests;
  return [...new Set([before, after])].filter((patient) => patient !== 0);
}

function savePatient(db: DatabaseSync, patient: number): void {
  statement(db, 'DELETE FROM patient_variants WHERE patient = ? AND studies <= 0').run(patient);
  const first = statement(
    db,
    'SELECT doc FROM studies WHERE patient = ? AND first_order > ? ORDER BY first_order LIMIT 1',
  ).get(patient, '');
  if (!first) {
    statement(db, 'DELETE FROM patients WHERE id = ?').run(patient);
    return;
  }
  const winner = (JSON.parse(first.doc as string) as StudyDoc).patient.attributes;
  const rows = statement(db, 'SELECT doc FROM patient_variants WHERE patient = ? ORDER BY digest LIMIT ?').all(
    patient,
    PATIENT_VARIANTS_MAX + 1,
  );
  const doc = patientDoc(
    winner,
    rows.map((row) => row.doc as string),
  );
  const name = textOf(doc.attributes['00100010']);
  statement(db, 'UPDATE patients SET name = ?, doc = ? WHERE id = ?').run(
    keyText('PN', name),
    JSON.stringify(doc),
    patient,
  );
}
