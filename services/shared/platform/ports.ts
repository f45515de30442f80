import type { Call } from './call.ts';

/** Best effort, pointers only: a lost one costs a delay, never a fact. Subjects: `log.committed`, `study.changed`, `study.settled`. */
export interface Wake {
  publish(subject: string, tenant: string, payload: Buffer): void;
  subscribe(subject: string, listener: (tenant: string, payload: Buffer) => void): () => void;
}

/** Durable, at least once, deduplicated by key while queued. Losing all of it loses no instance. */
export interface Jobs {
  add(job: {
    queue: string;
    key: string;
    tenant: string;
    payload: Buffer;
    notBefore?: number;
  }): Promise<{ added: boolean }>;
  /** `handler` resolves: done. Throws: tried again after a growing wait, until `attemptsMax`, then a dead letter that a person sees. */
  work(
    queue: string,
    options: { concurrency: number; attemptsMax: number; backoffMs: number[] },
    handler: (job: Job) => Promise<void>,
  ): () => Promise<void>;
  list(queue?: string): Promise<JobRow[]>;
  retry(tenant: string, queue: string, key: string): Promise<boolean>;
  remove(tenant: string, queue: string, key: string): Promise<boolean>;
}
export interface Job {
  queue: string;
  key: string;
  tenant: string;
  payload: Buffer;
  attempt: number;
  signal: AbortSignal;
}
export interface JobRow {
  queue: string;
  key: string;
  tenant: string;
  state: 'waiting' | 'running' | 'dead';
  attempts: number;
  notBefore: number;
  lastError: string;
  payload: Buffer;
}

/** Small configured facts, with compare-and-set; exported to data/state, so that the archive alone restores everything. */
export interface KeyValue {
  get(tenant: string, key: string): Promise<{ value: Buffer; revision: number } | undefined>;
  /** `expected` 0: must not exist; undefined: whatever is there. Fails with `conflict`. */
  put(tenant: string, key: string, value: Buffer, expected?: number): Promise<number>;
  delete(tenant: string, key: string, expected?: number): Promise<void>;
  list(tenant: string, prefix: string): Promise<{ key: string; revision: number }[]>;
}

/** Only saves work: correctness never depends on it. */
export interface Lease {
  /** Runs `work` while this process holds `name`; waits for its turn; `signal` of the work aborts when the lease is lost. */
  hold(name: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void>;
}

/** PS3.15 §A.5: who did what to whose data, with which outcome. Every use case calls it once. */
export interface AuditEvent {
  /** DCM code meaning of PS3.15 §A.5.3: 'DICOM Instances Accessed', 'DICOM Instances Transferred', 'Query', 'User Authentication', 'Application Activity', 'Security Alert', 'Export', 'Import', 'Order Record' … */
  event: string;
  action: 'C' | 'R' | 'U' | 'D' | 'E';
  outcome: 0 | 4 | 8 | 12; // success, minor, serious, major failure
  useCase: string; // 'dimse.c-store', 'http.qido.studies': one row a route or service
  /** Study UIDs, entry ids, AE titles; patient IDs are allowed here and nowhere else. */
  objects: { type: 'study' | 'series' | 'instance' | 'patient' | 'query' | 'system'; id: string }[];
  source?: { aeTitle?: string; address?: string };
  detail?: Record<string, string | number>;
}
export interface Audit {
  record(call: Call, event: AuditEvent): void;
}
