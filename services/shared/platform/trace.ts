import type { Call } from './call.ts';
import type { Settings } from './module.ts';

/**
 * What modules know of tracing: a call carries its span's context, and a step that is worth seeing is run inside `span`. No vendor here:
 * OpenTelemetry is behind trace.otel.ts, and is only loaded where a collector is configured.
 */

/** W3C Trace Context, https://www.w3.org/TR/trace-context/. tracestate is not taken: it may hold anything. */
export interface TraceContext {
  readonly traceId: string; // 32 hex digits
  readonly spanId: string; // 16 hex digits
  /** False: its spans are nobody's; only the ids travel on, for the logs. */
  readonly sampled: boolean;
}

/** Text is kept only under the keys that logs may hold (telemetry.ts), and TEXT_ATTRIBUTES. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Span {
  /** What is done within this span is called with this. */
  readonly call: Call;
  set(attributes: SpanAttributes): void;
  link(context: TraceContext): void;
  /** An error leaves its code and nothing else of it. */
  end(error?: unknown): void;
}

export interface SpanOptions {
  attributes?: SpanAttributes;
  links?: readonly TraceContext[];
  /** Epoch milliseconds, where the work began before anybody could tell. */
  startMs?: number;
  kind?: 'server' | 'client' | 'consumer' | 'producer';
}

export interface Tracing {
  /** Where calls come in: goes on with the caller's trace, or begins one for a share of them (platform.traceSample). */
  root(call: Call, name: string, traceparent: string | undefined, options?: SpanOptions): Span;
  /** A step of a call that is traced; of any other, a function call. */
  span<T>(
    call: Call,
    name: string,
    attributes: SpanAttributes | undefined,
    work: (call: Call, span: Span) => Promise<T>,
  ): Promise<T>;
  /** As `span`, for work that has no one function. Must be ended. */
  begin(call: Call, name: string, options?: SpanOptions): Span;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

export function parseTraceparent(text: string | undefined): TraceContext | undefined {
  if (text === undefined || text.length > 512) return undefined;
  const match = TRACEPARENT.exec(text.trim());
  if (!match) return undefined;
  const [, version, traceId, spanId, flags, more] = match;
  if (version === 'ff' || (version === '00' && more !== undefined) || /^0+$/.test(traceId!) || /^0+$/.test(spanId!))
    return undefined;
  return { traceId: traceId!, spanId: spanId!, sampled: (Number.parseInt(flags!, 16) & 1) === 1 };
}

export const traceparentOf = ({ traceId, spanId, sampled }: TraceContext): string =>
  `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;

/** Of a call that nobody traces. A class: it is made for every C-STORE, and costs next to nothing. */
class NoSpan implements Span {
  readonly call: Call;
  constructor(call: Call) {
    this.call = call;
  }
  set(): void {}
  link(): void {}
  end(): void {}
}

/** What really makes spans: trace.otel.ts. */
export interface SpanMaker {
  /** True when a trace that begins here is to be kept. */
  sample(): boolean;
  make(call: Call, name: string, parent: TraceContext | undefined, options: SpanOptions): Span;
}

/** Ids for the log lines: which trace a request or an association belongs to, while it lasts. */
const TRACED_MAX = 10_000;
export class TracedRequests {
  readonly #traces = new Map<string, string>();

  of(requestId: string): string | undefined {
    return this.#traces.get(requestId);
  }
  note(requestId: string, traceId: string): void {
    if (this.#traces.size >= TRACED_MAX) this.#traces.delete(this.#traces.keys().next().value!);
    this.#traces.set(requestId, traceId);
  }
  forget(requestId: string): void {
    this.#traces.delete(requestId);
  }
}

/** Without `maker` no span is made; a caller's context is carried on all the same. */
export function createTracing(maker: SpanMaker | undefined, requests = new TracedRequests()): Tracing {
  const nothing = (call: Call): Span => new NoSpan(call);
  return {
    root(call, name, traceparent, options = {}) {
      const parent = parseTraceparent(traceparent);
      const traced = parent === undefined ? (maker?.sample() ?? false) : parent.sampled && maker !== undefined;
      if (!traced) {
        if (parent === undefined) return nothing(call);
        requests.note(call.requestId, parent.traceId);
        const carried = nothing({ ...call, trace: parent });
        carried.end = () => requests.forget(call.requestId);
        return carried;
      }
      const span = maker!.make(call, name, parent, options);
      const { traceId } = span.call.trace!;
      requests.note(call.requestId, traceId);
      const end = span.end.bind(span);
      span.end = (error) => {
        requests.forget(call.requestId);
        end(error);
      };
      return span;
    },
    span(call, name, attributes, work) {
      if (maker === undefined || call.trace?.sampled !== true) return work(call, nothing(call));
      const span = maker.make(call, name, call.trace, attributes === undefined ? {} : { attributes });
      return settled(span, work);
    },
    begin(call, name, options = {}) {
      if (maker === undefined || call.trace?.sampled !== true) return nothing(call);
      return maker.make(call, name, call.trace, options);
    },
  };
}

async function settled<T>(span: Span, work: (call: Call, span: Span) => Promise<T>): Promise<T> {
  try {
    const result = await work(span.call, span);
    span.end();
    return result;
  } catch (error) {
    span.end(error);
    throw error;
  }
}

/** For whoever has no house: tests of one part. */
export const untraced: Tracing = createTracing(undefined);

/** The endpoint is a base, as in OTEL_EXPORTER_OTLP_ENDPOINT; one that names the path itself is taken at its word. */
export function tracesUrl(endpoint: string): string {
  const url = new URL(endpoint);
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`;
  return url.href;
}

export function checkTracing(settings: Pick<Settings, 'string'>): string[] {
  const endpoint = settings.string('platform.otlpEndpoint');
  if (endpoint === '' || (URL.canParse(endpoint) && /^https?:$/.test(new URL(endpoint).protocol))) return [];
  return [
    'platform.otlpEndpoint is no address of a collector; OTLP over HTTP is meant, for example http://collector:4318 (4317 is gRPC, which is not spoken here)',
  ];
}
