import { monitorEventLoopDelay, PerformanceObserver, performance } from 'node:perf_hooks';
import { type Attributes, type Histogram, ValueType } from '@opentelemetry/api';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import type { Metrics } from './module.ts';

/** OpenTelemetry metrics, read when /metrics is asked: nothing is exported behind anybody's back. */
class PullReader extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

export interface MetricsRunning extends Metrics {
  close(): Promise<void>;
}

export function createMetrics(): MetricsRunning {
  const reader = new PullReader();
  const provider = new MeterProvider({ readers: [reader] });
  const meter = provider.getMeter('gantry');
  const serializer = new PrometheusSerializer('', false, undefined, true, true);
  const kinds = new Map<string, string>();
  const instruments = new Map<string, unknown>();
  const gauges = new Map<string, Set<Parameters<Metrics['gauge']>[2]>>();

  /** Modules that name the same counter share it; the same name for another kind is a mistake. */
  const once = <T>(name: string, kind: string, create: () => T): T => {
    if (!/^gantry_[a-z0-9_]+$/.test(name)) throw new Error(`a metric is named gantry_…, in lower case: ${name}`);
    if ((kinds.get(name) ?? kind) !== kind) throw new Error(`the metric ${name} is a ${kinds.get(name)}`);
    kinds.set(name, kind);
    if (!instruments.has(name)) instruments.set(name, create());
    return instruments.get(name) as T;
  };
  const metrics: Metrics = {
    counter(name, help) {
      // Without the suffix: the serializer adds `_total`.
      const counter = once(name, 'counter', () => {
        const made = meter.createCounter(name.replace(/_total$/, ''), { description: help });
        return { add: (value: number, labels?: Record<string, string>) => made.add(value, labels as Attributes) };
      });
      return counter;
    },
    gauge(name, help, read) {
      once(name, 'gauge', () => {
        const reads = new Set<typeof read>();
        gauges.set(name, reads);
        meter.createObservableGauge(name, { description: help, valueType: ValueType.DOUBLE }).addCallback((result) => {
          for (const one of reads) {
            const seen = one();
            if (typeof seen === 'number') result.observe(seen);
            else for (const { value, labels } of seen) result.observe(value, labels);
          }
        });
        return true;
      });
      gauges.get(name)!.add(read);
    },
    histogram(name, help, buckets) {
      return once(name, 'histogram', () => {
        const made: Histogram = meter.createHistogram(name, {
          description: help,
          advice: { explicitBucketBoundaries: buckets },
        });
        return { record: (value: number, labels?: Record<string, string>) => made.record(value, labels as Attributes) };
      });
    },
    async expose() {
      const { resourceMetrics, errors } = await reader.collect();
      if (errors.length > 0) throw new AggregateError(errors, 'a metric could not be read');
      return serializer.serialize(resourceMetrics);
    },
  };
  const stopProcess = processMetrics(metrics);
  return {
    ...metrics,
    async close() {
      stopProcess();
      await provider.shutdown();
    },
  };
}

/** What tells a sick process from a busy one. */
function processMetrics(metrics: Metrics): () => void {
  const started = performance.now();
  let before = performance.eventLoopUtilization();
  metrics.gauge(
    'gantry_process_event_loop_utilization',
    'Share of the time since the last reading that the event loop was busy',
    () => {
      const now = performance.eventLoopUtilization();
      const share = performance.eventLoopUtilization(now, before).utilization;
      before = now;
      return share;
    },
  );
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  metrics.gauge(
    'gantry_process_event_loop_delay_seconds',
    'Longest delay of the event loop since the last reading',
    () => {
      const longest = delay.max / 1e9;
      delay.reset();
      return Number.isFinite(longest) ? longest : 0;
    },
  );
  metrics.gauge('gantry_process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss());
  metrics.gauge('gantry_process_heap_bytes', 'JavaScript heap in use, and buffers outside it', () => {
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return [
      { value: heapUsed, labels: { kind: 'heap' } },
      { value: external, labels: { kind: 'external' } },
      { value: arrayBuffers, labels: { kind: 'buffers' } },
    ];
  });
  metrics.gauge('gantry_process_cpu_seconds', 'CPU time used so far', () => {
    const { user, system } = process.cpuUsage();
    return [
      { value: user / 1e6, labels: { mode: 'user' } },
      { value: system / 1e6, labels: { mode: 'system' } },
    ];
  });
  metrics.gauge(
    'gantry_process_uptime_seconds',
    'Time since the metrics began',
    () => (performance.now() - started) / 1e3,
  );
  const collections = metrics.counter('gantry_process_gc_seconds_total', 'Time spent collecting garbage');
  collections.add(0); // shown before the first one
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) collections.add(entry.duration / 1e3);
  });
  observer.observe({ entryTypes: ['gc'] });
  return () => {
    observer.disconnect();
    delay.disable();
  };
}
