import { crc32 } from 'node:zlib';
import { GantryError } from '#platform/errors.ts';
import { type Entry, type Instance, type Place, TableOfContents } from '#proto/storage/v1/log.ts';
import type { EntryKind, NewEntry } from '../ports.ts';
import { controlFileName, instanceFileName, tocFileName } from './names.ts';
import { BLOCK, paddingOf, writeTarHeader } from './tar.ts';
import { encodeTocFrame, FORMAT_VERSION } from './toc.ts';

/** Where a commit will stand: its places depend on it, so a commit that moves to another object is laid out again. */
export interface Origin {
  readonly tenant: string;
  readonly lane: string;
  readonly sequence: number;
  readonly object: string;
  readonly offset: number;
  /** Offset of the header of the table before it in this object; -1: none. */
  readonly previousToc: number;
}

export interface LaidOut {
  /** The commit, ready for one gathering write. Instance bytes are the sender's buffers, not copies. */
  readonly buffers: Buffer[];
  readonly bytes: number;
  readonly tocOffset: number;
  readonly table: Buffer;
  readonly entries: Entry[];
  readonly places: (Place | undefined)[];
}

export function layOutCommit(origin: Origin, items: readonly NewEntry[], stamp: () => string): LaidOut {
  const buffers: Buffer[] = [];
  const entries: Entry[] = [];
  const places: (Place | undefined)[] = [];
  const headers = Buffer.allocUnsafe(BLOCK * (items.length + 1));
  let offset = origin.offset;
  let crc = 0;
  const add = (buffer: Buffer): void => {
    if (buffer.length === 0) return;
    buffers.push(buffer);
    offset += buffer.length;
    crc = crc32(buffer, crc);
  };
  const addHeader = (slot: number, name: string, bytes: number, seconds: number): void => {
    writeTarHeader(headers, slot * BLOCK, name, bytes, seconds);
    add(headers.subarray(slot * BLOCK, (slot + 1) * BLOCK));
  };

  items.forEach((item, n) => {
    const entry: Entry = { n, stamp: stamp(), kind: item.kind };
    const seconds = Math.floor(Number.parseInt(entry.stamp.slice(0, 12), 16) / 1000);
    if (item.kind.$case === 'instance') {
      const body = item.body ?? [];
      const length = body.reduce((sum, piece) => sum + piece.length, 0);
      addHeader(n, instanceFileName(item.kind.value), length, seconds);
      const place: Place = { object: origin.object, offset, length, encoding: 0 };
      for (const piece of body) add(piece);
      add(paddingOf(length));
      entry.kind = { $case: 'instance', value: { ...item.kind.value, place } };
      places.push(place);
    } else {
      const json = controlJson(origin, entry);
      addHeader(n, controlFileName(origin.sequence, n, item.kind.$case), json.length, seconds);
      add(json);
      add(paddingOf(json.length));
      places.push(item.kind.$case === 'large' ? item.kind.value.place : undefined);
    }
    entries.push(entry);
  });

  const encoded = TableOfContents.encode({
    formatVersion: FORMAT_VERSION,
    tenant: origin.tenant,
    lane: origin.lane,
    sequence: origin.sequence,
    entries,
  }).finish();
  const table = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
  const tocOffset = offset;
  const frame = encodeTocFrame({
    sequence: origin.sequence,
    commitOffset: origin.offset,
    previousToc: origin.previousToc,
    crc,
    table,
  });
  const last = entries.at(-1);
  addHeader(
    items.length,
    tocFileName(origin.sequence),
    frame.length,
    last ? Math.floor(Number.parseInt(last.stamp.slice(0, 12), 16) / 1000) : 0,
  );
  add(frame);
  return { buffers, bytes: offset - origin.offset, tocOffset, table, entries, places };
}

/** What people read who have only `tar`: the entry as JSON, bytes as base64, without the compressed header of a large instance. */
export function controlJson(origin: Pick<Origin, 'lane' | 'sequence'>, entry: Entry): Buffer {
  const kind = entry.kind!;
  const value = kind.$case === 'large' ? { ...kind.value, head: undefined } : kind.value;
  const replacer = function (this: Record<string, unknown>, key: string, serialised: unknown): unknown {
    const raw = this[key]; // Buffer.toJSON has already run on `serialised`
    return Buffer.isBuffer(raw) ? raw.toString('base64') : serialised;
  };
  return Buffer.from(
    `${JSON.stringify({ id: { lane: origin.lane, sequence: origin.sequence, n: entry.n }, stamp: entry.stamp, kind: kind.$case, value }, replacer, 1)}\n`,
  );
}

/** Bytes that an entry costs in memory and in a commit, before it is laid out. */
export function weightOf(entry: NewEntry): number {
  let weight = 1024 + weightOfKind(entry.kind);
  for (const piece of entry.body ?? []) weight += piece.length;
  return weight;
}

function weightOfKind(kind: EntryKind): number {
  switch (kind.$case) {
    case 'instance':
    case 'large':
      return kind.value.head.length;
    case 'overlay':
      return kind.value.dataSetJson.length;
    case 'delete':
    case 'restore':
    case 'decision':
      return kind.value.entries.length * 64;
    case 'moved':
      return kind.value.moves.length * 512 + kind.value.dropped.length * 64;
    case 'identity':
    case 'hold':
    case 'closed':
      return 256;
  }
}

/** What a log can hold: refused here, before anything is written, whoever calls. Whether an instance may come in is ingest's say. */
export function checkInstance(instance: Instance | undefined): Instance {
  if (!instance) throw new GantryError('invalid-argument', 'an instance is missing from the request');
  const { studyInstanceUid, seriesInstanceUid, sopInstanceUid, version, digest } = instance;
  for (const uid of [studyInstanceUid, seriesInstanceUid, sopInstanceUid])
    if (uid.length < 1 || uid.length > 64)
      throw new GantryError('missing-identifier', 'a UID has 1–64 characters (PS3.5 §9.1)');
  if (version.length !== 32 || digest.length !== 32)
    throw new GantryError('invalid-argument', 'version and digest are SHA-256: 32 bytes each');
  return instance;
}
