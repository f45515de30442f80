import { DatabaseSync } from 'node:sqlite';
import { GantryError } from '../../errors.ts';
import type { JobRow } from '../../ports.ts';

/** The queue's table and its statements. Synchronous: it runs in jobs.worker.ts, so that no fsync holds up an association. */
const FORMAT = 1;

export interface Claimed {
  id: number;
  key: string;
  tenant: string;
  payload: Uint8Array;
  attempt: number;
}
export interface QueueDepth {
  queue: string;
  state: JobRow['state'];
  jobs: number;
  dueMs: number;
}
export interface Limits {
  jobsMax: number;
  payloadMax: number;
}

export class JobStore {
  readonly #db: DatabaseSync;
  /** Rows in the table: counting them each time would read them all. */
  #count = 0;
  readonly #statements = new Map<string, ReturnType<DatabaseSync['prepare']>>();

  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    // EXCLUSIVE: a second process on this data directory is refused here, before it can touch anything (storage has a lock of its own
    // for the archive). The lock dies with its owner.
    // FULL: a job that was promised (a commitment request that was answered) survives a power cut.
    this.#db.exec(
      'PRAGMA busy_timeout=1000; PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;',
    );
    if ((this.#db.prepare('PRAGMA quick_check(1)').get() as { quick_check: string }).quick_check !== 'ok')
      throw new GantryError('damaged', 'the job queue is damaged');
    const { user_version: version } = this.#db.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version > FORMAT)
      throw new GantryError(
        'failed-precondition',
        `the job queue was written by a newer Gantry (format ${version}, this one knows ${FORMAT}): start that release, or remove data/derived/jobs.sqlite`,
      );
    this.#db.exec(`
      BEGIN;
      CREATE TABLE IF NOT EXISTS jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL, queue TEXT NOT NULL, key TEXT NOT NULL,
        state TEXT NOT NULL,            -- waiting, running, dead
        again INTEGER NOT NULL,         -- added once more while it ran: it runs again
        attempts INTEGER NOT NULL,      -- begun, so that a job that kills the process ends as a dead letter
        not_before INTEGER NOT NULL, last_error TEXT NOT NULL, payload BLOB NOT NULL,
        UNIQUE (tenant, queue, key)
      ) STRICT;
      CREATE INDEX IF NOT EXISTS jobs_due ON jobs (queue, state, not_before);
      UPDATE jobs SET state = 'waiting', again = 0 WHERE state = 'running'; -- its process ended while it ran
      PRAGMA user_version = ${FORMAT};
      COMMIT;`);
    this.#recount();
  }

  #recount(): void {
    this.#count = this.#get<{ n: number }>('SELECT count(*) AS n FROM jobs')!.n;
  }
  #delete(sql: string, ...values: (string | number)[]): number {
    const removed = Number(this.#run(sql, ...values).changes);
    this.#count -= removed;
    return removed;
  }
  #run(sql: string, ...values: (string | number | Uint8Array)[]) {
    return this.#prepare(sql).run(...values);
  }
  #get<T>(sql: string, ...values: (string | number | Uint8Array)[]): T | undefined {
    return this.#prepare(sql).get(...values) as T | undefined;
  }
  #prepare(sql: string) {
    let statement = this.#statements.get(sql);
    if (!statement) this.#statements.set(sql, (statement = this.#db.prepare(sql)));
    return statement;
  }

  /** Several operations in one transaction, hence in one fsync. */
  transaction(work: () => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      this.#recount();
      throw error;
    }
  }

  add(
    job: { queue: string; key: string; tenant: string; payload: Uint8Array; notBefore: number },
    limits: Limits,
  ): boolean {
    if (job.payload.length > limits.payloadMax)
      throw new GantryError('too-large', `the job has ${job.payload.length} bytes; ${limits.payloadMax} are allowed`);
    const same = this.#get<{ id: number; state: string }>(
      'SELECT id, state FROM jobs WHERE tenant = ? AND queue = ? AND key = ?',
      job.tenant,
      job.queue,
      job.key,
    );
    if (!same) {
      if (this.#count >= limits.jobsMax)
        throw new GantryError('no-permit', `the job queues hold ${this.#count} jobs, and no more are allowed`);
      this.#run(
        "INSERT INTO jobs (tenant, queue, key, state, again, attempts, not_before, last_error, payload) VALUES (?, ?, ?, 'waiting', 0, 0, ?, '', ?)",
        job.tenant,
        job.queue,
        job.key,
        job.notBefore,
        job.payload,
      );
      this.#count++;
      return true;
    }
    if (same.state === 'waiting') {
      this.#run('UPDATE jobs SET not_before = min(not_before, ?) WHERE id = ?', job.notBefore, same.id);
      return false;
    }
    if (same.state === 'running') {
      // What is added now may have happened after the handler looked: it runs once more.
      this.#run(
        'UPDATE jobs SET again = 1, not_before = ?, payload = ? WHERE id = ?',
        job.notBefore,
        job.payload,
        same.id,
      );
      return true;
    }
    this.#run(
      "UPDATE jobs SET state = 'waiting', attempts = 0, not_before = ?, payload = ? WHERE id = ?",
      job.notBefore,
      job.payload,
      same.id,
    );
    return true;
  }

  /** Takes up to `count` jobs that are due; `nextAt` says when the next one will be. */
  claim(queue: string, count: number, attemptsMax: number, now: number): { jobs: Claimed[]; nextAt: number | null } {
    // They ran as often as they may and their process died each time: no answer of theirs was ever seen.
    this.#run(
      "UPDATE jobs SET state = 'dead', last_error = 'the process ended while it ran' WHERE queue = ? AND state = 'waiting' AND attempts >= ?",
      queue,
      attemptsMax,
    );
    const rows = this.#prepare(
      "SELECT id, key, tenant, payload, attempts FROM jobs WHERE queue = ? AND state = 'waiting' AND not_before <= ? ORDER BY not_before, id LIMIT ?",
    ).all(queue, now, count) as unknown as (Omit<Claimed, 'attempt'> & { attempts: number })[];
    for (const row of rows)
      this.#run("UPDATE jobs SET state = 'running', attempts = attempts + 1, again = 0 WHERE id = ?", row.id);
    const next = this.#get<{ at: number | null }>(
      "SELECT min(not_before) AS at FROM jobs WHERE queue = ? AND state = 'waiting'",
      queue,
    );
    return { jobs: rows.map(({ attempts, ...row }) => ({ ...row, attempt: attempts + 1 })), nextAt: next?.at ?? null };
  }

  done(id: number): void {
    this.#delete('DELETE FROM jobs WHERE id = ? AND again = 0', id);
    this.#run(
      "UPDATE jobs SET state = 'waiting', again = 0, attempts = 0, last_error = '' WHERE id = ? AND state = 'running'",
      id,
    );
  }
  failed(id: number, error: string, notBefore: number, dead: boolean): void {
    // Added again while it ran: the newcomer gets its attempts in full.
    this.#run(
      "UPDATE jobs SET state = 'waiting', again = 0, attempts = 0, last_error = ? WHERE id = ? AND again = 1",
      error,
      id,
    );
    this.#run(
      'UPDATE jobs SET state = ?, last_error = ?, not_before = ? WHERE id = ? AND state = ?',
      dead ? 'dead' : 'waiting',
      error,
      notBefore,
      id,
      'running',
    );
  }
  /** It was interrupted by our own stop: that attempt does not count. */
  release(id: number): void {
    this.#run(
      "UPDATE jobs SET state = 'waiting', again = 0, attempts = max(0, attempts - 1) WHERE id = ? AND state = 'running'",
      id,
    );
  }
  list(queue: string | undefined): (Omit<JobRow, 'payload'> & { payload: Uint8Array })[] {
    const columns = 'queue, key, tenant, state, attempts, not_before AS notBefore, last_error AS lastError, payload';
    const rows =
      queue === undefined
        ? this.#prepare(`SELECT ${columns} FROM jobs ORDER BY queue, id`).all()
        : this.#prepare(`SELECT ${columns} FROM jobs WHERE queue = ? ORDER BY id`).all(queue);
    return rows.map((row) => ({ ...row })) as unknown as (Omit<JobRow, 'payload'> & { payload: Uint8Array })[];
  }
  /** How many there are, and since when the oldest that is due has been. */
  depth(now: number): QueueDepth[] {
    return this.#prepare(
      `SELECT queue, state, count(*) AS jobs, max(0, ? - min(not_before)) AS dueMs FROM jobs GROUP BY queue, state`,
    )
      .all(now)
      .map((row) => ({ ...row })) as unknown as QueueDepth[];
  }
  retry(tenant: string, queue: string, key: string, now: number): boolean {
    return (
      this.#run(
        "UPDATE jobs SET state = 'waiting', attempts = 0, not_before = ? WHERE tenant = ? AND queue = ? AND key = ? AND state != 'running'",
        now,
        tenant,
        queue,
        key,
      ).changes > 0
    );
  }
  remove(tenant: string, queue: string, key: string): boolean {
    const sql = "DELETE FROM jobs WHERE tenant = ? AND queue = ? AND key = ? AND state != 'running'";
    return this.#delete(sql, tenant, queue, key) > 0;
  }
  close(): void {
    this.#statements.clear();
    this.#db.close();
  }
}
