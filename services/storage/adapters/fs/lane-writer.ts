import { join } from 'node:path';
import { ulid } from 'ulid';
import { GantryError } from '#platform/errors.ts';
import type { Alarms } from '../../log/alarms.ts';
import type { StampClock } from '../../log/clock.ts';
import { layOutCommit } from '../../log/commit.ts';
import type { Committed } from '../../log/gather.ts';
import { lanePrefix, segmentKey } from '../../log/names.ts';
import { TRAILER } from '../../log/tar.ts';
import type { NewEntry } from '../../ports.ts';
import { codeOf, type Disk, type DiskFile, type DurableDirectories, isFull } from './disk.ts';
import type { Lane, Segment } from './lane.ts';

export interface SegmentLimits {
  readonly segmentBytes: number;
  readonly segmentAgeMs: number;
  /** After a commit failed twice, how long appends are refused without touching the disk. */
  readonly restMs: number;
}

export interface LaneWriterParts {
  readonly disk: Disk;
  readonly root: string;
  readonly directories: DurableDirectories;
  readonly clock: StampClock;
  readonly alarms: Alarms;
  readonly limits: SegmentLimits;
  /** A lane's first commit is durable: it exists from now on. */
  readonly onLane: (lane: Lane) => void;
  readonly onCommit: (lane: Lane, sequence: number, table: Buffer, bytes: number, entries: number) => void;
}

interface Open {
  readonly lane: Lane;
  readonly segment: Segment;
  readonly file: DiskFile;
  readonly openedMs: number;
  /** Nothing was answered from this file yet: its name is not on stable storage. */
  fresh: boolean;
}

/**
 * Writes this process's lane of one tenant: one commit at a time, each an append and one fdatasync.
 *
 * An error of either poisons the lane: what reached the disk is unknown, and a second flush of the same pages would lie (Linux marks
 * them clean). The file is cut back to its last good commit, the lane ends, and the same entries are laid out once more in the first
 * segment of a new lane: the sequence number that failed is never given to other bytes. The next start closes the ended lane.
 */
export class LaneWriter {
  readonly #tenant: string;
  readonly #parts: LaneWriterParts;
  #lane: Lane | undefined;
  #open: Open | undefined;
  #writing = false;
  #restUntil = 0;
  #lastError: GantryError | undefined;

  constructor(tenant: string, parts: LaneWriterParts) {
    this.#tenant = tenant;
    this.#parts = parts;
  }

  async commit(items: readonly NewEntry[]): Promise<Committed> {
    if (this.#lastError && performance.now() < this.#restUntil) throw this.#lastError;
    this.#writing = true;
    try {
      return await this.#attempt(items);
    } catch (first) {
      try {
        return await this.#attempt(items);
      } catch (error) {
        // A disk that is full or broken would cost every waiter two tries: rest, then look again. It heals by itself.
        this.#restUntil = performance.now() + this.#parts.limits.restMs;
        this.#lastError = isFull(error)
          ? new GantryError('no-space', 'the disk is full', { cause: error })
          : new GantryError('unavailable', 'the archive could not be written', {
              cause: new AggregateError([first, error]),
            });
        throw this.#lastError;
      }
    } finally {
      this.#writing = false;
    }
  }

  async sealAged(): Promise<void> {
    if (this.#writing) return; // the commit after it looks at the age itself
    if (this.#open && performance.now() - this.#open.openedMs >= this.#parts.limits.segmentAgeMs) await this.#seal();
  }

  /** An orderly end: the closing entry says that nothing follows, so the next start has nothing to find out. */
  async close(): Promise<void> {
    if (!this.#lane) return;
    try {
      await this.#attempt([{ kind: { $case: 'closed', value: { reason: 'shutdown', by: this.#lane.lane } } }]);
      if (this.#lane) this.#lane.closed = true;
    } catch {
      return; // the lane stays open, and the next start closes it
    }
    await this.#seal();
    this.#lane = undefined;
  }

  async #attempt(items: readonly NewEntry[]): Promise<Committed> {
    const { clock, disk, root } = this.#parts;
    const open = await this.#openSegment();
    const { lane, segment } = open;
    const sequence = lane.head + 1;
    const laid = layOutCommit(
      {
        tenant: this.#tenant,
        lane: lane.lane,
        sequence,
        object: segment.object,
        offset: segment.bytes,
        previousToc: segment.tocs!.at(-1) ?? -1,
      },
      items,
      () => clock.next(),
    );
    try {
      await open.file.write(laid.buffers, segment.bytes);
      await open.file.flush('segment');
      if (open.fresh) await disk.flushDirectory(join(root, lanePrefix(this.#tenant, lane.lane)), 'segment-name');
    } catch (error) {
      await this.#poison(open, error);
      throw error;
    }
    segment.bytes += laid.bytes;
    segment.tocs!.push(laid.tocOffset);
    segment.last = sequence;
    lane.head = sequence;
    if (open.fresh) {
      open.fresh = false;
      lane.segments.push(segment);
      if (lane.segments.length === 1) this.#parts.onLane(lane);
    }
    this.#parts.onCommit(lane, sequence, laid.table, laid.bytes, laid.entries.length);
    return { lane: lane.lane, sequence, entries: laid.entries, places: laid.places };
  }

  async #openSegment(): Promise<Open> {
    const { segmentBytes, segmentAgeMs } = this.#parts.limits;
    const full =
      this.#open &&
      (this.#open.segment.bytes >= segmentBytes || performance.now() - this.#open.openedMs >= segmentAgeMs);
    if (full && !this.#open!.fresh) await this.#seal();
    if (this.#open) return this.#open;
    const lane = this.#lane ?? { tenant: this.#tenant, lane: ulid(), segments: [], head: 0, closed: false };
    const { directories, disk, root } = this.#parts;
    const directory = join(root, lanePrefix(this.#tenant, lane.lane));
    const object = segmentKey(this.#tenant, lane.lane, lane.head + 1);
    let file: DiskFile;
    try {
      await directories.ensure(directory);
      file = await disk.open(join(root, object), 'create');
    } catch (error) {
      this.#lane = undefined; // whether the name is there is unknown: never come back to it
      if (lane.segments.length === 0) await disk.rmdir(directory).catch(() => {}); // a full disk is not to collect them
      throw error;
    }
    const segment: Segment = { object, first: lane.head + 1, last: lane.head, bytes: 0, thinned: false, tocs: [] };
    this.#lane = lane;
    this.#open = { lane, segment, file, openedMs: performance.now(), fresh: true };
    return this.#open;
  }

  /** The trailer makes it a complete tar. Not flushed: a segment reads as well without it. */
  async #seal(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    if (!open) return;
    try {
      await open.file.write([TRAILER], open.segment.bytes);
      open.segment.bytes += TRAILER.length;
    } catch {
      // no room for the trailer: every reader manages without
    }
    await open.file.close().catch(() => {}); // all that counts was flushed
  }

  async #poison(open: Open, error: unknown): Promise<void> {
    this.#open = undefined;
    this.#lane = undefined;
    // A full disk is a state, not a fault: room() tells it.
    if (!isFull(error))
      this.#parts.alarms.raise({
        kind: 'flush-failed',
        tenant: this.#tenant,
        lane: open.lane.lane,
        detail: `${codeOf(error) ?? 'an error'} at ${open.segment.object}: the lane ended at commit ${open.lane.head}`,
      });
    // Best effort: what cannot be cut back now, the next start finds beyond the last valid commit.
    await open.file.truncate(open.segment.bytes).catch(() => {});
    await open.file.close().catch(() => {});
    if (!open.fresh) return;
    const { disk, root } = this.#parts;
    // Best effort, as above: nothing was acknowledged from this segment.
    await disk.unlink(join(root, open.segment.object)).catch(() => {});
    if (open.lane.segments.length === 0)
      await disk.rmdir(join(root, lanePrefix(this.#tenant, open.lane.lane))).catch(() => {});
  }
}
