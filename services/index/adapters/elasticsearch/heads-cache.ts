import { type EntryId, TableOfContents } from '#proto/storage/v1/log.ts';
import type { RawCommit } from '../../fold/commit.ts';
import type { Header } from '../../state/heads.ts';

/** Tables of contents that came by: headers until a study settles. What is not here is read from the log again. */
export class HeadsCache {
  readonly #bytesMax: number;
  readonly #tables = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  keep(tenant: string, commits: readonly RawCommit[]): void {
    for (const { lane, sequence, tableOfContents } of commits) {
      const key = `${tenant}/${lane}/${sequence}`;
      if (this.#tables.has(key)) continue;
      this.#tables.set(key, tableOfContents);
      this.#bytes += tableOfContents.length;
    }
    for (const [key, table] of this.#tables) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#tables.delete(key);
      this.#bytes -= table.length;
    }
  }

  /** What is found of them, by entry. */
  take(tenant: string, entries: readonly EntryId[], found: (id: EntryId, header: Header) => void): void {
    const byCommit = Map.groupBy(entries, (one) => `${tenant}/${one.lane}/${one.sequence}`);
    for (const [key, ids] of byCommit) {
      const table = this.#tables.get(key);
      if (!table) continue;
      const byNumber = new Map(TableOfContents.decode(table).entries.map((one) => [one.n, one.kind]));
      for (const id of ids) {
        const kind = byNumber.get(id.n);
        if (kind?.$case !== 'instance' && kind?.$case !== 'large') continue;
        const { head, source } = kind.value;
        found(id, { head: Buffer.from(head), charset: source?.defaultCharset ?? '' });
      }
    }
  }
}
