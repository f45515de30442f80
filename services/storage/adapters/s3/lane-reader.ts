import { GantryError } from '#platform/errors.ts';
import type { TableOfContents } from '#proto/storage/v1/log.ts';
import type { Alarms } from '../../log/alarms.ts';
import type { StampClock } from '../../log/clock.ts';
import { padSequence, segmentKey } from '../../log/names.ts';
import { type ByteSource, readTocAt } from '../../log/scan.ts';
import type { TableCache } from '../../log/table-cache.ts';
import { decodeTable, type TocFrame } from '../../log/toc.ts';
import { type Bucket, BucketError, type Clockwork } from './bucket.ts';
import { byFirst, candidates, folderOf, type Lane, type Piece, pieceOf } from './lane.ts';
import { Blocks, type Scanned, scanObject, tailSource } from './source.ts';

/** Tables of objects with many commits whose places stay in memory: 256 × 1,024 commits × 40 bytes. */
const SCANNED_MAX = 256;
/** Looking at the next number misses nothing, unless all that follows was merged meanwhile: a list every so often does not miss that. */
const LIST_EVERY_MS = 60_000;
/** A lane with more than so many new commits is listed rather than tried number by number. */
const TRIED_MAX = 8;

export interface LaneReaderParts {
  readonly bucket: Bucket;
  readonly clock: StampClock;
  readonly alarms: Alarms;
  readonly tables: TableCache;
  readonly clockwork: Clockwork;
}

/** `stop`: nothing beyond may be folded by this release. Undefined: damaged, passed over. Both raise an alarm. */
export type TableRead = Buffer | 'stop' | undefined;

/** Finds a lane's commits in the bucket and reads their tables, whoever writes it and in whichever form it stands there. */
export class LaneReader {
  readonly #parts: LaneReaderParts;
  readonly #blocks: Blocks;
  readonly #scanned = new Map<string, Promise<Scanned>>();

  constructor(parts: LaneReaderParts) {
    this.#parts = parts;
    this.#blocks = new Blocks(parts.bucket);
  }

  /** What the lane holds now: its objects, its head, whether it is closed. */
  list(lane: Lane): Promise<void> {
    return whileMerged(() => this.#list(lane));
  }

  /** The same of a lane whose objects were listed with those of all others. */
  async adopt(lane: Lane, pieces: readonly Piece[], listedMs: number): Promise<void> {
    try {
      await this.#headOf(lane, pieces, listedMs);
    } catch (error) {
      if (!isGone(error)) throw error; // merged since
      await this.list(lane);
    }
  }

  async #list(lane: Lane): Promise<void> {
    const beganMs = this.#parts.clockwork.elapsedMs();
    await this.#headOf(lane, await this.#pieces(lane, ''), beganMs);
  }

  async #headOf(lane: Lane, pieces: readonly Piece[], beganMs: number): Promise<void> {
    lane.pieces = pieces;
    const lastOf = (thinned: boolean): Piece | undefined => pieces.findLast((piece) => piece.thinned === thinned);
    const youngest = lastOf(false);
    if (youngest) await this.#single(lane, youngest.first);
    if (lane.closed) {
      lane.lookedMs = lane.listedMs = beganMs; // nothing stands behind a closing: one request said all
      return;
    }
    let head = 0;
    // A thinned run can reach beyond the last of its commits that is still there: those go from the last one down.
    for (const piece of [lastOf(false), lastOf(true)]) {
      if (!piece) continue;
      const { commits } = await this.#scan(lane, piece);
      head = Math.max(head, commits.at(-1)?.sequence ?? 0, this.#isWhole(piece) ? piece.first : 0);
    }
    if (!lane.own) lane.head = Math.max(lane.head, head);
    if (head > 0) await this.table(lane, head); // says whether it is closed, and when it was
    lane.lookedMs = lane.listedMs = beganMs;
  }

  /** Commits of others beyond the head that we know. `exact`: none that was there when this was called is missed. */
  look(lane: Lane, exact: boolean): Promise<void> {
    return whileMerged(() => this.#look(lane, exact));
  }

  async #look(lane: Lane, exact: boolean): Promise<void> {
    const { clockwork } = this.#parts;
    const beganMs = clockwork.elapsedMs();
    if (lane.own || lane.closed) return;
    if (lane.pieces === undefined && lane.head === 0) return this.#list(lane);
    if (!exact && beganMs - lane.listedMs < LIST_EVERY_MS) {
      for (let tried = 0; tried < TRIED_MAX && !lane.closed; tried++) {
        const next = lane.head + 1;
        const found = await this.#single(lane, next);
        if (found === 'absent') {
          lane.lookedMs = beganMs;
          return;
        }
        if (found === 'many') break;
        lane.head = Math.max(lane.head, next); // others look too
      }
      if (lane.closed) return;
    }
    const after = `${folderOf(lane)}${padSequence(lane.head)}.~`;
    const beyond = (await this.#pieces(lane, after)).filter(({ first }) => first > lane.head);
    if (beyond.length > 0) {
      const head = lane.head;
      const inOrder = beyond.every(({ first, thinned }, i) => !thinned && first === head + 1 + i);
      // The last one may hold many; any other holds one, for the next begins with the next number.
      const last = inOrder && (await this.#scan(lane, beyond.at(-1)!)).commits.at(-1)?.sequence;
      if (last === beyond.at(-1)!.first) {
        await this.table(lane, last); // says whether it is closed
        lane.head = Math.max(lane.head, last);
      } else await this.#list(lane);
    }
    lane.lookedMs = lane.listedMs = beganMs;
  }

  async table(lane: Lane, sequence: number): Promise<TableRead> {
    const cached = this.#parts.tables.get(lane.lane, sequence);
    if (cached) return cached;
    // Merged long ago: asking for an object of its own would cost a request a commit, and a rebuild reads all of them.
    const [nearest] = candidates(lane.pieces ?? [], sequence);
    const merged = nearest?.thinned ? await this.#among(lane, [nearest], sequence) : undefined;
    if (merged) return merged.table;
    const single = await this.#single(lane, sequence);
    if (single !== 'absent' && single !== 'many') return single.table;
    for (const again of [false, true]) {
      if (again || lane.pieces === undefined) lane.pieces = await this.#pieces(lane, '');
      const found = await this.#among(lane, candidates(lane.pieces, sequence), sequence);
      if (found) return found.table;
    }
    // Not passed over: what a fold has once passed it never sees again, and a copy that still runs may bring it.
    const detail = `commit ${sequence} of lane ${lane.lane} is not in the bucket`;
    const { tenant } = lane;
    this.#parts.alarms.raise({ kind: 'unreadable-lane', tenant, lane: lane.lane, detail });
    throw new GantryError('unavailable', `the log cannot be read: ${detail}`);
  }

  /** Every table of an object, in order, undecoded; undefined where it is damaged. */
  async tablesIn(lane: Lane, piece: Piece): Promise<Map<number, Buffer>> {
    const found = new Map<number, Buffer>();
    const { commits } = await this.#scan(lane, piece);
    for (const { sequence, tocOffset } of commits) {
      const frame = await readTocAt(this.#source(piece), tocOffset);
      if (typeof frame === 'object' && namesLane(frame, lane)) found.set(sequence, frame.table);
    }
    return found;
  }

  /** First and last commit of an object. */
  async span(lane: Lane, piece: Piece): Promise<{ first: number; last: number }> {
    const { commits } = await this.#scan(lane, piece);
    return { first: piece.first, last: commits.at(-1)?.sequence ?? piece.first };
  }

  async pieces(lane: Lane): Promise<readonly Piece[]> {
    return (lane.pieces = await this.#pieces(lane, ''));
  }

  async #pieces(lane: Lane, after: string): Promise<Piece[]> {
    const pieces: Piece[] = [];
    for await (const page of this.#parts.bucket.list(folderOf(lane), { after }))
      for (const row of page) {
        const piece = pieceOf(row);
        if (piece) pieces.push(piece);
      }
    return pieces.sort(byFirst);
  }

  /** An object that was put as one commit holds it whole, whatever its bytes look like today: its number is taken. */
  #isWhole(piece: Piece): boolean {
    return !piece.thinned;
  }

  /** The commit as an object of its own, which is what S3's writers put. */
  async #single(lane: Lane, sequence: number): Promise<'absent' | 'many' | { table: TableRead }> {
    const object = segmentKey(lane.tenant, lane.lane, sequence);
    const known = lane.pieces?.find((piece) => piece.object === object);
    if (known && known.bytes > LARGE_BYTES) return 'many';
    let source: ByteSource | undefined;
    try {
      source = await tailSource(this.#parts.bucket, object);
      if (!source) return 'absent';
      const scanned = await scanObject(source, sequence, (frame) => namesLane(frame, lane));
      if (scanned.commits.length > 1) return 'many';
      return { table: await this.#tableOf(lane, sequence, object, source, scanned) };
    } catch (error) {
      if (error instanceof GantryError && error.code === 'not-found') return 'absent'; // thinned between two reads
      throw error;
    }
  }

  async #among(lane: Lane, pieces: readonly Piece[], sequence: number): Promise<{ table: TableRead } | undefined> {
    for (const piece of pieces) {
      try {
        const scanned = await this.#scan(lane, piece);
        const last = scanned.commits.at(-1)?.sequence ?? 0;
        if (sequence > last && !scanned.newerFormat) continue;
        return { table: await this.#tableOf(lane, sequence, piece.object, this.#source(piece), scanned) };
      } catch (error) {
        if (!(error instanceof GantryError) || error.code !== 'not-found') throw error;
        this.#scanned.delete(piece.object); // merged into another since the lane was listed
      }
    }
    return undefined;
  }

  async #tableOf(
    lane: Lane,
    sequence: number,
    object: string,
    source: ByteSource,
    { commits, newerFormat }: Scanned,
  ): Promise<TableRead> {
    const { tenant } = lane;
    const { alarms, tables } = this.#parts;
    const commit = commits.find((each) => each.sequence === sequence);
    const frame = commit ? await readTocAt(source, commit.tocOffset) : newerFormat ? 'newer-format' : 'damaged';
    const table = typeof frame === 'string' ? frame : decodeTable(frame.table, tenant, lane.lane, sequence);
    if (typeof table === 'object') {
      const bytes = (frame as TocFrame).table;
      tables.set(lane.lane, sequence, bytes);
      this.#noted(lane, sequence, table);
      return bytes;
    }
    const detail = `commit ${sequence} at ${object}${commit ? ` ${commit.tocOffset}` : ''}`;
    alarms.raise({ kind: table === 'damaged' ? 'damaged-commit' : table, tenant, lane: lane.lane, detail });
    return table === 'damaged' ? undefined : 'stop';
  }

  #noted(lane: Lane, sequence: number, { entries }: TableOfContents): void {
    this.#parts.alarms.readable(lane.tenant, lane.lane);
    const stamp = entries.at(-1)?.stamp;
    if (stamp !== undefined) this.#parts.clock.observe(stamp);
    if (!entries.some(({ kind }) => kind?.$case === 'closed')) return;
    lane.closed = true;
    lane.head = Math.max(lane.head, sequence);
  }

  #source(piece: Piece): ByteSource {
    return this.#blocks.source(piece.object, piece.bytes);
  }

  #scan(lane: Lane, piece: Piece): Promise<Scanned> {
    let scanned = this.#scanned.get(piece.object);
    if (scanned) return scanned;
    scanned = scanObject(this.#source(piece), piece.first, (frame) => namesLane(frame, lane)).then((found) => {
      for (const { offset, end, detail } of found.damage)
        this.#parts.alarms.raise({
          kind: 'damaged-commit',
          tenant: lane.tenant,
          lane: lane.lane,
          detail: `${piece.object} ${offset}–${end}: ${detail}`,
        });
      return found;
    });
    this.#scanned.set(piece.object, scanned);
    scanned.catch(() => this.#scanned.delete(piece.object)); // whoever asked is told
    for (const oldest of this.#scanned.keys()) {
      if (this.#scanned.size <= SCANNED_MAX) break;
      this.#scanned.delete(oldest);
    }
    return scanned;
  }
}

/** An object that was listed and is gone was merged into another meanwhile: what is asked is asked again. */
export async function whileMerged<T>(work: () => Promise<T>): Promise<T> {
  for (let tried = 0; ; tried++)
    try {
      return await work();
    } catch (error) {
      if (!isGone(error) || tried === MERGED_MAX) throw error;
    }
}
const MERGED_MAX = 5;

const isGone = (error: unknown): boolean => error instanceof GantryError && error.code === 'not-found';

/** No commit of S3's writers is larger: 16 MiB of instances and their tables, or one request. */
const LARGE_BYTES = 64 * 1024 * 1024;

const namesLane = (frame: TocFrame, { tenant, lane }: Lane): boolean =>
  decodeTable(frame.table, tenant, lane, frame.sequence) !== 'damaged';

/** Whether a store that is slow or gone is all that is wrong. */
export const isTransient = (error: unknown): boolean =>
  error instanceof BucketError || (error instanceof GantryError && error.code === 'unavailable');
