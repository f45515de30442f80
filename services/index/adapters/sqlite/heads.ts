import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { EntryId, Instance } from '#proto/storage/v1/log.ts';
import { idKey } from '../../fold/order.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { type Database, statement } from './schema.ts';

export interface Header {
  head: Buffer;
  charset: string;
}

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

/** By entry (`idKey`). */
export function recentHeads(db: Database, series: number): Map<string, Header> {
  const heads = new Map<string, Header>();
  for (const row of statement(db, 'SELECT data FROM recent_heads WHERE series = ? ORDER BY id').all(series)) {
    const read = new ByteReader(zstdDecompressSync(row.data as Uint8Array));
    while (!read.done) {
      const id = { lane: read.text(), sequence: read.number(), n: read.number() };
      heads.set(idKey(id), { charset: read.text(), head: read.bytes() });
    }
  }
  return heads;
}
