import { join } from 'node:path';
import { metadataExists, writeMetadataObject } from '../../metadata/object.ts';
import type { Rows } from '../../questions/reading.ts';
import type { SqliteReader } from './reader.ts';
import { statement } from './schema.ts';
import type { SettledSeries } from './settling.ts';

/** Writes the metadata object of each of the study's series; what the writer then takes over. */
export function* metadataObjects(reader: SqliteReader, directory: string, study: number): Rows<SettledSeries> {
  const { db, kept } = reader;
  for (const { id } of statement(db, 'SELECT id FROM series WHERE study = ?').all(study)) {
    const through = statement(db, 'SELECT coalesce(max(id), 0) AS id FROM recent_heads WHERE series = ?').get(id!)!;
    const row = reader.seriesRow(id as number)!;
    const { name, records } = yield* kept.plan(reader, row);
    if (name !== '' && !metadataExists(directory, name))
      writeMetadataObject(join(directory, 'metadata', name), yield* kept.entries(reader, row, records));
    yield { series: id as number, revision: row.revision, metadata: name, headsThrough: through.id as number };
  }
}
