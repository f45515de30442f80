import { hash } from 'node:crypto';
import type { MetadataRequest } from '#proto/index/v1/index.ts';
import { type Asked, refuseNothing } from '../questions/queries.ts';
import type { Rows } from '../questions/reading.ts';
import { withRoot } from './text.ts';

const PART_BYTES = 256 * 1024;
/** Instances converted at a time: between them others get their turn. */
const INSTANCES_AT_ONCE = 64;

/** First { found, etag }, then the JSON array's bytes in parts. */
export function* metadata(
  { reader, kept }: Asked,
  tenant: string,
  request: MetadataRequest,
): Rows<{ found: boolean; etag: string } | Uint8Array> {
  const one = (uid: string): string[] => (uid === '' ? [] : [uid]);
  const scope = {
    studyInstanceUids: one(request.studyInstanceUid),
    seriesInstanceUids: one(request.seriesInstanceUid),
    sopInstanceUids: one(request.sopInstanceUid),
  };
  refuseNothing(scope);
  const series = yield* reader.seriesInScope(tenant, scope);
  const shown = [];
  for (const row of series) {
    const views = yield* kept.views(reader, row);
    const records = views.flatMap((view) =>
      view.shown && (request.sopInstanceUid === '' || view.sopInstanceUid === request.sopInstanceUid)
        ? [view.shown]
        : [],
    );
    shown.push({ row, records });
  }
  for (const { row, records } of shown) yield* kept.ensure(reader, row, records);
  const found = shown.some(({ records }) => records.length > 0);
  const state = shown.map(({ row, records }) => `${row.seriesInstanceUid}:${row.revision}:${records.length}`);
  const merges = yield* reader.stateOfMerges(tenant);
  const etag = hash('sha256', JSON.stringify([state, merges, request.bulkDataRoot]), 'hex').slice(0, 32);
  yield { found, etag };
  if (!found) return;
  // As it stands within a JSON string.
  const root = Buffer.from(JSON.stringify(request.bulkDataRoot).slice(1, -1));
  let parts: Buffer[] = [Buffer.from('[')];
  let bytes = 1;
  let first = true;
  for (const { row, records } of shown)
    for (let from = 0; from < records.length; from += INSTANCES_AT_ONCE) {
      const texts = yield* kept.texts(reader, row, records.slice(from, from + INSTANCES_AT_ONCE));
      for (const text of texts) {
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
