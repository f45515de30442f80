import { hash } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { BLOCK, paddedLength } from './tar.ts';

/**
 * The last file of every commit: all that a fold ever needs, in a frame that proves itself.
 *
 *   0  'GTOC'                 20 offset of the commit in its object (8)      40 length of the table, encoded (4)
 *   4  frame version (2)      28 offset of the previous table's header (8),  44 length of the table, compressed (4)
 *   6  compression (2)           all ones: none in this object               48 zstd(TableOfContents)
 *   8  sequence (8)           36 CRC-32 of the commit before this file (4)      zeros up to the foot
 *  16  foot (40 bytes), the last of a block:  'GTOC'  frame length (4)  SHA-256 of all before it (32)
 *
 * The frame fills whole blocks, so the last block before a tar's trailer is a foot, and a sealed segment is read from its end, table
 * by table. The CRC-32 (8.5 µs for 60 kB here) tells a torn last commit whose table reached the disk before its bytes did; lasting
 * integrity is each instance's SHA-256.
 */
export const FRAME_VERSION = 1;
export const FORMAT_VERSION = 1;
const COMPRESSION_ZSTD = 1;
export const FRAME_HEAD = 48;
export const FRAME_FOOT = 40;
const NONE = 0xffffffffffffffffn;
/** A commit is at most 16 MiB of instances or one request: a table beyond this is no table of ours. */
export const TABLE_BYTES_MAX = 256 * 1024 * 1024;

export interface TocFrame {
  readonly version: number;
  readonly sequence: number;
  readonly commitOffset: number;
  /** -1: the first table of its object. */
  readonly previousToc: number;
  readonly crc: number;
  /** The encoded TableOfContents. */
  readonly table: Buffer;
}

export function encodeTocFrame(frame: Omit<TocFrame, 'version'>): Buffer {
  const compressed = zstdCompressSync(frame.table, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  const length = paddedLength(FRAME_HEAD + compressed.length + FRAME_FOOT);
  const out = Buffer.alloc(length);
  out.write('GTOC', 0, 'latin1');
  out.writeUInt16BE(FRAME_VERSION, 4);
  out.writeUInt16BE(COMPRESSION_ZSTD, 6);
  out.writeBigUInt64BE(BigInt(frame.sequence), 8);
  out.writeUInt32BE(0, 16);
  out.writeBigUInt64BE(BigInt(frame.commitOffset), 20);
  out.writeBigUInt64BE(frame.previousToc < 0 ? NONE : BigInt(frame.previousToc), 28);
  out.writeUInt32BE(frame.crc, 36);
  out.writeUInt32BE(frame.table.length, 40);
  out.writeUInt32BE(compressed.length, 44);
  compressed.copy(out, FRAME_HEAD);
  out.write('GTOC', length - FRAME_FOOT, 'latin1');
  out.writeUInt32BE(length, length - FRAME_FOOT + 4);
  hash('sha256', out.subarray(0, length - 32), 'buffer').copy(out, length - 32);
  return out;
}

export type FrameFault = 'damaged' | 'newer-format';

/** Never throws: bytes from a disk are hostile until their digest holds. */
export function decodeTocFrame(body: Buffer): TocFrame | FrameFault {
  if (body.length < BLOCK || body.length % BLOCK !== 0 || body.toString('latin1', 0, 4) !== 'GTOC') return 'damaged';
  const foot = body.length - FRAME_FOOT;
  if (body.toString('latin1', foot, foot + 4) !== 'GTOC' || body.readUInt32BE(foot + 4) !== body.length)
    return 'damaged';
  if (!hash('sha256', body.subarray(0, body.length - 32), 'buffer').equals(body.subarray(body.length - 32)))
    return 'damaged';
  const version = body.readUInt16BE(4);
  if (version !== FRAME_VERSION || body.readUInt16BE(6) !== COMPRESSION_ZSTD) return 'newer-format';
  const sequence = safe(body.readBigUInt64BE(8));
  const commitOffset = safe(body.readBigUInt64BE(20));
  const previous = body.readBigUInt64BE(28);
  const previousToc = previous === NONE ? -1 : safe(previous);
  const tableLength = body.readUInt32BE(40);
  const compressedLength = body.readUInt32BE(44);
  if (sequence === undefined || sequence < 1 || commitOffset === undefined || previousToc === undefined)
    return 'damaged';
  if (tableLength > TABLE_BYTES_MAX || FRAME_HEAD + compressedLength > foot) return 'damaged';
  let table: Buffer;
  try {
    table = zstdDecompressSync(body.subarray(FRAME_HEAD, FRAME_HEAD + compressedLength), {
      maxOutputLength: Math.max(tableLength, 1),
    });
  } catch {
    return 'damaged'; // not zstd, or longer than it says: the digest held, so whoever wrote it was not us
  }
  if (table.length !== tableLength) return 'damaged';
  return { version, sequence, commitOffset, previousToc, crc: body.readUInt32BE(36), table };
}

/** From the last bytes of a block: how long the frame is that ends there, its tar header not included. */
export function frameLengthFromFoot(block: Buffer): number | undefined {
  const foot = block.length - FRAME_FOOT;
  if (foot < 0 || block.toString('latin1', foot, foot + 4) !== 'GTOC') return undefined;
  const length = block.readUInt32BE(foot + 4);
  return length >= BLOCK && length % BLOCK === 0 ? length : undefined;
}

export type TableFault = 'damaged' | 'newer-format' | 'unknown-entry';

/** Reads a table and checks that it is what it should be: an entry of a kind we do not know is never skipped. */
export function decodeTable(
  table: Buffer,
  tenant: string,
  lane: string,
  sequence: number,
): TableOfContents | TableFault {
  let decoded: TableOfContents;
  try {
    decoded = TableOfContents.decode(table);
  } catch {
    return 'damaged'; // not protobuf
  }
  if (decoded.tenant !== tenant || decoded.lane !== lane || decoded.sequence !== sequence) return 'damaged';
  if (decoded.formatVersion !== FORMAT_VERSION) return 'newer-format';
  if (decoded.entries.some((entry) => entry.kind === undefined)) return 'unknown-entry';
  return decoded;
}

function safe(value: bigint): number | undefined {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}
