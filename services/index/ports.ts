import type { RawCommit } from './fold/commit.ts';
import type { VersionPolicy } from './fold/types.ts';
import type { FoldResult } from './state/commits.ts';

export type { FoldResult };

/** What was folded, and into which index: after a rebuild it is one of a higher number, which knows nothing of the former's positions. */
export interface Folded extends FoldResult {
  generation: number;
}
/** How far lanes are folded, and in which index. */
export interface Reached {
  generation: number;
  positions: Map<string, number>;
}

/**
 * Where the projection lives: SQLite in one process, Elasticsearch in the cluster. Correctness asks three things of an adapter: rows
 * and positions become visible together; folding a commit again changes nothing; a query sees one committed state.
 * `index.contract.ts` is what every adapter must pass.
 */
export interface IndexStore {
  /** How far each lane of the tenant is folded. */
  positions(tenant: string): Promise<Reached>;
  tenants(): Promise<string[]>;
  /** Fails with `Fenced` while another index is about to take this one's place. */
  fold(tenant: string, commits: readonly RawCommit[]): Promise<Folded>;
  /** Runs a named query (`queries.ts`) and streams its rows; stops when the signal aborts or nobody takes rows for `idleMs`. */
  query<Row>(name: string, args: unknown, options?: QueryOptions): AsyncIterable<Row>;
  /**
   * Once this returns, searches find all that was folded before into the index that it names, by whichever process, and whichever process
   * is asked. `byUid`: questions that name a study do; nothing is said of searches.
   */
  show(byUid?: boolean): Promise<number>;
  settling: SettlingStore;
  /** A second, empty index beside this one; `complete` puts it in this one's place while queries go on. */
  beginRebuild(): Promise<Rebuilding>;
  /** Removes what rebuilds that were killed have left behind, a fence too; called while none runs. Absent: a start does that. */
  tidy?(): Promise<void>;
  close(): Promise<void>;
}

export interface QueryOptions {
  signal?: AbortSignal;
  /** Queries of one key go to one reader, whose caches know it. */
  affinity?: string;
}

export interface Rebuilding {
  fold(tenant: string, commits: readonly RawCommit[]): Promise<FoldResult>;
  positions(tenant: string): Promise<Map<string, number>>;
  /** Once this returns, nobody folds into the index that is there, until this is completed or abandoned. Absent: nobody else folds. */
  fence?(): Promise<void>;
  complete(): Promise<void>;
  abandon(): Promise<void>;
}

export interface DueStudy {
  /** Of the index that it is due in: another one, after a rebuild, numbers its studies anew. */
  generation: number;
  tenant: string;
  study: number | string;
  studyInstanceUid: string;
  /** 0: metadata objects are still to be written; 1: only the announcement is. */
  settled: number;
  /** As it was found due, where the store counts that. */
  revision?: number;
}
/** What has arrived becomes what has settled. */
export interface SettlingStore {
  /** Studies that nothing has touched since `beforeMs`, oldest first. */
  due(beforeMs: number, limit: number): Promise<DueStudy[]>;
  /** Writes the study's metadata objects. False: it changed meanwhile, and is due again later. */
  settle(study: DueStudy): Promise<boolean>;
  announced(study: DueStudy): Promise<void>;
  /** Headers read again from the log, for a metadata object that was lost. */
  giveHeads(tenant: string, commits: readonly RawCommit[]): Promise<void>;
}

/** Commits folded in one transaction when behind: many make the fold cheap, few keep the wait short. */
export const FOLD_COMMITS_MAX = 256;
export const FOLD_BYTES_MAX = 8 * 2 ** 20;

export interface IndexOptions {
  directory: string; // data/derived
  policy: VersionPolicy;
  readers: number;
  queriesMax: () => number;
  queryIdleMs: () => number;
  metadataCacheBytes: number;
}
