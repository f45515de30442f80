import { crc32 } from 'node:zlib';
import { sequenceOfToc } from './names.ts';
import { BLOCK, paddedLength, parseTarHeader, TRAILER } from './tar.ts';
import { decodeTocFrame, frameLengthFromFoot, TABLE_BYTES_MAX, type TocFrame } from './toc.ts';

/** Bytes that can be read at an offset; fewer are given only at the end. */
export interface ByteSource {
  readonly bytes: number;
  read(offset: number, length: number): Promise<Buffer>;
}

/** Where a commit stands in its object. Its table is read when it is needed. */
export interface CommitAt {
  readonly sequence: number;
  readonly offset: number;
  readonly tocOffset: number;
  /** Where the next commit begins. */
  readonly end: number;
}

export interface Scan {
  readonly commits: CommitAt[];
  /** End of the last valid commit: what lies beyond is a trailer, or torn. */
  readonly end: number;
  /** Bytes that should be commits and are not, with a valid commit after them. */
  readonly damage: { offset: number; end: number; detail: string }[];
  /** A frame newer than this release: nothing beyond it is read. */
  readonly newerFormat: boolean;
}

const CHUNK = 1024 * 1024;

/** The table whose tar header is at `tocOffset`. */
export async function readTocAt(
  source: ByteSource,
  tocOffset: number,
): Promise<(TocFrame & { end: number }) | 'damaged' | 'newer-format'> {
  const first = await source.read(tocOffset, 16 * 1024); // most tables fit: one read
  const header = parseTarHeader(first);
  if (
    !header ||
    header.bytes > TABLE_BYTES_MAX ||
    header.bytes < BLOCK ||
    tocOffset + BLOCK + header.bytes > source.bytes
  )
    return 'damaged';
  const body =
    first.length >= BLOCK + header.bytes
      ? first.subarray(BLOCK, BLOCK + header.bytes)
      : await source.read(tocOffset + BLOCK, header.bytes);
  const frame = decodeTocFrame(body);
  if (typeof frame === 'string') return frame;
  if (
    sequenceOfToc(header.name) !== frame.sequence ||
    frame.commitOffset > tocOffset ||
    frame.previousToc >= frame.commitOffset
  )
    return 'damaged';
  return { ...frame, end: tocOffset + BLOCK + header.bytes };
}

/**
 * A sealed segment, from its end: each table says where the one before it is. Undefined when anything is not as it should be (then
 * scan it from the start). `first` and, when known, `last` bind it to its name.
 */
export async function scanFromEnd(
  source: ByteSource,
  first: number,
  last: number | undefined,
): Promise<{ commits: CommitAt[]; trailer: boolean } | undefined> {
  let end = source.bytes;
  if (end < 2 * BLOCK || end % BLOCK !== 0) return undefined;
  let foot = await source.read(end - BLOCK, BLOCK);
  for (let zeros = 0; zeros < 2 && end > BLOCK && foot.length === BLOCK && isZero(foot); zeros++) {
    end -= BLOCK;
    foot = await source.read(end - BLOCK, BLOCK);
  }
  const length = frameLengthFromFoot(foot);
  if (length === undefined || length + BLOCK > end) return undefined;
  const commits: CommitAt[] = [];
  let tocOffset = end - length - BLOCK;
  let next = last;
  for (;;) {
    // The head of the frame is enough to walk on; whether its digest holds is found out by whoever reads the table.
    const block = await source.read(tocOffset, 2 * BLOCK);
    const header = parseTarHeader(block);
    if (
      !header ||
      block.length < 2 * BLOCK ||
      tocOffset + BLOCK + header.bytes !== end ||
      block.toString('latin1', BLOCK, BLOCK + 4) !== 'GTOC'
    )
      return undefined;
    if (block.readUInt16BE(BLOCK + 4) !== 1) return undefined;
    const sequence = Number(block.readBigUInt64BE(BLOCK + 8));
    const offset = Number(block.readBigUInt64BE(BLOCK + 20));
    const previous = block.readBigUInt64BE(BLOCK + 28);
    if (sequenceOfToc(header.name) !== sequence || (next !== undefined && sequence !== next) || offset > tocOffset)
      return undefined;
    commits.push({ sequence, offset, tocOffset, end });
    next = sequence - 1;
    if (previous === 0xffffffffffffffffn) break;
    if (previous >= BigInt(offset)) return undefined;
    end = offset;
    tocOffset = Number(previous);
  }
  commits.reverse();
  const trailer = source.bytes - commits.at(-1)!.end === TRAILER.length;
  return commits[0]!.sequence === first && commits[0]!.offset === 0 ? { commits, trailer } : undefined;
}

/** An object that may still be open, or is not as it should be: header by header from its start. */
export async function scanFromStart(
  source: ByteSource,
  first: number,
  belongs: (frame: TocFrame) => boolean = () => true,
): Promise<Scan> {
  const commits: CommitAt[] = [];
  const damage: Scan['damage'] = [];
  let end = 0;
  let next = first;
  const windowed = readAhead(source);
  for (;;) {
    const found = await commitAt(source, windowed, end);
    if (found === 'newer-format') return { commits, end, damage, newerFormat: true };
    if (found && found.sequence === next) {
      commits.push(found);
      end = found.end;
      next++;
      continue;
    }
    // Not a commit. If a later one is valid, this was durable once, and is damage; else it is the end.
    const later = await searchTocs(source, end, next, belongs);
    const proof = later.some((candidate) => candidate.sequence > next);
    if (!proof) return { commits, end, damage, newerFormat: false };
    for (const candidate of later) {
      if (candidate.sequence < next) continue;
      damage.push({
        offset: end,
        end: candidate.tocOffset,
        detail: candidate.sequence === next ? 'bytes' : `commits ${next}–${candidate.sequence - 1}`,
      });
      commits.push(candidate);
      end = candidate.end;
      next = candidate.sequence + 1;
      break;
    }
  }
}

/** Whether the bytes before the table are those that were written with it: asked of a lane's last commit only. */
export async function crcHolds(source: ByteSource, commit: CommitAt): Promise<boolean> {
  const frame = await readTocAt(source, commit.tocOffset);
  if (typeof frame === 'string') return false;
  let crc = 0;
  for (let at = commit.offset; at < commit.tocOffset; at += CHUNK) {
    const length = Math.min(CHUNK, commit.tocOffset - at);
    const chunk = await source.read(at, length);
    if (chunk.length !== length) return false;
    crc = crc32(chunk, crc);
  }
  return crc === frame.crc;
}

type Windowed = (offset: number) => Promise<Buffer>;

/** Headers of small files lie close together: read 64 KiB once, not 512 bytes many times. */
function readAhead(source: ByteSource): Windowed {
  let window: Buffer = Buffer.alloc(0);
  let start = 0;
  return async (offset) => {
    if (offset < start || offset + BLOCK > start + window.length) {
      window = await source.read(offset, 64 * 1024);
      start = offset;
    }
    return window.subarray(offset - start, offset - start + BLOCK);
  };
}

async function commitAt(
  source: ByteSource,
  headerAt: Windowed,
  start: number,
): Promise<CommitAt | 'newer-format' | undefined> {
  let at = start;
  while (at + BLOCK <= source.bytes) {
    const header = parseTarHeader(await headerAt(at));
    if (!header) return undefined;
    if (sequenceOfToc(header.name) !== undefined) {
      const frame = await readTocAt(source, at);
      if (frame === 'newer-format') return frame;
      if (frame === 'damaged' || frame.commitOffset !== start) return undefined;
      return { sequence: frame.sequence, offset: start, tocOffset: at, end: frame.end };
    }
    at += BLOCK + paddedLength(header.bytes);
  }
  return undefined;
}

/**
 * Every valid table at a block boundary beyond `start`, of a sequence from `from` on, in ascending sequence. Received bytes are
 * searched too, so the table must name this lane: a stranger's file cannot stand for a commit.
 */
async function searchTocs(
  source: ByteSource,
  start: number,
  from: number,
  belongs: (frame: TocFrame) => boolean,
): Promise<CommitAt[]> {
  const found: CommitAt[] = [];
  let at = start;
  let next = from;
  while (at + BLOCK <= source.bytes) {
    const chunk = await source.read(at, CHUNK);
    let jumped: number | undefined;
    for (let i = 0; i + BLOCK <= chunk.length; i += BLOCK) {
      if (chunk[i] !== 0x2e || chunk.toString('latin1', i, i + 9) !== '.gantry/0') continue;
      const header = parseTarHeader(chunk, i);
      if (!header || (sequenceOfToc(header.name) ?? 0) < next) continue;
      const frame = await readTocAt(source, at + i);
      if (typeof frame === 'string' || frame.commitOffset < start || !belongs(frame)) continue;
      found.push({ sequence: frame.sequence, offset: frame.commitOffset, tocOffset: at + i, end: frame.end });
      next = frame.sequence + 1;
      jumped = frame.end;
      break;
    }
    at = jumped ?? at + CHUNK;
  }
  return found;
}

function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}
