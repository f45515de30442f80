import type { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { GantryError } from '#platform/errors.ts';
import { MetadataReader } from '../../metadata/read.ts';
import { QUERIES } from './query-table.ts';
import { bindReader, readerOf } from './reader.ts';
import { openIndex } from './schema.ts';
import { carry } from './thread.ts';

export interface ReaderData {
  directory: string;
  metadataCacheBytes: number;
}
export interface RunArgs {
  run: number;
  path: string;
  name: string;
  args: unknown;
}
export interface Chunk {
  rows: unknown[];
  done: boolean;
}

/** A chunk goes out at so many rows or after so long: others wait in this thread too. */
const CHUNK_ROWS = 256;
const CHUNK_BYTES = 1 << 20;
const SLICE_MS = 10;

const { directory, metadataCacheBytes } = workerData as ReaderData;
/** Views and texts are kept for one file: another generation numbers its series anew. */
let metadata: { path: string; kept: MetadataReader } | undefined;
const idle = new Map<string, DatabaseSync[]>();
const running = new Map<number, { path: string; db: DatabaseSync; rows: Iterator<unknown> }>();

/**
 * One connection for each query that runs: statements of one connection share a snapshot, so a slow query would show the next one a past
 * in which its sender's instances have not arrived.
 */
function take(path: string): DatabaseSync {
  const known = idle.get(path)?.pop();
  if (known) return known;
  if (metadata?.path !== path) {
    for (const [other, connections] of idle)
      if (other !== path) {
        for (const connection of connections) connection.close();
        idle.delete(other);
      }
    metadata = { path, kept: new MetadataReader(metadataCacheBytes) };
  }
  const db = openIndex(path, { readOnly: true });
  bindReader(db, directory, metadata.kept);
  return db;
}

function begin({ run, path, name, args }: RunArgs): Chunk {
  const query = QUERIES[name];
  if (!query) throw new GantryError('unimplemented', `the index has no query ${name}`);
  const db = take(path);
  try {
    db.exec('BEGIN'); // one snapshot for all of its statements
    running.set(run, { path, db, rows: query(readerOf(db), args as never)[Symbol.iterator]() });
  } catch (error) {
    release(path, db);
    throw error;
  }
  return next(run);
}

function release(path: string, db: DatabaseSync): void {
  if (db.isTransaction) db.exec('ROLLBACK');
  if (metadata?.path !== path) db.close();
  else idle.set(path, [...(idle.get(path) ?? []), db]);
}

function next(run: number): Chunk {
  const one = running.get(run);
  if (!one) throw new GantryError('cancelled', 'the query has ended');
  const rows: unknown[] = [];
  const until = performance.now() + SLICE_MS;
  let bytes = 0;
  try {
    for (;;) {
      const { value, done } = one.rows.next();
      if (done) {
        end(run);
        return { rows, done: true };
      }
      // A query that finds nothing for long says `undefined` now and then, so that others get their turn.
      if (value !== undefined) rows.push(value);
      if (value instanceof Uint8Array) bytes += value.length;
      if (rows.length >= CHUNK_ROWS || bytes >= CHUNK_BYTES || performance.now() >= until) return { rows, done: false };
    }
  } catch (error) {
    end(run);
    throw error;
  }
}

function end(run: number): void {
  const one = running.get(run);
  if (!one) return;
  running.delete(run);
  try {
    one.rows.return?.();
  } finally {
    release(one.path, one.db);
  }
}

const operations: Record<string, (args: never) => unknown> = {
  begin,
  next,
  end,
  close: () => {
    for (const run of [...running.keys()]) end(run);
    for (const connections of idle.values()) for (const connection of connections) connection.close();
    idle.clear();
  },
};

parentPort!.on('message', ({ id, op, args }: { id: number; op: string; args: never }) => {
  try {
    parentPort!.postMessage({ id, value: operations[op]!(args) });
  } catch (error) {
    parentPort!.postMessage({ id, error: carry(error) });
  }
});
