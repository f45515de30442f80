import { hash } from 'node:crypto';
import type { MetadataRequest } from '#proto/index/v1/index.ts';
import { seriesInScope } from '../adapters/sqlite/queries.ts';
import { type Database, statement } from '../adapters/sqlite/schema.ts';
import type { SettledSeries } from '../adapters/sqlite/settling.ts';
import { metadataReaderOf, SERIES_ROW, type SeriesRow } from './read.ts';
import { withRoot } from './text.ts';

const PART_BYTES = 256 * 1024;
/** Instances converted at a time: between them others get their turn. */
const INSTANCES_AT_ONCE = 64;

/** First { found, etag }, then the JSON array's bytes in parts. */
export function* metadata(
  db: Database,
  tenant: string,
  request: MetadataRequest,
): Generator<{ found: boolean; etag: string } | Uint8Array | undefined> {
  const one = (uid: string): string[] => (uid === '' ? [] : [uid]);
  const reader = metadataReaderOf(db);
  const series = seriesInScope(db, tenant, {
    studyInstanceUids: one(request.studyInstanceUid),
    seriesInstanceUids: one(request.seriesInstanceUid),
    sopInstanceUids: one(request.sopInstanceUid),
  });
  const shown = series.map((row) => ({
    row,
    records: reader
      .views(db, row)
      .flatMap((view) =>
        view.shown && (request.sopInstanceUid === '' || view.sopInstanceUid === request.sopInstanceUid)
          ? [view.shown]
          : [],
      ),
  }));
  for (const { row, records } of shown) reader.ensure(db, row, records);
  const found = shown.some(({ records }) => records.length > 0);
  const state = shown.map(({ row, records }) => `${row.seriesInstanceUid}:${row.revision}:${records.length}`);
  const corrected = statement(
    db,
    `SELECT count(*) AS n, max(sort) AS last FROM controls WHERE kind = 'identity'`,
  ).get();
  const etag = hash('sha256', JSON.stringify([state, corrected, request.bulkDataRoot, generationOf(db)]), 'hex').slice(
    0,
    32,
  );
  yield { found, etag };
  if (!found) return;
  // As it stands within a JSON string.
  const root = Buffer.from(JSON.stringify(request.bulkDataRoot).slice(1, -1));
  let parts: Buffer[] = [Buffer.from('[')];
  let bytes = 1;
  let first = true;
  for (const { row, records } of shown)
    for (let from = 0; from < records.length; from += INSTANCES_AT_ONCE) {
      for (const text of reader.texts(db, row, records.slice(from, from + INSTANCES_AT_ONCE))) {
        if (!first) parts.push(COMMA);
        first = false;
        const pieces = withRoot(text, root);
        parts.push(...pieces);
        for (const piece of pieces) bytes += piece.length;
        if (bytes < PART_BYTES) continue;
        yield Buffer.concat(parts);
        parts = [];
        bytes = 0;
      }
      yield undefined;
    }
  parts.push(Buffer.from(']'));
  yield Buffer.concat(parts);
}
const COMMA = Buffer.from(',');

/** Revisions count from one in each file: an ETag of the one before must not hold in the next. */
const generationOf = (db: Database): unknown =>
  statement(db, `SELECT value FROM meta WHERE key = 'created'`).get()?.value;

/** Writes the metadata object of each of the study's series; what the writer then takes over. */
export function* metadataObjects(db: Database, study: number): Generator<SettledSeries> {
  const reader = metadataReaderOf(db);
  const rows = statement(db, `${SERIES_ROW} WHERE series.study = ?`).all(study) as unknown as SeriesRow[];
  for (const row of rows) {
    const through = statement(db, 'SELECT coalesce(max(id), 0) AS id FROM recent_heads WHERE series = ?').get(row.id)!;
    yield {
      series: row.id,
      revision: row.revision,
      metadata: reader.write(db, row),
      headsThrough: through.id as number,
    };
  }
}
