import { ExportResultCode } from '@opentelemetry/core';
import type { ReadableSpan, SpanExporter, SpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Metrics } from './module.ts';

/**
 * Spans on their way to the collector: gathered, sent a batch at a time, never waited for. What does not fit, and what the collector
 * did not take, is dropped and counted: OpenTelemetry's own batch processor drops in silence.
 */
const BATCH_MAX = 512;
const EVERY_MS = 1_000;
const LAST_MS = 2_000;

export class SpanQueue implements SpanProcessor {
  readonly #exporter: SpanExporter;
  readonly #max: () => number;
  readonly #sent: { add(value: number): void };
  readonly #dropped: { add(value: number, labels: Record<string, string>): void };
  #waiting: ReadableSpan[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  /** Spans of the batch that the collector has not answered. */
  #unanswered = 0;
  #ended = false;

  constructor(exporter: SpanExporter, max: () => number, metrics: Metrics) {
    this.#exporter = exporter;
    this.#max = max;
    this.#sent = metrics.counter('gantry_trace_spans_sent_total', 'Spans that the collector took');
    this.#dropped = metrics.counter('gantry_trace_spans_dropped_total', 'Spans that were lost, by reason');
    this.#sent.add(0);
    for (const reason of ['queue', 'collector']) this.#dropped.add(0, { reason });
    metrics.gauge('gantry_trace_spans_waiting', 'Spans that wait for the collector', () => this.#waiting.length);
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#ended || this.#waiting.length >= this.#max()) {
      this.#dropped.add(1, { reason: 'queue' });
      return;
    }
    this.#waiting.push(span);
    if (this.#waiting.length >= BATCH_MAX) this.#send();
    else this.#timer ??= setTimeout(() => this.#send(), EVERY_MS).unref();
  }

  /** One batch at a time: the next is sent when the collector has answered. */
  #send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.length === 0) return;
    this.#sending ??= this.#export(this.#waiting.splice(0, BATCH_MAX)).finally(() => {
      this.#sending = undefined;
      if (this.#waiting.length >= BATCH_MAX || this.#ended) this.#send();
      else if (this.#waiting.length > 0) this.#timer ??= setTimeout(() => this.#send(), EVERY_MS).unref();
    });
  }

  #export(batch: ReadableSpan[]): Promise<void> {
    this.#unanswered = batch.length;
    return new Promise((resolve) => {
      this.#exporter.export(batch, ({ code }) => {
        if (code === ExportResultCode.SUCCESS) this.#sent.add(this.#unanswered);
        else this.#dropped.add(this.#unanswered, { reason: 'collector' });
        this.#unanswered = 0; // once: what was given up at the end is counted already
        resolve();
      });
    });
  }

  async forceFlush(): Promise<void> {
    while (this.#waiting.length > 0 || this.#sending !== undefined) {
      this.#send();
      await this.#sending;
    }
  }

  async shutdown(): Promise<void> {
    this.#ended = true;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST_MS);
    });
    await Promise.race([this.forceFlush(), late]);
    clearTimeout(timer);
    clearTimeout(this.#timer);
    const lost = this.#waiting.splice(0).length + this.#unanswered;
    this.#unanswered = 0;
    if (lost > 0) this.#dropped.add(lost, { reason: 'collector' });
    // Not awaited: it would wait for a collector that is gone.
    void this.#exporter.shutdown().catch(() => undefined);
  }
}
