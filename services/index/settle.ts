import { systemCall } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import type { Jobs, Wake } from '#platform/ports.ts';
import type { Service } from '#platform/rpc.types.ts';
import { StudyEvent } from '#proto/index/v1/index.ts';
import type { EntryId } from '#proto/storage/v1/log.ts';
import type { Commit, DataService } from '#proto/storage/v1/storage.ts';
import { Fenced } from './fence.ts';
import type { DueStudy, SettlingStore } from './ports.ts';
import { MissingHeads } from './state/heads.ts';
import { ALONE, type Turn } from './turn.ts';

const STUDIES_AT_ONCE = 20;
/** A study that cannot be settled (a full disk) is left alone for so long. */
const RETRY_MS = 30_000;

export interface SettlerOptions {
  store: { settling: SettlingStore };
  data: Pick<Service<typeof DataService>, 'readLog'>;
  jobs: Jobs;
  wake: Wake;
  log: Context['log'];
  settleMs: () => number;
  /** Of several processes one settles: twice would do no harm. */
  turn?: Turn;
}

/** Announces studies to which nothing was added for a while, once their metadata objects are written. At least once; jobs are deduplicated. */
export class Settler {
  readonly #options: SettlerOptions;
  readonly #later = new Map<number | string, number>();
  #jobsGone = false;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#stop.signal.aborted) return;
    // Often enough that a short `index.settleMs` is kept to within a half.
    const waitMs = Math.min(1_000, Math.max(20, this.#options.settleMs() / 2));
    this.#timer = setTimeout(() => {
      this.#running = this.tick().finally(() => this.start());
    }, waitMs);
    this.#timer.unref();
  }

  async tick(): Promise<void> {
    const { store, settleMs, log, turn = ALONE } = this.#options;
    if (!turn.held) return;
    try {
      for (;;) {
        const due = await store.settling.due(Date.now() - settleMs(), STUDIES_AT_ONCE + this.#later.size);
        const now = Date.now();
        const ready = due.filter((study) => (this.#later.get(study.study) ?? 0) <= now).slice(0, STUDIES_AT_ONCE);
        for (const study of ready) {
          if (this.#stop.signal.aborted) return;
          await this.#one(study);
        }
        if (ready.length < STUDIES_AT_ONCE) return;
      }
    } catch (error) {
      // What is fenced is replaced in a second: it is due in the next one.
      if (this.#stop.signal.aborted || error instanceof JobsGone || error instanceof Fenced) return;
      log.warn({ err: error }, 'studies could not be settled');
    }
  }

  async #one(study: DueStudy): Promise<void> {
    const { store, jobs, wake, log } = this.#options;
    const { tenant, studyInstanceUid } = study;
    try {
      if (study.settled === 0 && !(await this.#settle(study))) return; // it changed: due again
      const payload = Buffer.from(StudyEvent.encode({ tenant, studyInstanceUid }).finish());
      await jobs
        .add({ queue: 'study.settled', key: `${tenant}/${studyInstanceUid}`, tenant, payload })
        .catch((error) => this.#refused(error));
      if (this.#jobsGone) log.info('jobs are taken again: studies go on settling');
      this.#jobsGone = false;
      wake.publish('study.settled', tenant, payload);
      await store.settling.announced(study);
      this.#later.delete(study.study);
    } catch (error) {
      if (error instanceof JobsGone || error instanceof Fenced) throw error;
      this.#later.set(study.study, Date.now() + RETRY_MS);
      log.warn({ err: error, studyInstanceUid }, 'a study could not be settled; it is tried again');
    }
  }

  /** Nobody takes jobs now (NATS is gone): each further study would wait as long for the same answer. Said once, asked again next time. */
  #refused(error: unknown): never {
    if (!(error instanceof GantryError && error.code === 'unavailable')) throw error;
    if (!this.#jobsGone) this.#options.log.warn({ err: error }, 'nobody takes jobs: studies settle once somebody does');
    this.#jobsGone = true;
    throw new JobsGone();
  }

  async #settle(study: DueStudy): Promise<boolean> {
    const { settling } = this.#options.store;
    try {
      return await settling.settle(study);
    } catch (error) {
      if (!(error instanceof MissingHeads)) throw error;
      await recoverHeads(this.#options.data, settling, study.tenant, error.entries, this.#stop.signal);
      return settling.settle(study);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }
}

class JobsGone extends Error {}

const COMMITS_AT_ONCE = 64;

/** Reads headers again from the tables of contents that brought them: metadata objects may be lost, the log is not. */
export async function recoverHeads(
  data: Pick<Service<typeof DataService>, 'readLog'>,
  settling: SettlingStore,
  tenant: string,
  entries: readonly EntryId[],
  signal: AbortSignal,
): Promise<void> {
  const wanted = new Set(entries.map(({ lane, sequence }) => `${lane}/${sequence}`));
  let commits: Commit[] = [];
  for (const { lane, first, last } of runsOf(entries)) {
    const enough = new AbortController();
    const call = systemCall(tenant, 'index.heads', AbortSignal.any([signal, enough.signal]));
    for await (const commit of data.readLog(call, { after: [{ lane, sequence: first - 1 }], lanes: [lane] })) {
      if (wanted.has(`${lane}/${commit.sequence}`)) commits.push(commit);
      if (commit.sequence >= last) break;
      if (commits.length < COMMITS_AT_ONCE) continue;
      await settling.giveHeads(tenant, commits);
      commits = [];
    }
    enough.abort();
  }
  if (commits.length > 0) await settling.giveHeads(tenant, commits);
}

/** Commits that lie near each other in a lane are read in one go. */
function runsOf(entries: readonly EntryId[]): { lane: string; first: number; last: number }[] {
  const runs: { lane: string; first: number; last: number }[] = [];
  const sorted = [...entries].sort((a, b) => (a.lane === b.lane ? a.sequence - b.sequence : a.lane < b.lane ? -1 : 1));
  for (const { lane, sequence } of sorted) {
    const run = runs.at(-1);
    if (run?.lane === lane && sequence - run.last <= RUN_GAP) run.last = sequence;
    else runs.push({ lane, first: sequence, last: sequence });
  }
  return runs;
}
const RUN_GAP = 8;
