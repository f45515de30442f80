import type { Reading } from '../questions/reading.ts';
import { InstanceEntity, PatientEntity, SeriesEntity, StudyEntity } from './entities.ts';
import type { RowBuilder, RowEntity } from './rows.ts';

/** What is kept because it is asked again and again: worklists poll the same list, by many viewers, every few seconds. Measured: adr/0043. */
const ROWS_MAX = 2_000; // of each signature: with their documents 40 MB of a thread at the most
const SIGNATURES_MAX = 8;

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
  const { doc, series, instances } = entity.row;
  if (kept && kept.doc === doc && kept.series === series && kept.instances === instances) return kept.json;
  const json = builder.build(entity);
  alike.delete(entity.uid);
  alike.set(entity.uid, { doc, series, instances, json });
  if (alike.size > ROWS_MAX) alike.delete(alike.keys().next().value!);
  return json;
}

/** Brings what the row will read, in a store that must be waited for. */
export function* prepareRow(builder: RowBuilder, entity: RowEntity): Reading<void> {
  const source = entity instanceof InstanceEntity ? entity.series.source : entity.source;
  const { ahead } = source.store;
  if (!ahead) return;
  if (builder.needsRelated) yield* ahead.related(patientOf(entity));
  if (!builder.needsHeader) return;
  if (entity instanceof InstanceEntity) {
    const together = entity.series.with(entity).filter((one) => !one.hasHeader);
    if (!entity.hasHeader) yield* ahead.texts(entity.series, together);
    return;
  }
  if (entity instanceof PatientEntity) yield* ahead.studiesOf(entity);
  const study = entity instanceof PatientEntity ? [...entity.studies()][0] : entity;
  if (study instanceof StudyEntity) yield* ahead.series(study);
  const series = study instanceof StudyEntity ? study.firstSeries() : study;
  if (!(series instanceof SeriesEntity)) return;
  yield* ahead.instances(series);
  const instance = series.representative();
  if (instance) yield* ahead.texts(series, [instance]);
}

function patientOf(entity: RowEntity) {
  if (entity instanceof PatientEntity) return entity.id;
  const study =
    entity instanceof StudyEntity ? entity : entity instanceof SeriesEntity ? entity.study : entity.series.study;
  return study.row.patient;
}
