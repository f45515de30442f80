import type { Call } from '#platform/call.ts';
import { type EntryId, type Position, TableOfContents } from '#proto/storage/v1/log.ts';
import type { Archive } from '../ports.ts';

interface Named {
  readonly studyInstanceUid: string;
  /** Commits that name it: usually one. */
  readonly at: Position[];
}

/**
 * Which packs and large objects the log names. Read once a process, then only what is new; a row an object, not an instance: which entries
 * are in one is read again from the commits that say so, when it may go.
 */
export class NamedObjects {
  readonly #archive: Archive;
  readonly #tenant: string;
  readonly #readTo = new Map<string, number>();
  readonly #objects = new Map<string, Named>();
  /** Studies of which something was dropped, or moved out of a pack: only their objects can have become free. */
  readonly touched = new Set<string>();
  #missed = false;

  constructor(archive: Archive, tenant: string) {
    this.#archive = archive;
    this.#tenant = tenant;
  }

  async follow(call: Call): Promise<void> {
    const after = [...this.#readTo].map(([lane, sequence]) => ({ lane, sequence }));
    for await (const { lane, sequence, tableOfContents } of this.#archive.log.read(
      this.#tenant,
      after,
      [],
      call.signal,
    )) {
      if (sequence !== (this.#readTo.get(lane) ?? 0) + 1) this.#missed = true;
      for (const { kind } of TableOfContents.decode(tableOfContents).entries) {
        if (kind?.$case === 'large') this.#name(kind.value.place!.object, kind.value.studyInstanceUid, lane, sequence);
        if (kind?.$case !== 'moved') continue;
        const { moves, dropped, studyInstanceUid } = kind.value;
        if (dropped.length > 0 || moves.some(({ from }) => !from?.object.startsWith('log/')))
          this.touched.add(studyInstanceUid);
        for (const { to } of moves) this.#name(to!.object, studyInstanceUid, lane, sequence);
      }
      this.#readTo.set(lane, sequence);
    }
  }

  /**
   * Whether every commit up to the heads was read: one that is damaged, or of a newer release, may name what looks like an orphan.
   */
  async complete(): Promise<boolean> {
    const { log } = this.#archive;
    const { unreadableLane, hiddenEntries } = log.incomplete(this.#tenant);
    if (this.#missed || hiddenEntries || unreadableLane !== undefined) return false;
    const heads = await log.heads(this.#tenant);
    return heads.every(({ lane, sequence }) => (this.#readTo.get(lane) ?? 0) >= sequence);
  }

  has(object: string): boolean {
    return this.#objects.has(object);
  }

  /** Of the studies that were touched. */
  *candidates(): Generator<{ object: string; studyInstanceUid: string }> {
    if (this.touched.size > 0)
      for (const [object, { studyInstanceUid }] of this.#objects)
        if (this.touched.has(studyInstanceUid)) yield { object, studyInstanceUid };
  }

  removed(object: string): void {
    this.#objects.delete(object);
  }

  /** The entries that were ever put there; undefined: not all of them can be read. */
  async entriesIn(call: Call, object: string): Promise<EntryId[] | undefined> {
    const ids: EntryId[] = [];
    for (const { lane, sequence } of this.#objects.get(object)?.at ?? []) {
      let found = false;
      const from = [{ lane, sequence: sequence - 1 }];
      for await (const commit of this.#archive.log.read(this.#tenant, from, [lane], call.signal)) {
        if (commit.sequence !== sequence) break;
        found = true;
        for (const { n, kind } of TableOfContents.decode(commit.tableOfContents).entries) {
          if (kind?.$case === 'large' && kind.value.place!.object === object) ids.push({ lane, sequence, n });
          if (kind?.$case === 'moved')
            for (const { entry, to } of kind.value.moves) if (to!.object === object) ids.push(entry!);
        }
        break;
      }
      if (!found) return undefined;
    }
    return ids.length > 0 ? ids : undefined;
  }

  #name(object: string, studyInstanceUid: string, lane: string, sequence: number): void {
    const known = this.#objects.get(object);
    if (!known) this.#objects.set(object, { studyInstanceUid, at: [{ lane, sequence }] });
    else if (!known.at.some((one) => one.lane === lane && one.sequence === sequence)) known.at.push({ lane, sequence });
  }
}
