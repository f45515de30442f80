import { createHash } from 'node:crypto';
import { GantryError } from '#platform/errors.ts';
import { Entry, type EntryId, type Instance, type Place, TableOfContents } from '#proto/storage/v1/log.ts';
import type { Archive, NewEntry } from '../../ports.ts';
import { type ArchiveOptions, openArchiveOn } from './archive.ts';
import { ModelDisk } from './disk.model.ts';
import type { FlushReason } from './disk.ts';

/**
 * One random history for the power-loss test: a few lives of the archive on a model disk, each ended by a power cut, a kill, or in
 * order, with EIO and ENOSPC on the way. After each start everything that was ever acknowledged, or ever seen, must be there, the same
 * to the byte. Answers what was wrong.
 */
export interface HistoryResult {
  readonly problem: string | undefined;
  readonly cuts: number;
  readonly acknowledged: number;
}

const ROOT = '/data';
const TENANTS = ['main', 'other'];

export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0; // mulberry32
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Problem extends Error {}

export async function runHistory(seed: number, ignored?: FlushReason): Promise<HistoryResult> {
  const history = new History(seed, ignored);
  try {
    await history.run();
    return { problem: undefined, cuts: history.cuts, acknowledged: history.acknowledged.size };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { problem: `seed ${seed}: ${error.message}`, cuts: history.cuts, acknowledged: history.acknowledged.size };
  }
}

const keyOf = (id: EntryId): string => `${id.lane}/${id.sequence}/${id.n}`;

class History {
  cuts = 0;
  /** Entry id → tenant. */
  readonly acknowledged = new Map<string, string>();
  readonly #random: () => number;
  readonly #disk: ModelDisk;
  /** SOP Instance UID → bytes that were sent under it, acknowledged or not. */
  readonly #sent = new Map<string, Buffer>();
  /** Entry id → the entry as a reader once got it: a sequence number is bound to its bytes. */
  readonly #seen = new Map<string, string>();
  #maxStamp = '';
  #now = 1_700_000_000_000;
  #serial = 0;

  constructor(seed: number, ignored: FlushReason | undefined) {
    this.#random = randomOf(seed);
    this.#disk = new ModelDisk(this.#random, [ROOT]);
    this.#disk.ignored = ignored;
  }

  async run(): Promise<void> {
    const lives = 2 + this.#int(4);
    for (let life = 0; life < lives; life++) {
      this.#now += this.#int(2) === 0 ? 1000 : -500_000; // clocks are set back
      const troubles = this.#random();
      // Often early: that is where files and directories are new.
      this.#disk.cutAfter = [10, 40, 120, 400][this.#int(4)]! * this.#random();
      if (troubles < 0.3) this.#disk.cutAfter = Number.POSITIVE_INFINITY;
      const faulty = this.#random() < 0.4 ? 0.02 : 0;
      const full = this.#random() < 0.15 ? 0.1 : 0;
      this.#disk.fault = (op) => {
        if (['read', 'list', 'stat', 'open'].includes(op)) return undefined;
        const fault =
          this.#random() < faulty
            ? 'EIO'
            : ['write', 'create', 'mkdir'].includes(op) && this.#random() < full
              ? 'ENOSPC'
              : undefined;
        if (fault && this.#opening) this.#recoveryFailed = true;
        return fault;
      };
      await this.#life();
      this.cuts++;
      if (this.#random() < 0.65) this.#disk.powerCut();
      else this.#disk.kill();
      this.#disk.fault = () => undefined;
    }
    // At last two lives without trouble: what recovery made of it stays so.
    for (let i = 0; i < 2; i++) {
      const archive = await this.#open();
      if (!archive) throw new Problem('the archive does not open on a disk without faults');
      await this.#verify(archive);
      await archive.close();
      this.#disk.powerCut();
    }
  }

  async #life(): Promise<void> {
    const archive = await this.#open();
    if (!archive) return;
    try {
      await this.#verify(archive);
      const rounds = 1 + this.#int(8);
      for (let round = 0; round < rounds; round++) {
        const steps = Array.from({ length: 1 + this.#int(5) }, () => this.#step(archive));
        await Promise.all(steps);
      }
      await this.#verify(archive);
      if (this.#int(3) === 0) await archive.close();
    } catch (error) {
      if (error instanceof Problem) throw error;
      if (!this.#isTrouble(error)) throw error;
    }
  }

  async #open(): Promise<Archive | undefined> {
    this.#recoveryFailed = false;
    this.#opening = true;
    try {
      return await openArchiveOn(this.#disk, ROOT, this.#options());
    } catch (error) {
      if (this.#isTrouble(error)) return undefined;
      throw new Problem(`the archive does not open: ${String(error)} ${String((error as Error).cause)}`);
    } finally {
      this.#opening = false;
    }
  }

  #options(): ArchiveOptions {
    return {
      gather: { commitBytes: 16 * 1024, commitEntries: 8, queueBytes: 2 ** 30, queueEntries: 4096 },
      segment: { segmentBytes: 12 * 1024, segmentAgeMs: 2 ** 31, restMs: 0 },
      tableCacheBytes: this.#int(2) * 2 ** 20,
      openFiles: 4,
      reserveBytes: () => 0,
      now: () => this.#now++,
      onAlarm: (alarm) => {
        if (!['flush-failed', 'clock-ahead'].includes(alarm.kind) && this.#disk.powered)
          this.#alarm ??= `${alarm.kind}: ${alarm.detail}`;
      },
    };
  }
  #alarm: string | undefined;
  /**
   * A dead lane's last commit is shown even when it could not be flushed again (a fault during recovery): it may have been acknowledged. If it
   * was not, a power cut may still take it: the one thing that a reader may have seen and not see again.
   */
  #recoveryFailed = false;
  #opening = false;

  async #step(archive: Archive): Promise<void> {
    const tenant = TENANTS[this.#int(5) === 0 ? 1 : 0]!;
    const what = this.#random();
    try {
      if (what < 0.6) await this.#append(archive, tenant, [this.#instance()]);
      else if (what < 0.75)
        await this.#append(archive, tenant, [control(`${this.#serial++}`), control(`${this.#serial++}`)]);
      else if (what < 0.88) await this.#large(archive, tenant);
      else await this.#compact(archive, tenant);
    } catch (error) {
      if (!this.#isTrouble(error)) throw error;
    }
  }

  async #append(archive: Archive, tenant: string, entries: NewEntry[]): Promise<void> {
    const before = this.#maxStamp;
    const { ids } = await archive.log.append(tenant, `requester ${this.#int(3)}`, entries);
    for (const id of ids) this.acknowledged.set(keyOf(id), tenant);
    this.#stampAfter.set(keyOf(ids[0]!), before);
  }
  /** Entry id → a stamp that it must be above. */
  readonly #stampAfter = new Map<string, string>();

  #instance(): NewEntry {
    const body = this.#bytes(1 + this.#int(5000));
    return {
      kind: { $case: 'instance', value: this.#describe(body) },
      body: [body.subarray(0, 10), body.subarray(10)],
    };
  }

  async #large(archive: Archive, tenant: string): Promise<void> {
    const body = this.#bytes(1 + this.#int(20_000));
    const object = `large/${tenant}/${this.#int(3)}/${this.#serial++}.dcm`;
    const { bytes } = await archive.objects.put(object, pieces(body));
    const value = { ...this.#describe(body), place: { object, offset: 0, length: bytes, encoding: 0 } };
    await this.#append(archive, tenant, [{ kind: { $case: 'large', value } }]);
  }

  /** What the keeper does: pack, `moved`, and only then may the old bytes go. */
  async #compact(archive: Archive, tenant: string): Promise<void> {
    const segment = (await archive.log.segments(tenant)).find(({ state }) => state === 'sealed');
    if (!segment) return;
    const moves: { entry: EntryId; from: Place; body: Buffer }[] = [];
    for await (const table of archive.log.commitsOf(tenant, segment.object))
      for (const entry of table.entries)
        if (entry.kind?.$case === 'instance')
          moves.push({
            entry: { lane: table.lane, sequence: table.sequence, n: entry.n },
            from: entry.kind.value.place!,
            body: this.#sent.get(entry.kind.value.sopInstanceUid)!,
          });
    if (moves.length > 0) {
      const object = `pack/${tenant}/${this.#serial++}.tar`;
      await archive.objects.put(object, pieces(Buffer.concat(moves.map(({ body }) => body))));
      let offset = 0;
      const moved = moves.map(({ entry, from, body }) => {
        const to: Place = { object, offset, length: body.length, encoding: 0 };
        offset += body.length;
        return { entry, from, to };
      });
      await this.#append(archive, tenant, [
        { kind: { $case: 'moved', value: { moves: moved, studyInstanceUid: '', dropped: [] } } },
      ]);
    }
    if (this.#int(3) === 0) await archive.log.prepareThin(tenant, segment.object);
    else await archive.log.thin(tenant, segment.object);
  }

  async #verify(archive: Archive): Promise<void> {
    const found = new Map<string, { tenant: string; entry: Entry }>();
    const places = new Map<string, Place>();
    for (const tenant of TENANTS) {
      const last = new Map<string, number>();
      for await (const commit of archive.log.read(tenant, [], [], new AbortController().signal)) {
        const table = TableOfContents.decode(commit.tableOfContents);
        if (commit.sequence !== (last.get(commit.lane) ?? 0) + 1)
          throw new Problem(`a gap before ${commit.lane}/${commit.sequence}`);
        last.set(commit.lane, commit.sequence);
        for (const entry of table.entries) {
          const key = keyOf({ lane: commit.lane, sequence: commit.sequence, n: entry.n });
          found.set(key, { tenant, entry });
          if (entry.kind?.$case === 'instance' || entry.kind?.$case === 'large')
            places.set(key, places.get(key) ?? entry.kind.value.place!);
          if (entry.kind?.$case === 'moved')
            for (const move of entry.kind.value.moves) places.set(keyOf(move.entry!), move.to!);
        }
      }
      if (!this.#disk.powered) return; // what is missing here may be missing for want of power
      for (const head of await archive.log.heads(tenant))
        if ((last.get(head.lane) ?? 0) < head.sequence)
          throw new Problem(`the head ${head.lane}/${head.sequence} cannot be read`);
    }
    if (this.#alarm) throw new Problem(`an alarm without damage: ${this.#alarm}`);
    for (const [key, tenant] of this.acknowledged)
      if (found.get(key)?.tenant !== tenant) throw new Problem(`acknowledged ${key} is missing`);
    for (const key of this.#seen.keys()) if (!found.has(key)) throw new Problem(`${key} was seen and is gone`);
    for (const [key, { entry }] of found) {
      const encoded = createHash('sha256').update(Entry.encode(entry).finish()).digest('hex');
      if ((this.#seen.get(key) ?? encoded) !== encoded) throw new Problem(`${key} has changed`);
      if (!this.#recoveryFailed || this.acknowledged.has(key)) this.#seen.set(key, encoded);
      if (entry.stamp <= (this.#stampAfter.get(key) ?? ''))
        throw new Problem(`the stamp of ${key} is not above what it came after`);
      if (entry.stamp > this.#maxStamp) this.#maxStamp = entry.stamp;
      if (entry.kind?.$case === 'instance' || entry.kind?.$case === 'large')
        await this.#compare(archive, key, places.get(key)!, this.#sent.get(entry.kind.value.sopInstanceUid)!);
    }
  }

  async #compare(archive: Archive, key: string, place: Place, expected: Buffer): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of archive.objects.read(place.object, place.offset, place.length)) chunks.push(chunk);
    } catch (error) {
      if (error instanceof GantryError) throw new Problem(`${key} cannot be read at ${place.object}: ${error.message}`);
      throw error;
    }
    if (!Buffer.concat(chunks).equals(expected)) throw new Problem(`${key} reads as other bytes`);
  }

  #describe(body: Buffer): Instance {
    const sopInstanceUid = `1.2.${++this.#serial}`;
    this.#sent.set(sopInstanceUid, body);
    const digest = createHash('sha256').update(body).digest();
    return {
      studyInstanceUid: '1.2',
      seriesInstanceUid: '1.2.3',
      sopInstanceUid,
      sopClassUid: '1.2.840.10008.5.1.4.1.1.7',
      transferSyntaxUid: '1.2.840.10008.1.2.1',
      version: digest,
      digest,
      place: undefined,
      dataSetOffset: 0,
      head: this.#bytes(this.#int(200)),
      source: undefined,
    };
  }

  /** Some are nothing but zeros, like the sectors that were never written. */
  #bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length, this.#int(256));
    if (this.#int(4) > 0) for (let i = 0; i < length; i += 97) bytes[i] = this.#int(256);
    return bytes;
  }

  #int(below: number): number {
    return Math.floor(this.#random() * below);
  }

  /** Refusals are part of the game; only what the archive promised is checked. */
  #isTrouble(error: unknown): boolean {
    for (let each: unknown = error; each instanceof Error; each = each.cause) {
      const code = (each as NodeJS.ErrnoException).code ?? '';
      if (
        [
          'POWERCUT',
          'EIO',
          'ENOSPC',
          'unavailable',
          'no-space',
          'not-found',
          'failed-precondition',
          'already-exists',
          'conflict',
          'EEXIST',
        ].includes(code)
      )
        return code !== 'failed-precondition' || !/format/.test(each.message);
      if (each instanceof AggregateError) return each.errors.every((inner) => this.#isTrouble(inner));
    }
    return false;
  }
}

function control(name: string): NewEntry {
  return { kind: { $case: 'hold', value: { studyInstanceUid: name, on: true, reason: 'held', actor: 'test' } } };
}

async function* pieces(body: Buffer): AsyncIterable<Buffer> {
  for (let at = 0; at < body.length; at += 3000) yield body.subarray(at, at + 3000);
}
