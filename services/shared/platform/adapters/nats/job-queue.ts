import type { Logger } from 'pino';
import { GantryError } from '../../errors.ts';
import type { Claimed, JobSource, QueueWorker } from '../queue-worker.ts';
import type { Beats } from './beats.ts';
import { type Entry, JobIndex } from './job-index.ts';
import { type JobState, jobHeader, jobState, known } from './job-record.ts';
import { pause, type Records } from './records.ts';

/** A job in this process's hands. */
interface Claim {
  sequence: number;
  state: JobState;
  payload: Uint8Array;
  lost: AbortController;
  /** Its outcome is being written: what the stream says of it now may be our own word, and the compare-and-set knows. */
  ending: boolean;
}

const OUTCOME_RETRY_MS = 1_000;
/** At the end of the process nobody waits for a NATS that is gone: the job is taken over by its time. */
const LAST_WORD_MS = 2_000;

const isConflict = (error: unknown): boolean => error instanceof GantryError && error.code === 'conflict';

/** One queue as its workers in this process see it: follows the stream, claims, and writes outcomes. */
export class NatsQueue implements JobSource<string> {
  readonly index: JobIndex;
  readonly #records: Records;
  readonly #beats: Beats;
  readonly #log: Logger;
  readonly #workers = new Set<QueueWorker<string>>();
  readonly #held = new Map<string, Claim>();
  readonly #claiming = new Set<string>();
  readonly #ended = new AbortController();
  readonly #unwatch: () => Promise<void>;
  #strangersTold = false;

  constructor(records: Records, beats: Beats, filter: string, log: Logger) {
    this.#records = records;
    this.#beats = beats;
    this.#log = log;
    this.index = new JobIndex(beats);
    this.#unwatch = records.watch(
      filter,
      {
        begin: () => this.index.begin(),
        record: (record) => {
          const state = record.gone ? undefined : jobState(record);
          this.#checkClaim(record.subject, record.sequence, state);
          if (state) this.index.put({ subject: record.subject, sequence: record.sequence, state });
          else this.index.remove(record.subject);
          if (!state && !record.gone) this.#tellStrangers();
          this.look();
        },
        caughtUp: () => {
          this.index.caughtUp();
          this.look();
        },
      },
      (error) => log.warn({ err: error }, 'the job queue could not be followed; it is tried again'),
    );
  }

  get idle(): boolean {
    return this.#workers.size === 0;
  }
  look(): void {
    for (const worker of this.#workers) worker.look();
  }
  enter(worker: QueueWorker<string>): void {
    this.#workers.add(worker);
    worker.look();
  }
  /** The last one to leave ends it. */
  async leave(worker: QueueWorker<string>): Promise<void> {
    this.#workers.delete(worker);
    if (this.idle) this.#ended.abort();
    await worker.stop();
    if (this.idle) await this.#unwatch();
  }
  async close(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => this.leave(worker)));
  }

  #tellStrangers(): void {
    if (this.#strangersTold) return;
    this.#strangersTold = true;
    this.#log.warn('the job queue holds what this release does not understand; it is left for a newer one');
  }

  /** Somebody else has our job: this process was not heard of for too long. */
  #checkClaim(subject: string, sequence: number, state: JobState | undefined): void {
    const claim = this.#held.get(subject);
    if (
      !claim ||
      claim.ending ||
      sequence <= claim.sequence ||
      (state?.state === 'running' && state.owner === this.#beats.id)
    )
      return;
    this.#lose(claim);
  }
  #lose(claim: Claim): void {
    if (claim.lost.signal.aborted) return;
    this.#log.warn(
      { queue: claim.state.queue },
      'a job was given to another process, or taken away, while it ran here',
    );
    claim.lost.abort(new GantryError('cancelled', 'the job was given to another process'));
  }

  async claim(_queue: string, count: number, attemptsMax: number, now: number) {
    // Nothing to be had, and nothing to complain about: the connection has said it, and following it anew looks again.
    if (!this.#records.link.connected) return { jobs: [], nextAt: null };
    const isFree = ({ subject }: Entry) => !this.#held.has(subject) && !this.#claiming.has(subject);
    const due = this.index.due(now, count, isFree);
    for (const { subject } of due) this.#claiming.add(subject);
    const claims = await Promise.allSettled(due.map((entry) => this.#claimOne(entry, attemptsMax)));
    const jobs = claims.flatMap((claim) => (claim.status === 'fulfilled' && claim.value ? [claim.value] : []));
    const failed = claims.find((claim) => claim.status === 'rejected');
    // What was claimed is in our hands whatever became of the others, which are in the index again.
    if (failed && jobs.length === 0 && this.#records.link.connected) throw failed.reason;
    return { jobs, nextAt: this.index.nextAt(Date.now()) };
  }

  async #claimOne(entry: Entry, attemptsMax: number): Promise<Claimed<string> | undefined> {
    const { subject } = entry;
    try {
      const record = await this.#records.read(subject);
      if (!record || record.gone) return void this.index.remove(subject);
      const state = known(record);
      // A claim of ours whose answer was lost: that attempt never began.
      const ours = state.state === 'running' && state.owner === this.#beats.id;
      const isDue = state.state === 'waiting' && state.notBefore <= Date.now();
      if (!isDue && !ours && !(state.state === 'running' && this.#beats.isDead(state.owner)))
        return void this.index.put({ subject, sequence: record.sequence, state });
      const attempts = ours ? state.attempts - 1 : state.attempts;
      const next: JobState =
        attempts >= attemptsMax // its process died each time: no answer of it was ever seen
          ? { ...state, state: 'dead', owner: '', lastError: 'the process ended while it ran' }
          : { ...state, state: 'running', owner: this.#beats.id, again: false, attempts: attempts + 1 };
      const { body: payload } = record;
      const sequence = await this.#records.write(
        subject,
        { header: jobHeader(next), body: payload },
        { expected: record.sequence },
      );
      this.index.put({ subject, sequence, state: next });
      if (next.state === 'dead') {
        this.#log.error({ queue: next.queue }, 'a job ended its process too often: it waits for a person');
        return undefined;
      }
      const claim: Claim = { sequence, state: next, payload, lost: new AbortController(), ending: false };
      this.#held.set(subject, claim);
      const { key, tenant, attempts: attempt } = next;
      return { id: subject, key, tenant, payload, attempt, lost: claim.lost.signal };
    } catch (error) {
      if (isConflict(error)) return undefined; // somebody was faster, and the stream tells who
      this.index.putBack(entry);
      throw error;
    } finally {
      this.#claiming.delete(subject);
    }
  }

  done(id: string): Promise<void> {
    return this.#settle(id, (state) => (state.again ? { ...waiting(state), attempts: 0, lastError: '' } : undefined));
  }
  failed(id: string, error: string, notBefore: number, dead: boolean): Promise<void> {
    return this.#settle(id, (state) => {
      // Added again while it ran: the newcomer gets its attempts in full, and its own time.
      if (state.again) return { ...waiting(state), attempts: 0, lastError: error };
      return { ...waiting(state), state: dead ? 'dead' : 'waiting', notBefore, lastError: error };
    });
  }
  release(id: string): Promise<void> {
    return this.#settle(id, (state) => ({ ...waiting(state), attempts: Math.max(0, state.attempts - 1) }));
  }

  /**
   * Writes how it ended; `outcome` undefined: it is done. NATS being gone is waited for, however long: until then the job is in our
   * hands, and nobody else must be given it.
   */
  async #settle(subject: string, outcome: (state: JobState) => JobState | undefined): Promise<void> {
    const claim = this.#held.get(subject);
    if (!claim) return;
    claim.ending = true;
    try {
      while (!claim.lost.signal.aborted) {
        try {
          if (await this.#write(subject, claim, outcome(claim.state))) return;
        } catch (error) {
          if (!(error instanceof GantryError) || error.code !== 'unavailable') throw error;
          if (this.#ended.signal.aborted) throw error;
          await pause(OUTCOME_RETRY_MS, AbortSignal.any([this.#ended.signal, claim.lost.signal]));
        }
      }
    } finally {
      this.#held.delete(subject);
      this.look();
    }
  }

  /** False: the job was added again meanwhile, and `claim` says so. */
  async #write(subject: string, claim: Claim, next: JobState | undefined): Promise<boolean> {
    const limitMs = this.#ended.signal.aborted ? LAST_WORD_MS : undefined;
    const { sequence: expected, payload: body } = claim;
    try {
      if (next) {
        const sequence = await this.#records.write(subject, { header: jobHeader(next), body }, { expected, limitMs });
        this.index.put({ subject, sequence, state: next });
      } else {
        await this.#records.remove(subject, expected, limitMs);
        this.index.remove(subject);
      }
      return true;
    } catch (error) {
      if (!isConflict(error)) throw error;
      const record = await this.#records.read(subject, limitMs);
      const state = record && !record.gone ? jobState(record) : undefined;
      if (!record || state?.state !== 'running' || state.owner !== this.#beats.id) {
        this.#lose(claim);
        return true;
      }
      Object.assign(claim, { sequence: record.sequence, state, payload: record.body });
      return false;
    }
  }
}

const waiting = (state: JobState): JobState => ({ ...state, state: 'waiting', again: false, owner: '' });
