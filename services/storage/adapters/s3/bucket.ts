import { setTimeout as sleep } from 'node:timers/promises';
import { ulid } from 'ulid';
import { GantryError } from '#platform/errors.ts';

/**
 * What the archive asks of an object store, and no more: whole objects, ranges, lists in the order of keys, and a put that is refused
 * when the key is there. `bucket.minio.ts` speaks S3; `bucket.model.ts` is a store in memory that fails in every way an S3 can.
 */
export interface Bucket {
  /**
   * `ifAbsent`: fails with `exists` when the key is there. `unclear` says that nobody knows whether the object was written, or will
   * be, later: only the same bytes may be put under that key again.
   */
  put(key: string, body: Buffer, options?: { ifAbsent?: boolean }): Promise<void>;
  /** The whole object, a range of it (shorter at its end), or its last bytes. Undefined: not there. */
  get(key: string, range?: Range): Promise<Got | undefined>;
  head(key: string): Promise<Row | undefined>;
  /** Pages of keys in ascending order. `shallow`: up to the next slash, of what lies deeper only the folder (`key` ends with a slash). */
  list(prefix: string, options?: { after?: string; shallow?: boolean }): AsyncIterable<Row[]>;
  remove(key: string): Promise<void>;
  /** An object in parts: it is there, whole, when `complete` resolves, which fails with `exists` when the key is there by then. */
  beginUpload(key: string): Promise<Upload>;
  /** Uploads that were begun and neither completed nor aborted. */
  uploads(prefix: string): AsyncIterable<AbandonedUpload>;
  /** The store's clock, as its last answer told it: ages are measured by the clock that wrote them. */
  now(): number;
}

export type Range = { readonly offset: number; readonly length: number } | { readonly last: number };

export interface Got {
  readonly bytes: Buffer;
  /** Of the whole object. */
  readonly total: number;
  readonly modifiedMs: number;
}

export interface Row {
  readonly key: string;
  readonly bytes: number;
  readonly modifiedMs: number;
  /** From a list: another one when the bytes are others. */
  readonly tag?: string;
}

export interface Upload {
  part(number: number, body: Buffer): Promise<void>;
  complete(): Promise<void>;
  abort(): Promise<void>;
}

export interface AbandonedUpload {
  readonly key: string;
  readonly begunMs: number;
  abort(): Promise<void>;
}

/**
 * `exists`: the key is taken. `full`: quota or disk. `unclear`: no answer, or one that says nothing (5xx, a reset, a timeout).
 * `refused`: the store will not do it, whoever asks again (keys, policies, a bucket that is not there).
 */
export type BucketFault = 'exists' | 'full' | 'unclear' | 'refused';

const CODE = { exists: 'already-exists', full: 'no-space', unclear: 'unavailable', refused: 'unavailable' } as const;

export class BucketError extends GantryError {
  readonly fault: BucketFault;

  constructor(fault: BucketFault, message: string, options: { cause?: unknown } = {}) {
    super(CODE[fault], message, options);
    this.name = 'BucketError';
    this.fault = fault;
  }
}

export const isFault = (error: unknown, fault: BucketFault): boolean =>
  error instanceof BucketError && error.fault === fault;

/** What the adapter does with time; tests give it a time of their own. */
export interface Clockwork {
  /** Monotonic. */
  elapsedMs(): number;
  pause(ms: number): Promise<void>;
  random(): number;
  /** A ULID of that time. */
  name(ms: number): string;
}

export const realClockwork: Clockwork = {
  elapsedMs: () => performance.now(),
  pause: (ms) => sleep(ms),
  random: Math.random,
  name: (ms) => ulid(ms),
};

/** Full jitter: processes that failed together do not come back together. */
export function backoffMs(attempt: number, random: () => number): number {
  return Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt) * (0.5 + random() / 2);
}
const BACKOFF_BASE_MS = 50;
const BACKOFF_MAX_MS = 2000;

/**
 * How often a whole process may try again: a tenth of its requests, and a few to begin with. A store that is slow because it is
 * overloaded is not asked three times as much.
 */
export class RetryBudget {
  #tokens = TOKENS_MAX;

  succeeded(): void {
    this.#tokens = Math.min(TOKENS_MAX, this.#tokens + 0.1);
  }

  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
const TOKENS_MAX = 20;
