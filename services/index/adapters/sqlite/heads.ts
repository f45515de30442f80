import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ByteWriter } from '#dicom/byte-writer.ts';
import type { EntryId, Instance } from '#proto/storage/v1/log.ts';
import { idKey } from '../../fold/order.ts';
import { ByteReader } from '../../state/bytes.ts';
import type { Header, RecentHeads } from '../../state/heads.ts';
import { type Database, statement } from './schema.ts';

const HEADS_PER_ROW = 64;

/** Headers of what has just arrived, until the series settles. What arrives together is alike, and compresses together. */
export function keepHeads(
  db: Database,
  series: number,
  arrivals: readonly { id: EntryId; instance: Instance }[],
): void {
  for (let from = 0; from < arrivals.length; from += HEADS_PER_ROW) {
    const out = new ByteWriter();
    for (const { id, instance } of arrivals.slice(from, from + HEADS_PER_ROW)) {
      out.text(id.lane);
      out.number(id.sequence);
      out.number(id.n);
      out.text(instance.source?.defaultCharset ?? '');
      out.bytes(instance.head);
    }
    statement(db, 'INSERT INTO recent_heads (series, data) VALUES (?, ?)').run(series, zstdCompressSync(out.end()));
  }
}

/** Rows are only added, until the series settles and they all go. */
export interface RecentRows extends RecentHeads {
  last: number;
  rows: number;
}

/** Goes on from what was read before, where that is still there: unpacking is most of what a frame of a growing series would cost. */
export function recentHeads(db: Database, series: number, before?: RecentRows): RecentRows {
  const { rows } = statement(db, 'SELECT count(*) AS rows FROM recent_heads WHERE series = ? AND id <= ?').get(
    series,
    before?.last ?? 0,
  ) as { rows: number };
  const recent =
    before && rows === before.rows ? before : { heads: new Map<string, Header>(), last: 0, rows: 0, bytes: 0 };
  for (const row of statement(db, 'SELECT id, data FROM recent_heads WHERE series = ? AND id > ? ORDER BY id').all(
    series,
    recent.last,
  )) {
    const data = zstdDecompressSync(row.data as Uint8Array);
    const read = new ByteReader(data);
    while (!read.done) {
      const id = { lane: read.text(), sequence: read.number(), n: read.number() };
      recent.heads.set(idKey(id), { charset: read.text(), head: read.bytes() });
    }
    recent.last = row.id as number;
    recent.rows++;
    recent.bytes += data.length;
  }
  return recent;
}
