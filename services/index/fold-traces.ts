import { type Call, systemCall } from '#platform/call.ts';
import { parseTraceparent, type TraceContext, type Tracing } from '#platform/trace.ts';
import type { LogCommitted } from '#proto/storage/v1/log.ts';
import type { FoldResult } from './ports.ts';

/** Traced commits that wait for their fold, and studies that wait to be read for the first time: beyond these, the oldest is forgotten. */
const COMMITS_MAX = 1_000;
const STUDIES_MAX = 1_000;

interface Announced {
  tenant: string;
  lane: string;
  sequence: number;
  contexts: TraceContext[];
  sinceMs: number;
}

/**
 * How a trace goes on behind the answer to its sender. A fold is a step in the trace of the first traced commit that it folds, linked to
 * those of the others; the first retrieval of a study then is a step of the fold that made it visible, linked to the trace of who reads.
 */
export class FoldTraces {
  readonly #trace: Tracing;
  #announced: Announced[] = [];
  readonly #unread = new Map<string, TraceContext>();

  constructor(trace: Tracing) {
    this.#trace = trace;
  }

  announced(tenant: string, { lane, sequence, traceparents }: LogCommitted): void {
    if (traceparents.length === 0) return;
    const contexts = traceparents.map(parseTraceparent).filter((one) => one?.sampled === true);
    if (contexts.length === 0) return;
    if (this.#announced.length >= COMMITS_MAX) this.#announced.shift();
    this.#announced.push({ tenant, lane, sequence, contexts: contexts as TraceContext[], sinceMs: Date.now() });
  }

  /** The call within the fold's span, for who measures it. */
  folded(tenant: string, result: FoldResult): Call | undefined {
    if (this.#announced.length === 0) return undefined;
    const reached = new Map(result.positions.map(({ lane, sequence }) => [lane, sequence]));
    const isIn = (one: Announced) => one.tenant === tenant && one.sequence <= (reached.get(one.lane) ?? -1);
    const done = this.#announced.filter(isIn);
    if (done.length === 0) return undefined;
    this.#announced = this.#announced.filter((one) => !isIn(one));
    const [first, ...others] = done.flatMap(({ contexts }) => contexts);
    const span = this.#trace.begin({ ...systemCall(tenant, 'index.fold'), trace: first! }, 'index.fold', {
      kind: 'consumer',
      links: [first!, ...others],
      startMs: Math.min(...done.map(({ sinceMs }) => sinceMs)),
      attributes: { commits: result.commits, instances: result.instances, studies: result.changedStudies.length },
    });
    span.end();
    for (const study of result.changedStudies) this.#unseen(`${tenant} ${study}`, span.call.trace!);
    return span.call;
  }

  #unseen(key: string, context: TraceContext): void {
    this.#unread.delete(key);
    if (this.#unread.size >= STUDIES_MAX) this.#unread.delete(this.#unread.keys().next().value!);
    this.#unread.set(key, context);
  }

  /** Instances of these studies are about to be read: the end of the way of what was stored. */
  async *locating<Row>(
    call: Call,
    studyInstanceUids: readonly string[],
    rows: (call: Call) => AsyncIterable<Row>,
  ): AsyncGenerator<Row> {
    const firsts = this.#firstReads(call, studyInstanceUids);
    const span = this.#trace.begin(call, 'index.locate', { attributes: { first: firsts.length > 0 }, links: firsts });
    let found = false;
    try {
      for await (const row of rows(span.call)) {
        // Only of a study that is here: in the place of a UID anything may be asked for, a patient's ID too.
        if (!found) span.set({ studyInstanceUid: studyInstanceUids[0] });
        found = true;
        yield row;
      }
    } catch (error) {
      span.end(error);
      throw error;
    } finally {
      span.end();
    }
  }

  #firstReads(call: Call, studyInstanceUids: readonly string[]): TraceContext[] {
    if (this.#unread.size === 0) return [];
    const found: TraceContext[] = [];
    for (const studyInstanceUid of studyInstanceUids) {
      const key = `${call.tenant} ${studyInstanceUid}`;
      const context = this.#unread.get(key);
      if (context === undefined) continue;
      this.#unread.delete(key);
      found.push(context);
      const stored = { ...call, trace: context };
      const links = call.trace === undefined ? [] : [call.trace];
      this.#trace.begin(stored, 'index.first-retrieval', { attributes: { studyInstanceUid }, links }).end();
    }
    return found;
  }
}
