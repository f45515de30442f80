import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ByteWriter } from '#dicom/byte-writer.ts';
import { ByteReader } from '../state/bytes.ts';

/**
 * One file a series: for each version of its instances the DICOM JSON text and the header, in compressed chunks, and an index at the end
 * so that a single instance can be read. It may be lost: headers come from the log again.
 *
 *   'GMO1'  chunk*  index (zstd)  u32 length of the index  'GMO1'
 */
const MAGIC = Buffer.from('GMO1');
const TAIL_BYTES = 8;
const CHUNK_ENTRIES = 64;
/** Frames carry their own checksum: a damaged chunk must not be shown. */
const PARAMS = { params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 } };

export interface MetadataEntry {
  version: string; // hex
  charset: string;
  head: Buffer;
  json: Buffer;
}
interface Spot {
  charset: string;
  jsonChunk: number;
  headChunk: number;
  jsonOffset: number;
  jsonLength: number;
  headOffset: number;
  headLength: number;
}

export function encodeMetadataObject(entries: readonly MetadataEntry[]): Buffer {
  const parts: Buffer[] = [MAGIC];
  const chunks: { offset: number; length: number }[] = [];
  const index = new ByteWriter();
  let at = MAGIC.length;
  const chunk = (raw: Buffer[]): void => {
    const data = zstdCompressSync(Buffer.concat(raw), PARAMS);
    chunks.push({ offset: at, length: data.length });
    parts.push(data);
    at += data.length;
  };
  index.number(entries.length);
  for (let from = 0; from < entries.length; from += CHUNK_ENTRIES) {
    const some = entries.slice(from, from + CHUNK_ENTRIES);
    let jsonOffset = 0;
    let headOffset = 0;
    for (const { version, charset, head, json } of some) {
      index.raw(Buffer.from(version, 'hex'));
      index.text(charset);
      for (const value of [chunks.length, jsonOffset, json.length, headOffset, head.length]) index.number(value);
      jsonOffset += json.length;
      headOffset += head.length;
    }
    chunk(some.map((one) => one.json));
    chunk(some.map((one) => one.head));
  }
  index.number(chunks.length);
  for (const { offset, length } of chunks) {
    index.number(offset);
    index.number(length);
  }
  const footer = zstdCompressSync(index.end(), PARAMS);
  const tail = Buffer.alloc(TAIL_BYTES);
  tail.writeUInt32LE(footer.length, 0);
  MAGIC.copy(tail, 4);
  return Buffer.concat([...parts, footer, tail]);
}

/** Whole or not at all: written beside, then renamed. It is not flushed: what a power loss tears is found by its checksums. */
export function writeMetadataObject(path: string, entries: readonly MetadataEntry[]): void {
  mkdirSync(dirname(path), { recursive: true });
  const beside = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    writeFileSync(beside, encodeMetadataObject(entries));
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}

export class MetadataObject {
  readonly spots = new Map<string, Spot>();
  readonly #read: (offset: number, length: number) => Buffer;
  readonly #chunks: { offset: number; length: number }[] = [];
  readonly #open = new Map<number, Buffer>();

  constructor(read: (offset: number, length: number) => Buffer, size: number) {
    this.#read = read;
    const tail = read(size - TAIL_BYTES, TAIL_BYTES);
    if (!tail.subarray(4).equals(MAGIC)) throw new Error('a metadata object without its end');
    const length = tail.readUInt32LE(0);
    const index = new ByteReader(zstdDecompressSync(read(size - TAIL_BYTES - length, length)));
    for (let count = index.number(); count > 0; count--) {
      const version = index.raw(32).toString('hex');
      const charset = index.text();
      const jsonChunk = index.number();
      this.spots.set(version, {
        charset,
        jsonChunk,
        headChunk: jsonChunk + 1,
        jsonOffset: index.number(),
        jsonLength: index.number(),
        headOffset: index.number(),
        headLength: index.number(),
      });
    }
    for (let count = index.number(); count > 0; count--)
      this.#chunks.push({ offset: index.number(), length: index.number() });
  }

  #chunk(number: number): Buffer {
    let chunk = this.#open.get(number);
    if (!chunk) {
      const { offset, length } = this.#chunks[number]!;
      this.#open.set(number, (chunk = zstdDecompressSync(this.#read(offset, length))));
    }
    return chunk;
  }

  json(version: string): Buffer | undefined {
    const spot = this.spots.get(version);
    return spot && this.#chunk(spot.jsonChunk).subarray(spot.jsonOffset, spot.jsonOffset + spot.jsonLength);
  }
  head(version: string): { head: Buffer; charset: string } | undefined {
    const spot = this.spots.get(version);
    if (!spot) return undefined;
    const head = this.#chunk(spot.headChunk).subarray(spot.headOffset, spot.headOffset + spot.headLength);
    return { head, charset: spot.charset };
  }
}

export const metadataPath = (directory: string, name: string): string => join(directory, 'metadata', name);
export const metadataExists = (directory: string, name: string): boolean => {
  try {
    return existsSync(metadataPath(directory, name)) && withMetadataObject(directory, name, () => true) === true;
  } catch {
    return false; // torn by a power loss: it is written again
  }
};

/** undefined: there is none, or it cannot be read; either way headers come from the log. */
export function withMetadataObject<T>(
  directory: string,
  name: string,
  use: (object: MetadataObject) => T,
): T | undefined {
  let file: number;
  try {
    file = openSync(metadataPath(directory, name), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { size } = fstatSync(file);
    const read = (offset: number, length: number): Buffer => {
      const buffer = Buffer.allocUnsafe(length);
      if (offset < 0 || readSync(file, buffer, 0, length, offset) !== length)
        throw new Error('a metadata object ends too early');
      return buffer;
    };
    return use(new MetadataObject(read, size));
  } finally {
    closeSync(file);
  }
}
