import type { EntryId } from '#proto/storage/v1/log.ts';

export interface Header {
  head: Buffer;
  charset: string;
}

/** Headers of a series that stand in no metadata object yet, as far as they were read. */
export interface RecentHeads {
  /** By entry (`idKey`). */
  readonly heads: Map<string, Header>;
  bytes: number;
}

/** Headers that the index does not have: they are to be read from the log again (`settle.ts`). */
export class MissingHeads extends Error {
  readonly entries: EntryId[];
  constructor(entries: EntryId[]) {
    super(`${entries.length} headers are missing`);
    this.name = 'MissingHeads';
    this.entries = entries;
  }
}
