import { GantryError } from '#platform/errors.ts';
import type { Position, TableOfContents } from '#proto/storage/v1/log.ts';
import type { Commit } from '#proto/storage/v1/storage.ts';
import { eachOf } from '../../limiter.ts';
import { Alarms } from '../../log/alarms.ts';
import { clockAhead, StampClock } from '../../log/clock.ts';
import { Gather, type GatherLimits } from '../../log/gather.ts';
import { checkTenant, headsOf, isLane, wantedLanes } from '../../log/names.ts';
import { TableCache } from '../../log/table-cache.ts';
import { decodeTable } from '../../log/toc.ts';
import type { Alarm, Appended, Incomplete, LogStore, NewEntry, SegmentRow } from '../../ports.ts';
import type { Bucket, Clockwork } from './bucket.ts';
import { rowsKnown } from './closed-lanes.ts';
import { Alive, closeLane, isDead, removeSign, signsOfLife } from './dead-lanes.ts';
import { type Lane, newLane } from './lane.ts';
import { isTransient, LaneReader, type TableRead, whileMerged } from './lane-reader.ts';
import { type LaneLimits, LaneWriter } from './lane-writer.ts';
import { type How, Lanes, WIDTH } from './lanes.ts';
import { type Run, runsOf } from './runs.ts';
import { assertSameTables, prepareThinned } from './thin.ts';

export interface S3LogOptions {
  readonly bucket: Bucket;
  readonly clockwork: Clockwork;
  readonly gather: GatherLimits;
  readonly lanes: number;
  readonly limits: LaneLimits;
  readonly segmentBytes: number;
  readonly tableCacheBytes: number;
  /** A reader that was told nothing looks for others' commits so often. */
  readonly lookMs: number;
  /** A lane whose process was silent for so long is closed. */
  readonly deadMs: number;
  readonly now?: () => number;
  readonly onAlarm?: (alarm: Alarm) => void;
  readonly onCommit?: (tenant: string, position: Position, entries: number, bytes: number) => void;
}

interface TenantLog {
  readonly lanes: Lanes;
  readonly writers: readonly LaneWriter[];
  readonly gather: Gather;
}

const AHEAD = 16;
/** Lanes that the store does not give, one after the other, before a reader gives up. */
const FAILED_MAX = 3;

export class S3LogStore implements LogStore {
  readonly #options: S3LogOptions;
  readonly #tenants = new Map<string, TenantLog>();
  readonly #clock: StampClock;
  readonly #alarms: Alarms;
  readonly #tables: TableCache;
  readonly #reader: LaneReader;
  readonly #alive: Alive;
  readonly #process: string;
  readonly #thinning = new Set<string>();
  /** Appends that are not in a queue yet. */
  readonly #entering = new Set<Promise<unknown>>();
  #closing = false;
  #clockAhead = false;

  constructor(options: S3LogOptions) {
    this.#options = options;
    const { bucket, clockwork } = options;
    this.#clock = new StampClock(options.now ?? (() => bucket.now()));
    this.#alarms = new Alarms(options.onAlarm ?? (() => {}));
    this.#tables = new TableCache(options.tableCacheBytes);
    this.#reader = new LaneReader({
      bucket,
      clock: this.#clock,
      alarms: this.#alarms,
      tables: this.#tables,
      clockwork,
    });
    this.#process = clockwork.name(bucket.now());
    this.#alive = new Alive(bucket, this.#process);
  }

  async append(tenant: string, requester: string, entries: readonly NewEntry[]): Promise<Appended> {
    if (this.#closing) throw new GantryError('unavailable', 'the archive is closing');
    const entering = this.#enter(checkTenant(tenant), requester, entries);
    this.#entering.add(entering);
    const { appended } = await entering.finally(() => this.#entering.delete(entering));
    return appended;
  }

  /** Into the queue, and stamped later than what this process could have seen: the young lanes once, and for what people decide, all
   * that is open now. */
  async #enter(
    tenant: string,
    requester: string,
    entries: readonly NewEntry[],
  ): Promise<{ appended: Promise<Appended> }> {
    const log = this.#tenant(tenant);
    const exact = entries.some(({ kind }) => DECIDES.has(kind.$case));
    if (exact || log.lanes.unseen) await this.#refresh(log, { all: false, exact });
    return { appended: log.gather.append(requester, entries) };
  }

  async tenants(): Promise<string[]> {
    const found: string[] = [];
    for await (const page of this.#options.bucket.list('log/', { shallow: true }))
      for (const { key } of page) if (key.endsWith('/')) found.push(key.slice('log/'.length, -1));
    return found;
  }

  async heads(tenant: string, since?: string): Promise<Position[]> {
    const log = this.#tenant(checkTenant(tenant));
    await this.#refresh(log, since === undefined ? { all: true, exact: true } : { all: true, exact: false, now: true });
    return headsOf(log.lanes, since);
  }

  told(tenant: string, { lane: name, sequence }: Position): void {
    if (!isLane(name) || !Number.isSafeInteger(sequence)) return;
    const log = this.#tenant(tenant);
    const lane = log.lanes.known.get(name) ?? newLane(tenant, name);
    log.lanes.known.set(name, lane);
    if (!lane.own && !lane.closed) lane.head = Math.max(lane.head, sequence);
  }

  async *read(
    tenant: string,
    after: readonly Position[],
    lanes: readonly string[],
    signal: AbortSignal,
    since?: string,
  ): AsyncIterable<Commit> {
    const log = this.#tenant(checkTenant(tenant));
    signal.throwIfAborted();
    const from = new Map(after.map(({ lane, sequence }) => [lane, sequence]));
    const asked = lanes.length > 0 && since === undefined;
    if (!asked) await this.#refresh(log, { all: true, exact: false });
    const names = asked ? lanes.filter(isLane) : wantedLanes(log.lanes.known.keys(), lanes, since);
    let failed: unknown;
    let inRow = 0;
    const stopped = new Set<Lane>();
    for await (const { lane, sequence, table } of this.#inOrder(log, tenant, names, from, asked)) {
      signal.throwIfAborted();
      if (stopped.has(lane)) continue;
      try {
        const read = await table;
        inRow = 0;
        if (read === 'stop') stopped.add(lane);
        else if (read) yield { lane: lane.lane, sequence, tableOfContents: read };
      } catch (error) {
        if (!isTransient(error) || ++inRow >= FAILED_MAX) throw error;
        failed = error; // other lanes go on, and then the reader hears that it has not seen everything
        stopped.add(lane);
      }
    }
    if (failed) throw failed;
  }

  /** A few tables are on their way while the first of them is handed on. */
  async *#inOrder(log: TenantLog, tenant: string, names: readonly string[], from: Map<string, number>, asked: boolean) {
    type Ahead = { lane: Lane; sequence: number; table: Promise<TableRead> };
    const ahead: Ahead[] = [];
    for (const name of names) {
      let lane = log.lanes.known.get(name);
      if (!lane) {
        lane = newLane(tenant, name);
        await this.#reader.list(lane);
        if (lane.head === 0) continue;
        log.lanes.known.set(name, lane);
      }
      for (let sequence = (from.get(name) ?? 0) + 1; ; sequence++) {
        // Whoever asks for a lane by name gets what is there now.
        if (sequence > lane.head && asked) await this.#reader.look(lane, false);
        if (sequence > lane.head) break;
        const table = this.#reader.table(lane, sequence);
        table.catch(() => {}); // thrown when it is awaited
        ahead.push({ lane, sequence, table });
        if (ahead.length >= (asked ? 2 : AHEAD)) yield ahead.shift()!;
      }
    }
    yield* ahead;
  }

  async segments(tenant: string): Promise<SegmentRow[]> {
    const log = this.#tenant(checkTenant(tenant));
    await this.#refresh(log, { all: true, exact: true });
    const rows = new Map<string, readonly SegmentRow[]>();
    const atMs = this.#options.clockwork.elapsedMs();
    await eachOf(
      [...log.lanes].filter(({ head }) => head > 0),
      WIDTH,
      async (lane) => {
        const known = rowsKnown(lane, atMs) ?? (await this.#runs(lane, lane.closed)).map(({ row }) => row);
        rows.set(lane.lane, known);
        if (lane.closed && lane.rows?.rows !== known) lane.rows = { rows: known, atMs };
      },
    );
    return [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, each]) => each);
  }

  async *commitsOf(tenant: string, object: string): AsyncIterable<TableOfContents> {
    const { lane, run } = await this.#find(tenant, object);
    for (let from = run.row.first; from <= run.row.last; from += AHEAD) {
      const sequences = Array.from({ length: Math.min(AHEAD, run.row.last - from + 1) }, (_, i) => from + i);
      for (const [i, table] of (await Promise.all(sequences.map((each) => this.#reader.table(lane, each)))).entries()) {
        if (table === 'stop')
          throw new GantryError('damaged', `${object} holds entries that this release does not know`);
        if (!table) continue; // damage: its alarm is raised
        const decoded = decodeTable(table, tenant, lane.lane, sequences[i]!);
        if (typeof decoded === 'object') yield decoded;
      }
    }
  }

  async prepareThin(tenant: string, object: string): Promise<void> {
    await this.#whileThinning(tenant, object, async () => {});
  }

  async thin(tenant: string, object: string): Promise<{ object: string; bytesFreed: number }> {
    return this.#whileThinning(tenant, object, async (lane, run, copy) => {
      await assertSameTables(this.#reader, lane, run, copy);
      // From the last one down, so that a keeper that is killed here finds the same run again. The object with the last number of a
      // closed lane stays: a writer that wakes after days must find its number taken.
      const going = run.pieces.filter(({ first }) => !(lane.closed && run.pieces.length > 1 && first === lane.head));
      let bytesFreed = -copy.bytes;
      for (const piece of going.toReversed()) {
        await this.#options.bucket.remove(piece.object);
        bytesFreed += piece.bytes;
      }
      await this.#reader.pieces(lane);
      lane.rows = undefined;
      return { object: copy.object, bytesFreed: Math.max(0, bytesFreed) };
    });
  }

  async #whileThinning<T>(
    tenant: string,
    object: string,
    work: (lane: Lane, run: Run, copy: Awaited<ReturnType<typeof prepareThinned>>) => Promise<T>,
  ): Promise<T> {
    const { lane, run } = await this.#find(tenant, object);
    if (run.row.state !== 'sealed') throw new GantryError('failed-precondition', `${object} is not a sealed segment`);
    if (this.#thinning.has(object)) throw new GantryError('conflict', `${object} is being thinned`);
    this.#thinning.add(object);
    try {
      return await work(lane, run, await prepareThinned(this.#options.bucket, this.#reader, lane, run));
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

  /** An object is put whole, or not at all. */
  async tornBytes(): Promise<number> {
    return 0;
  }

  async sealAged(): Promise<void> {
    for (const { writers } of this.#tenants.values()) for (const writer of writers) await writer.endAged();
    await this.sayAlive();
  }

  /** Tells the keepers which lanes are written here. */
  async sayAlive(): Promise<void> {
    const lanes = [...this.#tenants.values()].flatMap(({ writers }) => writers.flatMap(({ lane }) => lane ?? []));
    await this.#alive.say(lanes.filter(({ head }) => head > 0));
  }

  async closeDeadLanes(): Promise<number> {
    const { bucket, clockwork, limits, deadMs } = this.#options;
    const signs = await signsOfLife(bucket);
    let closed = 0;
    for (const tenant of await this.tenants()) {
      const log = this.#tenant(tenant);
      log.lanes.survey();
      await this.#refresh(log, { all: true, exact: true });
      for (const lane of log.lanes) {
        if (lane.own || lane.closed || lane.head === 0) continue;
        const pieces = await this.#reader.pieces(lane);
        const lastMs = Math.max(0, ...pieces.map(({ modifiedMs }) => modifiedMs));
        if (!isDead(lane, lastMs, bucket.now(), signs, deadMs)) continue;
        const parts = { bucket, reader: this.#reader, clock: this.#clock, clockwork };
        if (await closeLane(parts, lane, limits.commitMs, this.#process)) closed++;
      }
      await log.lanes.tell();
    }
    const open = new Set(
      [...this.#tenants.values()]
        .flatMap(({ lanes }) => [...lanes].filter((each) => !each.closed))
        .map(({ lane }) => lane),
    );
    for (const sign of signs)
      if (sign.ageMs >= deadMs && ![...sign.lanes].some((lane) => open.has(lane))) await removeSign(bucket, sign);
    return closed;
  }

  async close(): Promise<void> {
    this.#closing = true;
    await Promise.allSettled(this.#entering);
    await Promise.all(
      [...this.#tenants.values()].map(async ({ gather, writers }) => {
        await gather.close();
        await Promise.all(writers.map((writer) => writer.close()));
      }),
    );
    await this.#alive.leave().catch(() => {}); // a keeper removes it when it is old
  }

  /** `known`: what was listed of a closed lane will do, its closing included. */
  async #runs(lane: Lane, known = false): Promise<Run[]> {
    let listed = known && lane.pieces?.at(-1)?.first === lane.head ? lane.pieces : undefined;
    return whileMerged(async () => {
      const pieces = listed ?? (await this.#reader.pieces(lane));
      listed = undefined;
      return runsOf(lane, pieces, this.#options.segmentBytes, (piece) => this.#reader.span(lane, piece));
    });
  }

  async #find(tenant: string, object: string): Promise<{ lane: Lane; run: Run }> {
    const lane = this.#tenants.get(checkTenant(tenant))?.lanes.known.get(object.split('/')[2] ?? '');
    const run = lane && (await this.#runs(lane)).find(({ row }) => row.object === object);
    if (lane && !run) lane.rows = undefined; // another keeper was faster
    if (!lane || !run) throw new GantryError('not-found', 'no such segment');
    return { lane, run };
  }

  async #refresh({ lanes }: TenantLog, how: How): Promise<void> {
    await lanes.refresh(how);
    this.#checkClock();
  }

  #checkClock(): void {
    const detail = this.#clockAhead ? undefined : clockAhead(this.#clock);
    if (detail === undefined) return;
    this.#clockAhead = true; // once: the minutes in it change
    this.#alarms.raise({ kind: 'clock-ahead', tenant: '', lane: '', detail });
  }

  #tenant(tenant: string): TenantLog {
    let log = this.#tenants.get(tenant);
    if (log) return log;
    const { bucket, clockwork, limits, gather, onCommit, lookMs } = this.#options;
    const lanes = new Lanes(tenant, { bucket, clockwork, clock: this.#clock, reader: this.#reader, lookMs });
    const writers = Array.from(
      { length: this.#options.lanes },
      () =>
        new LaneWriter(tenant, {
          bucket,
          clock: this.#clock,
          clockwork,
          limits,
          onLane: (lane) => {
            lanes.known.set(lane.lane, lane);
            this.sayAlive().catch(() => {}); // said again every minute
          },
          onCommit: (lane, sequence, table, bytes, entries) => {
            this.#tables.set(lane.lane, sequence, table);
            onCommit?.(tenant, { lane: lane.lane, sequence }, entries, bytes);
          },
        }),
    );
    const free = [...writers];
    const commit = async (entries: readonly NewEntry[]) => {
      const writer = free.shift()!; // the first that is free: a quiet tenant needs one lane only
      try {
        return await writer.commit(entries);
      } finally {
        free.push(writer);
        free.sort((a, b) => writers.indexOf(a) - writers.indexOf(b));
      }
    };
    log = { lanes, writers, gather: new Gather(gather, commit, this.#options.lanes) };
    this.#tenants.set(tenant, log);
    return log;
  }
}

/** What people decide counts by its stamp: later than what they saw. */
const DECIDES: ReadonlySet<string> = new Set(['overlay', 'delete', 'restore', 'identity', 'hold', 'decision']);
