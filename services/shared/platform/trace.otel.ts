import { type AttributeValue, ROOT_CONTEXT, SpanKind, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { AlwaysOnSampler, BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import type { Call } from './call.ts';
import { GantryError } from './errors.ts';
import type { Metrics } from './module.ts';
import { SpanQueue } from './span-queue.ts';
import { LOG_FIELDS } from './telemetry.ts';
import {
  type Span,
  type SpanAttributes,
  type SpanMaker,
  type SpanOptions,
  type TraceContext,
  tracesUrl,
} from './trace.ts';

/** OpenTelemetry behind trace.ts: loaded only where platform.otlpEndpoint names a collector. */

/** Names of OpenTelemetry's semantic conventions whose values come from closed lists; everything else is of LOG_FIELDS. */
const TEXT_ATTRIBUTES: ReadonlySet<string> = new Set([
  'http.request.method',
  'http.route',
  'rpc.system',
  'rpc.service',
  'rpc.method',
  'error.type',
]);
const TEXT_MAX = 200;
const LINKS_MAX = 128;

const KINDS = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  consumer: SpanKind.CONSUMER,
  producer: SpanKind.PRODUCER,
} as const;

export interface TracingSettings {
  endpoint: string;
  sample: () => number;
  queueMax: () => number;
  /** Which process this is. */
  role: string;
}

export interface SpanMaking extends SpanMaker {
  /** Sends what waits, and no more than a moment of it: a collector that is gone must not hold an exit. */
  close(): Promise<void>;
}

export function openTelemetry(settings: TracingSettings, metrics: Metrics): SpanMaking {
  const exporter = new OTLPTraceExporter({ url: tracesUrl(settings.endpoint), timeoutMillis: 5_000, keepAlive: true });
  const queue = new SpanQueue(exporter, settings.queueMax, metrics);
  const provider = new BasicTracerProvider({
    // Whether a trace is kept was decided where it began (trace.ts): what comes here is.
    sampler: new AlwaysOnSampler(),
    spanLimits: { attributeCountLimit: 32, linkCountLimit: LINKS_MAX, attributeValueLengthLimit: TEXT_MAX },
    resource: resourceFromAttributes({
      'service.namespace': 'gantry',
      'service.name': `gantry-${settings.role}`,
      'service.instance.id': process.env.HOSTNAME || `pid-${process.pid}`,
    }),
    spanProcessors: [queue],
  });
  const tracer = provider.getTracer('gantry');
  return {
    sample: () => Math.random() < settings.sample(),
    make: (call, name, parent, options) => make(tracer, call, name, parent, options),
    close: () => queue.shutdown(),
  };
}

function make(tracer: Tracer, call: Call, name: string, parent: TraceContext | undefined, options: SpanOptions): Span {
  const context = parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, spanContext(parent));
  const span = tracer.startSpan(
    name,
    {
      kind: options.kind === undefined ? SpanKind.INTERNAL : KINDS[options.kind],
      attributes: attributesOf(options.attributes ?? {}),
      links: (options.links ?? []).slice(0, LINKS_MAX).map((link) => ({ context: spanContext(link) })),
      ...(options.startMs === undefined ? {} : { startTime: options.startMs }),
    },
    context,
  );
  const { traceId, spanId } = span.spanContext();
  return {
    call: { ...call, trace: { traceId, spanId, sampled: true } },
    set: (attributes) => void span.setAttributes(attributesOf(attributes)),
    link: (to) => void span.addLink({ context: spanContext(to) }),
    end(error) {
      if (!span.isRecording()) return;
      if (error !== undefined) {
        span.setAttribute('error.type', errorType(error));
        span.setStatus({ code: SpanStatusCode.ERROR });
      }
      span.end();
    },
  };
}

const spanContext = ({ traceId, spanId, sampled }: TraceContext) => ({
  traceId,
  spanId,
  traceFlags: sampled ? 1 : 0,
  isRemote: true,
});

/** As with the logs, by construction: text only under a key of a closed list, and a UID only when it is one: a path may hold a name there. */
function attributesOf(attributes: SpanAttributes): Record<string, AttributeValue> {
  const kept: Record<string, AttributeValue> = {};
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'string') kept[key] = isKept(key, value) ? value : '[refused]';
    else if (typeof value === 'number' || typeof value === 'boolean') kept[key] = value;
  }
  return kept;
}

const isKept = (key: string, value: string): boolean =>
  key.endsWith('Uid') ? /^[0-9.]{1,64}$/.test(value) : LOG_FIELDS.has(key) || TEXT_ATTRIBUTES.has(key);

/** Never the message: nobody vouches for those of others, and ours stand in the log. */
const errorType = (error: unknown): string =>
  error instanceof GantryError ? error.code : error instanceof Error ? error.constructor.name : 'unknown';
