import { join } from 'node:path';
import type { TableOfContents } from '#proto/storage/v1/log.ts';
import type { Alarms } from '../../log/alarms.ts';
import type { StampClock } from '../../log/clock.ts';
import { layOutCommit } from '../../log/commit.ts';
import { lanePrefix, parseSegmentName, segmentKey } from '../../log/names.ts';
import { type ByteSource, type CommitAt, crcHolds, readTocAt, scanFromEnd, scanFromStart } from '../../log/scan.ts';
import { TRAILER } from '../../log/tar.ts';
import { decodeTable, type TableFault, type TocFrame } from '../../log/toc.ts';
import { type Disk, type DiskFile, type DurableDirectories, isFull } from './disk.ts';
import type { Lane, Segment } from './lane.ts';

export interface RecoveryParts {
  readonly disk: Disk;
  readonly root: string;
  readonly directories: DurableDirectories;
  readonly clock: StampClock;
  readonly alarms: Alarms;
  /** Bytes moved aside. */
  readonly onTorn: (lane: string, bytes: number) => void;
}

const COPY_CHUNK = 1024 * 1024;

/**
 * Opens a lane of an earlier incarnation. A closed lane costs two reads, however large it is. One that was not closed is read from its
 * last segment's start, what is torn after its last valid commit is moved aside, and a `closed` entry takes its next number.
 * Undefined: the lane holds nothing.
 */
export async function recoverLane(parts: RecoveryParts, tenant: string, lane: string): Promise<Lane | undefined> {
  const { disk, root, alarms } = parts;
  const prefix = lanePrefix(tenant, lane);
  const segments = await listSegments(parts, tenant, lane);
  const last = segments.at(-1);
  if (!last) {
    await disk.rmdir(join(root, prefix)).catch(() => {}); // made, and never used; or not ours to remove
    return undefined;
  }
  const recovered: Lane = { tenant, lane, segments, head: last.first - 1, closed: false };
  const file = await disk.open(join(root, last.object), 'read');
  try {
    const source = sourceOf(file, last.bytes);
    const quick = await scanFromEnd(source, last.first, undefined);
    const quickLast = quick?.trailer ? await tableAt(source, quick.commits.at(-1)!, tenant, lane) : undefined;
    // The trailer was written after the closing entry was flushed: it says that there is nothing left to do.
    if (quick && typeof quickLast === 'object' && isClosing(quickLast)) {
      adopt(recovered, last, quick.commits, quickLast, parts.clock);
      recovered.closed = true;
      return recovered;
    }
    const scan = await scanFromStart(source, last.first, (frame) => namesLane(frame, tenant, lane));
    for (const { offset, end, detail } of scan.damage)
      alarms.raise({ kind: 'damaged-commit', tenant, lane, detail: `${last.object} ${offset}–${end}: ${detail}` });
    const commits = scan.commits;
    if (scan.newerFormat) {
      alarms.raise({
        kind: 'newer-format',
        tenant,
        lane,
        detail: `${last.object} ${scan.end}: written by a newer release; this lane stops there`,
      });
      adopt(recovered, last, commits, undefined, parts.clock);
      return recovered; // not ours to cut or to close
    }
    // Only the last commit can have its table on the disk and not its bytes: every earlier one was flushed before the next began.
    const youngest = commits.at(-1);
    const provenDurable = scan.damage.some((damage) => damage.end === youngest?.tocOffset);
    if (youngest && !provenDurable && !(await crcHolds(source, youngest))) commits.pop();
    const end = commits.at(-1)?.end ?? 0;
    const table = commits.length > 0 ? await tableAt(source, commits.at(-1)!, tenant, lane) : undefined;
    adopt(recovered, last, commits, typeof table === 'object' ? table : undefined, parts.clock);
    if (table === 'unknown-entry' || table === 'newer-format') return recovered; // readLog raises the alarm; never write behind it
    if (commits.length === 0) await observeBefore(parts, recovered);
    try {
      if (recovered.head > 0) await makeDurable(parts, recovered, last, commits.at(-1));
      await moveTornAside(parts, source, tenant, lane, last.object, end);
      if (recovered.head === 0) {
        await disk.unlink(join(root, last.object));
        await disk.rmdir(join(root, prefix)).catch(() => {}); // something else is in it: leave it
        return undefined;
      }
      await closeLane(parts, recovered, last, end, commits.at(-1), typeof table === 'object' && isClosing(table));
    } catch (error) {
      // Readable as it is, and the next start tries again. A full disk may not stop queries; a broken one is an alarm.
      if (!isFull(error))
        alarms.raise({ kind: 'flush-failed', tenant, lane, detail: `${last.object} could not be closed` });
    }
    return recovered.head === 0 ? undefined : recovered;
  } finally {
    await file.close().catch(() => {}); // only read
  }
}

async function listSegments({ disk, root }: RecoveryParts, tenant: string, lane: string): Promise<Segment[]> {
  const prefix = lanePrefix(tenant, lane);
  const byFirst = new Map<number, Segment>();
  for (const { name, directory } of await disk.list(join(root, prefix))) {
    const parsed = directory ? undefined : parseSegmentName(name);
    if (!parsed) continue; // a `.part` of thin(), or a stranger's file
    // Both there: the power went before thin() removed the old one, which still has the bytes.
    if (parsed.thinned && byFirst.has(parsed.first)) continue;
    const bytes = (await disk.stat(join(root, prefix, name)))?.bytes ?? 0;
    const object = segmentKey(tenant, lane, parsed.first, parsed.thinned);
    byFirst.set(parsed.first, {
      object,
      first: parsed.first,
      last: parsed.first - 1,
      bytes,
      thinned: parsed.thinned,
      tocs: undefined,
    });
  }
  const segments = [...byFirst.values()].sort((a, b) => a.first - b.first);
  segments.forEach((segment, i) => {
    const next = segments[i + 1];
    if (next) segment.last = next.first - 1;
  });
  return segments;
}

/** Not flushed: these bytes were never acknowledged; they are kept for whoever wants to know what was lost. */
async function moveTornAside(
  parts: RecoveryParts,
  source: ByteSource,
  tenant: string,
  lane: string,
  object: string,
  end: number,
): Promise<void> {
  if (await onlyZeros(source, end)) return; // a trailer
  const { disk, root, onTorn } = parts;
  onTorn(lane, source.bytes - end);
  const directory = join(root, 'torn');
  await disk.mkdir(directory);
  const path = join(directory, `${tenant}.${lane}.${object.split('/').at(-1)}.${end}`);
  await disk.unlink(path).catch(() => {}); // from a start that was cut short here
  const copy = await disk.open(path, 'create');
  try {
    for (let at = end; at < source.bytes; at += COPY_CHUNK)
      await copy.write([await source.read(at, COPY_CHUNK)], at - end);
  } finally {
    await copy.close();
  }
}

/** How much of the torn bytes is only the zeros that a tar ends with, or that a file system put where nothing was written. */
async function onlyZeros(source: ByteSource, from: number): Promise<boolean> {
  for (let at = from; at < source.bytes; at += COPY_CHUNK)
    if ((await source.read(at, COPY_CHUNK)).some((byte) => byte !== 0)) return false;
  return true;
}

/**
 * The killed process may have written its last commit and not flushed it, or have failed to: then its pages can be clean in the cache
 * and not on the disk. Written once more, this flush covers them: what is shown from now on stays.
 */
async function makeDurable(
  { disk, root, directories }: RecoveryParts,
  lane: Lane,
  segment: Segment,
  commit: CommitAt | undefined,
): Promise<void> {
  if (commit) {
    const file = await disk.open(join(root, segment.object), 'change');
    try {
      const bytes = Buffer.allocUnsafe(commit.end - commit.offset);
      if ((await file.read(bytes, commit.offset)) === bytes.length) await file.write([bytes], commit.offset);
      await file.flush('recovered');
    } finally {
      await file.close();
    }
  }
  const directory = join(root, lanePrefix(lane.tenant, lane.lane));
  await directories.ensure(directory);
  await disk.flushDirectory(directory, 'recovered-name');
}

/** Cuts the lane to its last valid commit and takes its next number with a `closed` entry. */
async function closeLane(
  { disk, root, clock }: RecoveryParts,
  lane: Lane,
  segment: Segment,
  end: number,
  lastCommit: CommitAt | undefined,
  alreadyClosed: boolean,
): Promise<void> {
  const file = await disk.open(join(root, segment.object), 'change');
  let sealedAt = end;
  try {
    await file.truncate(end);
    if (!alreadyClosed) {
      const closing = layOutCommit(
        {
          tenant: lane.tenant,
          lane: lane.lane,
          sequence: lane.head + 1,
          object: segment.object,
          offset: end,
          previousToc: lastCommit?.tocOffset ?? -1,
        },
        [{ kind: { $case: 'closed', value: { reason: 'recovered', by: 'recovery' } } }],
        () => clock.next(),
      );
      try {
        await file.write(closing.buffers, end);
        await file.flush('closed');
      } catch (error) {
        await file.truncate(end).catch(() => {}); // as when a commit fails: the next start finds what could not be cut
        throw error;
      }
      sealedAt += closing.bytes;
      segment.bytes = sealedAt;
      lane.head++;
      segment.last = lane.head;
      segment.tocs!.push(closing.tocOffset);
    }
    await file.write([TRAILER], sealedAt);
    segment.bytes = sealedAt + TRAILER.length;
    lane.closed = true;
  } finally {
    await file.close();
  }
}

/** A last segment without a valid commit says nothing of the time: the segment before it does. */
async function observeBefore({ disk, root, clock }: RecoveryParts, lane: Lane): Promise<void> {
  const segment = lane.segments.at(-2);
  if (!segment) return;
  const file = await disk.open(join(root, segment.object), 'read');
  try {
    const source = sourceOf(file, segment.bytes);
    const commits =
      (await scanFromEnd(source, segment.first, segment.last))?.commits ??
      (await scanFromStart(source, segment.first)).commits;
    const table = commits.length > 0 ? await tableAt(source, commits.at(-1)!, lane.tenant, lane.lane) : undefined;
    const stamp = typeof table === 'object' ? table.entries.at(-1)?.stamp : undefined;
    if (stamp) clock.observe(stamp);
  } finally {
    await file.close().catch(() => {}); // only read
  }
}

function adopt(
  lane: Lane,
  segment: Segment,
  commits: readonly CommitAt[],
  table: TableOfContents | undefined,
  clock: StampClock,
): void {
  segment.tocs = tocsOf(segment.first, commits);
  lane.head = commits.at(-1)?.sequence ?? segment.first - 1;
  segment.last = lane.head;
  const stamp = table?.entries.at(-1)?.stamp;
  if (stamp) clock.observe(stamp);
}

export function tocsOf(first: number, commits: readonly CommitAt[]): number[] {
  const last = commits.at(-1)?.sequence ?? first - 1;
  const tocs = new Array<number>(last - first + 1).fill(-1);
  for (const commit of commits) tocs[commit.sequence - first] = commit.tocOffset;
  return tocs;
}

export function namesLane(frame: TocFrame, tenant: string, lane: string): boolean {
  const table = decodeTable(frame.table, tenant, lane, frame.sequence);
  return table !== 'damaged';
}

async function tableAt(
  source: ByteSource,
  commit: CommitAt,
  tenant: string,
  lane: string,
): Promise<TableOfContents | TableFault> {
  const frame = await readTocAt(source, commit.tocOffset);
  return typeof frame === 'string' ? frame : decodeTable(frame.table, tenant, lane, frame.sequence);
}

const isClosing = (table: TableOfContents): boolean => table.entries.some((entry) => entry.kind?.$case === 'closed');

export function sourceOf(file: DiskFile, bytes: number): ByteSource {
  return {
    bytes,
    async read(offset, length) {
      const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(length, bytes - offset)));
      return buffer.subarray(0, await file.read(buffer, offset));
    },
  };
}
