import type { Call } from '#platform/call.ts';
import type { Entry, EntryId, Place, Position, TableOfContents } from '#proto/storage/v1/log.ts';
import type { Commit } from '#proto/storage/v1/storage.ts';
import type { WrittenEntry } from './log/kinds.ts';

/**
 * What storage needs from whatever keeps its bytes. Adapters: the file system (adapters/fs), S3 (adapters/s3). Each port has a
 * contract beside it (log-store.contract.ts, object-store.contract.ts) that every adapter passes.
 */

export type EntryKind = NonNullable<Entry['kind']>;

/** One entry to be appended. Only `instance` has a body: the whole Part 10 file, in the pieces in which it arrived. */
export interface NewEntry {
  readonly kind: WrittenEntry;
  readonly body?: readonly Buffer[];
}

export interface Appended {
  readonly position: Position;
  readonly ids: EntryId[];
  /** Where each entry's bytes are; undefined for control entries. */
  readonly places: (Place | undefined)[];
}

/** What is wrong with the archive and needs a person: shown by `gantry status` and the keeper's Status. */
export interface Alarm {
  readonly kind:
    | 'damaged-commit'
    | 'unknown-entry'
    | 'newer-format'
    | 'flush-failed'
    | 'unreadable-lane'
    | 'clock-ahead';
  readonly tenant: string;
  readonly lane: string;
  /** Places and numbers only. */
  readonly detail: string;
  readonly atMs: number;
}

export interface SegmentRow {
  /** Key of the object that holds the (first) commits: `log/<tenant>/<lane>/<first>.tar`, or `….toc.tar` once thinned. */
  readonly object: string;
  readonly lane: string;
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  /** How many objects thinning replaces by one: on S3 a commit is an object, and a segment a run of them. */
  readonly objects: number;
  /** `open`: commits may still be added. `thinned`: tables of contents and control entries only, the instances' bytes have moved. */
  readonly state: 'open' | 'sealed' | 'thinned';
}

/** What of a tenant's log this process could not read: what the keeper may do depends on it. */
export interface Incomplete {
  /** A lane that does not answer, or has a gap: its entries may rest on whatever looks free. Undefined again once it was read. */
  readonly unreadableLane: string | undefined;
  /** Commits that are damaged, or of a newer release: they may name what looks like an orphan. */
  readonly hiddenEntries: boolean;
}

/** The archive log: lanes of commits (architecture §3). */
export interface LogStore {
  /**
   * Appends the entries in one commit, all or none; resolves once they are on stable storage. `requester` (an association, a request)
   * gets its fair turn. Fails with `no-permit` when the gather queue is full, `no-space`, or `unavailable`; then none is acknowledged.
   */
  append(tenant: string, requester: string, entries: readonly NewEntry[]): Promise<Appended>;
  tenants(): Promise<string[]>;
  /**
   * The last durable commit of every lane, those of other processes included, as they are when this is asked. `since`: without those that
   * have ended and whose name is smaller, and of lanes that cannot be asked what was known before: for whoever asks often.
   */
  heads(tenant: string, since?: string): Promise<Position[]>;
  /** Somebody (a wake) says that this commit is durable: readers get it without being looked for. A hint that may be wrong. */
  told(tenant: string, position: Position): void;
  /**
   * Commits beyond the positions, lane by lane, up to the heads as they are when the lane's turn comes. Verified, decoded by nobody
   * else's rules: a damaged commit is passed over (alarm); an entry of an unknown kind, or a medium that does not answer, ends
   * its lane (alarm), and other lanes go on. Without `lanes` all of the tenant's. `since`: besides these, all whose name is not smaller;
   * whoever knows the others by heart need not hand their positions around.
   */
  read(
    tenant: string,
    after: readonly Position[],
    lanes: readonly string[],
    signal: AbortSignal,
    since?: string,
  ): AsyncIterable<Commit>;
  /** For the keeper: which objects there are, and what stands in one. */
  segments(tenant: string): Promise<SegmentRow[]>;
  commitsOf(tenant: string, object: string): AsyncIterable<TableOfContents>;
  /**
   * Writes the thinned form of a sealed segment beside it: its tables of contents and control entries, which outlive compaction, so
   * that a fold from the first commit stays possible. Called `deletionDelay` before thin(), so that whoever copies the archive file by
   * file meanwhile finds one or the other. Calling it again costs little.
   */
  prepareThin(tenant: string, object: string): Promise<void>;
  /**
   * Replaces the segment by its thinned form. The old object is gone afterwards: its places answer `not-found`. Only the keeper calls
   * this, once every instance in it was moved, dropped or purged and `deletionDelay` is over.
   */
  thin(tenant: string, object: string): Promise<{ object: string; bytesFreed: number }>;
  alarms(): readonly Alarm[];
  incomplete(tenant: string): Incomplete;
  /** Takes the next number of lanes whose process is gone with a `closed` entry. Being wrong costs a living writer a new lane. */
  closeDeadLanes(): Promise<number>;
  /** Bytes found after the last valid commit of a dead lane, moved aside. */
  tornBytes(): Promise<number>;
  /** Seals open segments that are older than `segmentAgeMs`. */
  sealAged(): Promise<void>;
  /** Finishes what is queued, closes and seals its own lanes. */
  close(): Promise<void>;
}

export interface ObjectRow {
  readonly object: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/**
 * Whole objects in the areas `log`, `pack`, `large`; keys are `<area>/<tenant>/…`. An object never changes once it was put.
 * The keeper writes packs and removes objects here; orphans under large/ are `list('large', tenant)` minus the keys of `large` entries.
 */
export interface ObjectStore {
  /** On stable storage, its name included, when this resolves. The key must be new. */
  put(object: string, body: AsyncIterable<Buffer>): Promise<{ bytes: number }>;
  stat(object: string): Promise<ObjectRow | undefined>;
  /** `length` bytes from `offset`, in chunks of up to 1 MiB, read as they are pulled. `not-found`, or `damaged` when it is too short. */
  read(object: string, offset: number, length: number): AsyncIterable<Buffer>;
  /** True when it was there. */
  remove(object: string): Promise<boolean>;
  list(area: 'log' | 'pack' | 'large', tenant: string): AsyncIterable<ObjectRow>;
  space(): Promise<{ freeBytes: number; totalBytes: number }>;
  /** Ends uploads in parts that were begun so long ago and never completed; how many. */
  sweepUploads(olderThanMs: number): Promise<number>;
}

export interface StateRow {
  readonly object: string;
  /** Another one when the bytes are others. */
  readonly tag: string;
}

/**
 * Small objects beside the archive that are replaced, unlike all others: exports of configured facts (`state/kv/<tenant>/…`), and what
 * the keeper notes about them (`derived/state/…`).
 */
export interface StateStore {
  list(prefix: string): AsyncIterable<StateRow>;
  get(object: string): Promise<Buffer | undefined>;
  put(object: string, bytes: Buffer): Promise<void>;
  remove(object: string): Promise<void>;
}

/** What the two modules of this service share in one process. */
export interface Archive {
  readonly log: LogStore;
  readonly objects: ObjectStore;
  /** Undefined on a disk: there the facts are files of data/state already (adr/0011, adr/0050). */
  readonly state?: StateStore;
  /** Whether new instances are taken: above the reserve. */
  room(): Promise<{ freeBytes: number; reserveBytes: number; accepting: boolean }>;
  close(): Promise<void>;
}

export type { Call };
