import type { EntryRow } from '#proto/index/v1/index.ts';

/** Instances whose bytes the keeper found damaged: they stay where they are until a person looks, and Status names them. */
export class Damage {
  readonly #found = new Map<string, { tenant: string; study: string; detail: string }>();

  add(tenant: string, row: EntryRow): void {
    const { object, offset } = row.place!;
    if (this.#found.size >= LISTED_MAX) return;
    this.#found.set(`${tenant} ${object} ${offset}`, {
      tenant,
      study: row.studyInstanceUid,
      detail: `instance ${row.sopInstanceUid} of study ${row.studyInstanceUid} at ${object}+${offset}`,
    });
  }

  /** The study is looked at again: what is still damaged is found again. */
  forget(tenant: string, study: string): void {
    for (const [key, one] of this.#found) if (one.tenant === tenant && one.study === study) this.#found.delete(key);
  }

  list(tenant: string): string[] {
    return [...this.#found.values()].filter((one) => one.tenant === tenant).map(({ detail }) => detail);
  }
}

/** A lost segment damages thousands at once; a person needs the first of them, verify lists all. */
const LISTED_MAX = 1000;
