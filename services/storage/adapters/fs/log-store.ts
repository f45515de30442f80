import { join } from 'node:path';
import { GantryError } from '#platform/errors.ts';
import type { Position, TableOfContents } from '#proto/storage/v1/log.ts';
import type { Commit } from '#proto/storage/v1/storage.ts';
import { Alarms } from '../../log/alarms.ts';
import { clockAhead, StampClock } from '../../log/clock.ts';
import { Gather, type GatherLimits } from '../../log/gather.ts';
import { checkTenant, headsOf, isLane, lanePrefix, wantedLanes } from '../../log/names.ts';
import { readTocAt, scanFromEnd, scanFromStart } from '../../log/scan.ts';
import { TableCache } from '../../log/table-cache.ts';
import { decodeTable } from '../../log/toc.ts';
import type { Alarm, Appended, Incomplete, LogStore, NewEntry, SegmentRow } from '../../ports.ts';
import { codeOf, type Disk, type DurableDirectories } from './disk.ts';
import type { Handles } from './handles.ts';
import { type Lane, type Segment, segmentOf, segmentRow } from './lane.ts';
import { LaneWriter, type SegmentLimits } from './lane-writer.ts';
import { namesLane, recoverLane, tocsOf } from './recover.ts';
import { assertSameTables, thinSegment } from './thin.ts';

export interface FsLogOptions {
  readonly disk: Disk;
  /** data/archive: object keys are paths below it. */
  readonly root: string;
  readonly directories: DurableDirectories;
  readonly handles: Handles;
  readonly gather: GatherLimits;
  readonly segment: SegmentLimits;
  readonly tableCacheBytes: number;
  readonly now?: () => number;
  readonly onAlarm?: (alarm: Alarm) => void;
  readonly onTorn?: (lane: string, bytes: number) => void;
  /** A commit is durable and readable: `bytes` on disk, `entries` in it. */
  readonly onCommit?: (tenant: string, position: Position, entries: number, bytes: number) => void;
}

interface TenantLog {
  readonly lanes: Map<string, Lane>;
  readonly writer: LaneWriter;
  readonly gather: Gather;
}

/** Sealed segments whose table offsets stay in memory: 256 × 4,000 commits × 8 bytes = 8 MB. */
const LOADED_SEGMENTS_MAX = 256;

export class FsLogStore implements LogStore {
  readonly #options: FsLogOptions;
  readonly #tenants = new Map<string, TenantLog>();
  readonly #clock: StampClock;
  readonly #alarms: Alarms;
  readonly #tables: TableCache;
  readonly #loaded = new Set<Segment>();
  readonly #thinning = new Set<string>();

  private constructor(options: FsLogOptions) {
    this.#options = options;
    this.#clock = new StampClock(options.now);
    this.#alarms = new Alarms(options.onAlarm ?? (() => {}));
    this.#tables = new TableCache(options.tableCacheBytes);
  }

  /** Reads what earlier processes left, and closes their lanes. The caller owns the directory (lock.ts). */
  static async open(options: FsLogOptions): Promise<FsLogStore> {
    const store = new FsLogStore(options);
    const { disk, root, directories } = options;
    const dead: Lane[] = [];
    const parts = {
      disk,
      root,
      directories,
      clock: store.#clock,
      alarms: store.#alarms,
      onTorn: options.onTorn ?? (() => {}),
    };
    for (const tenant of await disk.list(join(root, 'log'))) {
      if (!tenant.directory) continue;
      // In order of their ULIDs, so that the clock has seen the youngest stamps before it stamps a closing.
      for (const { name, directory } of (await disk.list(join(root, 'log', tenant.name))).sort((a, b) =>
        a.name < b.name ? -1 : 1,
      )) {
        if (!directory || !isLane(name)) continue;
        try {
          const lane = await recoverLane(parts, tenant.name, name);
          if (lane) dead.push(lane);
        } catch (error) {
          store.#alarms.raise({
            kind: 'unreadable-lane',
            tenant: tenant.name,
            lane: name,
            detail: error instanceof Error ? error.message : 'unreadable',
          });
        }
      }
    }
    for (const lane of dead) store.#tenant(lane.tenant).lanes.set(lane.lane, lane);
    store.#checkClock();
    return store;
  }

  async append(tenant: string, requester: string, entries: readonly NewEntry[]): Promise<Appended> {
    return this.#tenant(checkTenant(tenant)).gather.append(requester, entries);
  }

  async tenants(): Promise<string[]> {
    return [...this.#tenants].filter(([, log]) => log.lanes.size > 0).map(([tenant]) => tenant);
  }

  async heads(tenant: string, since?: string): Promise<Position[]> {
    return headsOf(this.#tenants.get(tenant)?.lanes.values() ?? [], since);
  }

  async *read(
    tenant: string,
    after: readonly Position[],
    lanes: readonly string[],
    signal: AbortSignal,
    since?: string,
  ): AsyncIterable<Commit> {
    const from = new Map(after.map((position) => [position.lane, position.sequence]));
    const log = this.#tenants.get(tenant);
    const wanted = wantedLanes(log?.lanes.keys() ?? [], lanes, since);
    for (const name of wanted) {
      const lane = log!.lanes.get(name)!;
      const head = lane.head;
      for (let sequence = (from.get(name) ?? 0) + 1; sequence <= head; sequence++) {
        signal.throwIfAborted();
        const table = await this.#table(lane, sequence).catch((error): 'stop' => {
          if (error instanceof GantryError && error.code === 'unavailable') return 'stop'; // its alarm is raised; other lanes go on
          throw error;
        });
        if (table === 'stop') break;
        if (table) yield { lane: name, sequence, tableOfContents: table };
      }
    }
  }

  async segments(tenant: string): Promise<SegmentRow[]> {
    return [...(this.#tenants.get(tenant)?.lanes.values() ?? [])].flatMap((lane) =>
      lane.segments.map((segment) => segmentRow(lane, segment)),
    );
  }

  async *commitsOf(tenant: string, object: string): AsyncIterable<TableOfContents> {
    const { lane, segment } = this.#find(tenant, object);
    for (let sequence = segment.first; sequence <= segment.last; sequence++) {
      const table = await this.#table(lane, sequence);
      if (table === 'stop') throw new GantryError('damaged', `${object} holds entries that this release does not know`);
      if (!table) continue; // damage: its alarm is raised
      const decoded = decodeTable(table, tenant, lane.lane, sequence);
      if (typeof decoded === 'object') yield decoded;
    }
  }

  async prepareThin(tenant: string, object: string): Promise<void> {
    await this.#whileThinning(tenant, object, async () => {});
  }

  async thin(tenant: string, object: string): Promise<{ object: string; bytesFreed: number }> {
    return this.#whileThinning(tenant, object, async (lane, segment, thinned) => {
      const { disk, root, handles } = this.#options;
      await disk.flushDirectory(join(root, lanePrefix(tenant, lane.lane)), 'thinned-name');
      await assertSameTables(disk, root, segment, await this.#tocs(lane, segment), thinned);
      lane.segments = lane.segments.map((each) => (each === segment ? thinned : each));
      this.#loaded.delete(segment);
      this.#keepLoaded(thinned);
      await disk.unlink(join(root, object));
      handles.forget(object); // afterwards: a reader in between would open it again
      return { object: thinned.object, bytesFreed: segment.bytes - thinned.bytes };
    });
  }

  async #whileThinning<T>(
    tenant: string,
    object: string,
    work: (lane: Lane, segment: Segment, thinned: Segment) => Promise<T>,
  ): Promise<T> {
    const { lane, segment } = this.#find(tenant, object);
    if (segmentRow(lane, segment).state !== 'sealed')
      throw new GantryError('failed-precondition', `${object} is not a sealed segment`);
    const tocs = await this.#tocs(lane, segment);
    if (tocs.includes(-1)) throw new GantryError('failed-precondition', `${object} is damaged: it stays as it is`);
    if (this.#thinning.has(object)) throw new GantryError('conflict', `${object} is being thinned`);
    this.#thinning.add(object);
    try {
      const { disk, root } = this.#options;
      return await work(lane, segment, await thinSegment(disk, root, lane, segment, tocs));
    } finally {
      this.#thinning.delete(object);
    }
  }

  alarms(): readonly Alarm[] {
    return this.#alarms.list();
  }

  incomplete(tenant: string): Incomplete {
    return this.#alarms.incomplete(tenant);
  }

  /** One process owns the directory: it is told of nothing that it does not know. */
  told(): void {}

  /** Lanes of dead processes were closed at the start (recover.ts). */
  async closeDeadLanes(): Promise<number> {
    return 0;
  }

  async tornBytes(): Promise<number> {
    const { disk, root } = this.#options;
    let bytes = 0;
    for (const { name, directory } of await disk.list(join(root, 'torn')))
      if (!directory) bytes += (await disk.stat(join(root, 'torn', name)))?.bytes ?? 0;
    return bytes;
  }

  async sealAged(): Promise<void> {
    for (const { writer } of this.#tenants.values()) await writer.sealAged();
  }

  async close(): Promise<void> {
    await Promise.all(
      [...this.#tenants.values()].map(async ({ gather, writer }) => {
        await gather.close();
        await writer.close();
      }),
    );
  }

  #checkClock(): void {
    const detail = clockAhead(this.#clock);
    if (detail !== undefined) this.#alarms.raise({ kind: 'clock-ahead', tenant: '', lane: '', detail });
  }

  #tenant(tenant: string): TenantLog {
    let log = this.#tenants.get(tenant);
    if (!log) {
      const lanes = new Map<string, Lane>();
      const { disk, root, directories, segment, onCommit } = this.#options;
      const writer = new LaneWriter(tenant, {
        disk,
        root,
        directories,
        clock: this.#clock,
        alarms: this.#alarms,
        limits: segment,
        onLane: (lane) => lanes.set(lane.lane, lane),
        onCommit: (lane, sequence, table, bytes, entries) => {
          this.#tables.set(lane.lane, sequence, table);
          onCommit?.(tenant, { lane: lane.lane, sequence }, entries, bytes);
        },
      });
      log = { lanes, writer, gather: new Gather(this.#options.gather, (entries) => writer.commit(entries)) };
      this.#tenants.set(tenant, log);
    }
    return log;
  }

  #find(tenant: string, object: string): { lane: Lane; segment: Segment } {
    const lane = this.#tenants.get(tenant)?.lanes.get(object.split('/')[2] ?? '');
    const segment = lane?.segments.find((each) => each.object === object);
    if (!lane || !segment) throw new GantryError('not-found', 'no such segment');
    return { lane, segment };
  }

  /** The encoded table; undefined: damaged, passed over; `stop`: nothing beyond may be folded by this release. Both raise an alarm. */
  async #table(lane: Lane, sequence: number, again = true): Promise<Buffer | 'stop' | undefined> {
    const cached = this.#tables.get(lane.lane, sequence);
    if (cached) return cached;
    const { tenant } = lane;
    const segment = segmentOf(lane, sequence);
    try {
      const tocOffset = segment && (await this.#tocs(lane, segment))[sequence - segment.first];
      if (!segment || tocOffset === undefined || tocOffset < 0) {
        this.#alarms.raise({
          kind: 'damaged-commit',
          tenant,
          lane: lane.lane,
          detail: `commit ${sequence} is missing`,
        });
        return undefined;
      }
      const frame = await readTocAt(this.#options.handles.source(segment.object, segment.bytes), tocOffset);
      const table = typeof frame === 'string' ? frame : decodeTable(frame.table, tenant, lane.lane, sequence);
      if (typeof table === 'object') {
        this.#tables.set(lane.lane, sequence, (frame as { table: Buffer }).table);
        return (frame as { table: Buffer }).table;
      }
      const detail = `commit ${sequence} at ${segment.object} ${tocOffset}`;
      this.#alarms.raise({ kind: table === 'damaged' ? 'damaged-commit' : table, tenant, lane: lane.lane, detail });
      return table === 'damaged' ? undefined : 'stop';
    } catch (error) {
      const gone = error instanceof GantryError && error.code === 'not-found';
      // Thinned while we were reading: its tables are in the new object.
      if (gone && again) return this.#table(lane, sequence, false);
      // A medium that does not answer, or a file that somebody removed. Not passed over: it may answer next time, and what a fold has
      // once passed it never sees again.
      if (!gone && codeOf(error) === undefined) throw error;
      const detail = `commit ${sequence} at ${segment?.object}: ${gone ? 'the object is gone' : codeOf(error)}`;
      this.#alarms.raise({ kind: 'unreadable-lane', tenant, lane: lane.lane, detail });
      throw new GantryError('unavailable', `the log cannot be read: ${detail}`, { cause: error });
    }
  }

  async #tocs(lane: Lane, segment: Segment): Promise<number[]> {
    if (segment.tocs) return segment.tocs;
    const source = this.#options.handles.source(segment.object, segment.bytes);
    const quick = await scanFromEnd(source, segment.first, segment.last);
    if (quick) segment.tocs = tocsOf(segment.first, quick.commits);
    else {
      const scan = await scanFromStart(source, segment.first, (frame) => namesLane(frame, lane.tenant, lane.lane));
      const { tenant } = lane;
      for (const { offset, end, detail } of scan.damage)
        this.#alarms.raise({
          kind: 'damaged-commit',
          tenant,
          lane: lane.lane,
          detail: `${segment.object} ${offset}–${end}: ${detail}`,
        });
      const commits = scan.commits.filter(({ sequence }) => sequence <= segment.last);
      const tocs = tocsOf(segment.first, commits);
      while (tocs.length < segment.last - segment.first + 1) tocs.push(-1);
      segment.tocs = tocs;
    }
    this.#keepLoaded(segment);
    return segment.tocs;
  }

  #keepLoaded(segment: Segment): void {
    this.#loaded.add(segment);
    if (this.#loaded.size <= LOADED_SEGMENTS_MAX) return;
    const [oldest] = this.#loaded;
    this.#loaded.delete(oldest!);
    oldest!.tocs = undefined;
  }
}
