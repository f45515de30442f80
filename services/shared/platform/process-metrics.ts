import { monitorEventLoopDelay, PerformanceObserver, performance } from 'node:perf_hooks';
import type { Metrics } from './module.ts';

/** What tells a sick process from a busy one. */
export function processMetrics(metrics: Metrics): () => void {
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
  const first = performance.eventLoopUtilization();
  metrics.total('gantry_process_event_loop_busy_seconds_total', 'Time that the event loop was busy', () => {
    return performance.eventLoopUtilization(performance.eventLoopUtilization(), first).active / 1e3;
  });
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
  metrics.gauge(
    'gantry_process_available_memory_bytes',
    'Memory that this process may still take, its container’s limit included',
    () => process.availableMemory(),
  );
  metrics.gauge('gantry_process_heap_bytes', 'JavaScript heap in use, and buffers outside it', () => {
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return [
      { value: heapUsed, labels: { kind: 'heap' } },
      { value: external, labels: { kind: 'external' } },
      { value: arrayBuffers, labels: { kind: 'buffers' } },
    ];
  });
  metrics.total('gantry_process_cpu_seconds_total', 'CPU time used so far', () => {
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
  let collected = 0;
  metrics.total('gantry_process_gc_seconds_total', 'Time spent collecting garbage', () => collected);
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) collected += entry.duration / 1e3;
  });
  observer.observe({ entryTypes: ['gc'] });
  return () => {
    observer.disconnect();
    delay.disable();
  };
}
