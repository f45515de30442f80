import type { Call } from '#platform/call.ts';
import type { TraceContext, Tracing } from '#platform/trace.ts';
import { traceparentOf } from '#platform/trace.ts';
import { LogCommitted, type Position } from '#proto/storage/v1/log.ts';

/** Positions of traced appends that wait for the wake of their commit; it comes in the same turn of the event loop. */
const NOTED_MAX = 1_000;
/** Traces that one commit names: it holds up to 256 instances, and a fold needs to know of some of them. */
const LINKS_MAX = 16;

interface Noted {
  call: Call;
  sinceMs: number;
}

/** Which traces are in a commit: appends say so when they are answered, and the wake carries it to who folds. */
class CommitTraces {
  readonly #trace: Tracing;
  readonly #noted = new Map<string, Noted[]>();
  /** Traced appends on their way: without any a wake is published at once. */
  #underway = 0;

  constructor(trace: Tracing) {
    this.#trace = trace;
  }

  /** Runs an append as a step of its trace, and notes where it came to lie. */
  append<T extends { position?: Position | undefined }>(call: Call, work: (call: Call) => Promise<T>): Promise<T> {
    if (call.trace?.sampled !== true) return work(call);
    const sinceMs = Date.now();
    this.#underway++;
    return this.#trace
      .span(call, 'storage.append', undefined, async (inner, span) => {
        const answer = await work(inner);
        const { position } = answer;
        if (position !== undefined) {
          span.set({ lane: position.lane, sequence: position.sequence });
          this.#note(position, { call: inner, sinceMs });
        }
        return answer;
      })
      .finally(() => void this.#underway--);
  }

  #note({ lane, sequence }: Position, noted: Noted): void {
    const key = `${lane}/${sequence}`;
    const list = this.#noted.get(key);
    if (list !== undefined) list.push(noted);
    else {
      if (this.#noted.size >= NOTED_MAX) this.#noted.delete(this.#noted.keys().next().value!);
      this.#noted.set(key, [noted]);
    }
  }

  /** A commit is durable: `publish` gets the wake's payload, once its appends were told too. */
  committed(position: Position, entries: number, bytes: number, publish: (payload: Buffer) => void): void {
    if (this.#underway === 0) {
      publish(Buffer.from(LogCommitted.encode({ ...position, traceparents: [] }).finish()));
      return;
    }
    setImmediate(() => {
      const contexts = this.#span(position, entries, bytes);
      const traceparents = contexts.map(traceparentOf);
      publish(Buffer.from(LogCommitted.encode({ ...position, traceparents }).finish()));
    });
  }

  #span(position: Position, entries: number, bytes: number): TraceContext[] {
    const key = `${position.lane}/${position.sequence}`;
    const noted = this.#noted.get(key);
    if (noted === undefined) return [];
    this.#noted.delete(key);
    const [first, ...others] = noted;
    const links = others.map(({ call }) => call.trace!);
    const span = this.#trace.begin(first!.call, 'storage.commit', {
      // It could not begin before its last entry came.
      startMs: Math.max(...noted.map(({ sinceMs }) => sinceMs)),
      attributes: { lane: position.lane, sequence: position.sequence, entries, bytes },
      links,
    });
    span.end();
    // One a trace is enough: an association's instances are all in its own.
    const traces = new Map(
      [span.call.trace!, ...links].map((context) => [context.traceId, context] as const).reverse(),
    );
    return [
      span.call.trace!,
      ...[...traces.values()].filter(({ traceId }) => traceId !== span.call.trace!.traceId),
    ].slice(0, LINKS_MAX);
  }
}

const shared = new WeakMap<Tracing, CommitTraces>();

/** One for a process: appends note, and its archive's commits are told. */
export function commitTracesOf(trace: Tracing): CommitTraces {
  let traces = shared.get(trace);
  if (traces === undefined) shared.set(trace, (traces = new CommitTraces(trace)));
  return traces;
}
