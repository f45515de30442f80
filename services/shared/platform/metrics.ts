import type { Call } from './call.ts';
import type { Metrics } from './module.ts';
import { processMetrics } from './process-metrics.ts';

/**
 * Metrics of one process, read when /metrics is asked: nothing is sent behind anybody's back. Ours and not OpenTelemetry's SDK: that has
 * no exemplars in JavaScript, and a count costs it ten times as much (services/adr/0068). The exposition is metrics-text.ts.
 */

/** Series of one metric. Labels come from closed lists, so this many is a mistake of ours, and may not become everybody's memory. */
const SERIES_MAX = 1_000;
const OVERFLOW = { overflow: 'true' };

export type Labels = Record<string, string>;

export interface Exemplar {
  traceId: string;
  value: number;
  /** Epoch milliseconds. */
  atMs: number;
}

export interface Value {
  labels: Labels;
  value: number;
}

export interface Distribution {
  labels: Labels;
  /** One a bucket, and one for what is above the last; not cumulated. */
  counts: number[];
  exemplars: (Exemplar | undefined)[];
  sum: number;
}

export type Family = { name: string; help: string } & (
  | { kind: 'counter' | 'gauge'; values: Value[] }
  | { kind: 'histogram'; buckets: readonly number[]; distributions: Distribution[] }
);

type Read = () => number | Value[];

interface Row {
  readonly kind: Family['kind'];
  readonly help: string;
  /** What modules get. */
  readonly instrument: unknown;
  family(): Family;
}

/** One series for each set of labels, whatever order they are named in. */
class SeriesOf<T> {
  readonly #byKey = new Map<string, T>();
  readonly #all = new Map<string, T>();
  readonly #create: (labels: Labels) => T;
  readonly #overflowed: () => void;

  constructor(create: (labels: Labels) => T, overflowed: () => void) {
    this.#create = create;
    this.#overflowed = overflowed;
  }

  of(labels: Labels | undefined): T {
    let key = '';
    if (labels !== undefined) for (const name in labels) key += `${name}\u0001${labels[name]}\u0002`;
    return this.#byKey.get(key) ?? this.#first(key, labels ?? {});
  }

  get all(): Iterable<T> {
    return this.#all.values();
  }

  #first(key: string, labels: Labels): T {
    const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
    const canonical = JSON.stringify(sorted);
    const known = this.#all.get(canonical);
    if (known === undefined && this.#all.size >= SERIES_MAX && labels !== OVERFLOW) {
      this.#overflowed();
      return this.of(OVERFLOW);
    }
    const series = known ?? this.#create({ ...labels });
    this.#all.set(canonical, series);
    if (this.#byKey.size < SERIES_MAX * 4) this.#byKey.set(key, series);
    return series;
  }
}

export interface MetricsRunning extends Metrics {
  close(): Promise<void>;
}

export function createMetrics(about: Labels = {}): MetricsRunning {
  const rows = new Map<string, Row>();
  const reads = new Map<string, Read[]>();
  let overflows = 0;
  let failures = 0;
  const overflowed = () => void overflows++;

  /** Modules that name the same counter share it; the same name for another kind is a mistake. */
  function once(name: string, kind: Row['kind'], create: () => Omit<Row, 'kind'>): Row {
    if (!/^gantry_[a-z0-9_]+$/.test(name)) throw new Error(`a metric is named gantry_…, in lower case: ${name}`);
    if (name.endsWith('_total') !== (kind === 'counter'))
      throw new Error(`a counter is named …_total, and nothing else is: ${name}`);
    let row = rows.get(name);
    if (row !== undefined && row.kind !== kind) throw new Error(`the metric ${name} is a ${row.kind}`);
    if (row === undefined) rows.set(name, (row = { kind, ...create() }));
    return row;
  }

  function observed(name: string, kind: 'counter' | 'gauge', help: string, read: Read): void {
    once(name, kind, () => {
      reads.set(name, []);
      const values = (): Value[] =>
        reads.get(name)!.flatMap((one) => {
          try {
            const seen = one();
            return typeof seen === 'number' ? [{ value: seen, labels: {} }] : seen;
          } catch {
            failures++; // shown as gantry_metrics_failures_total: one reading that fails must not hide all others
            return [];
          }
        });
      return { help, instrument: undefined, family: () => ({ name, help, kind, values: values() }) };
    });
    const list = reads.get(name);
    if (list === undefined) throw new Error(`the metric ${name} is counted and read at once`);
    list.push(read);
  }

  const families = (): Family[] => [...rows.values()].map((row) => row.family());

  const metrics: Metrics = {
    counter(name, help) {
      const row = once(name, 'counter', () => {
        const series = new SeriesOf((labels): Value => ({ labels, value: 0 }), overflowed);
        const add = (value: number, labels?: Labels) => {
          series.of(labels).value += value;
        };
        return { help, instrument: { add }, family: () => ({ name, help, kind: 'counter', values: [...series.all] }) };
      });
      if (row.instrument === undefined) throw new Error(`the metric ${name} is counted and read at once`);
      return row.instrument as ReturnType<Metrics['counter']>;
    },
    total: (name, help, read) => observed(name, 'counter', help, read),
    gauge: (name, help, read) => observed(name, 'gauge', help, read),
    histogram(name, help, buckets) {
      const row = once(name, 'histogram', () => histogram(name, help, buckets, overflowed));
      return row.instrument as ReturnType<Metrics['histogram']>;
    },
    async expose(format = 'text') {
      const { exposition } = await import('./metrics-text.ts');
      return exposition(families(), format);
    },
  };
  metrics.total('gantry_metrics_failures_total', 'Readings of metrics that failed', () => failures);
  metrics.total(
    'gantry_metrics_overflows_total',
    'Counts that went to the series “overflow”, because a metric had too many',
    () => overflows,
  );
  metrics.gauge('gantry_build_info', 'What runs here; always 1', () => [
    { value: 1, labels: { node: process.versions.node, ...about } },
  ]);
  const stop = processMetrics(metrics);
  return {
    ...metrics,
    async close() {
      stop();
    },
  };
}

function histogram(name: string, help: string, given: readonly number[], overflowed: () => void): Omit<Row, 'kind'> {
  const buckets = [...given];
  if (buckets.length === 0 || buckets.some((bound, at) => at > 0 && bound <= buckets[at - 1]!))
    throw new Error(`the buckets of ${name} must rise`);
  const series = new SeriesOf(
    (labels): Distribution => ({
      labels,
      counts: new Array(buckets.length + 1).fill(0),
      exemplars: new Array(buckets.length + 1).fill(undefined),
      sum: 0,
    }),
    overflowed,
  );
  const record = (value: number, labels?: Labels, call?: Pick<Call, 'trace'>) => {
    const one = series.of(labels);
    let at = 0;
    while (at < buckets.length && value > buckets[at]!) at++;
    one.counts[at]!++;
    one.sum += value;
    const trace = call?.trace;
    // Only of a trace that somebody will find in his store of traces.
    if (trace?.sampled) one.exemplars[at] = { traceId: trace.traceId, value, atMs: Date.now() };
  };
  return {
    help,
    instrument: { record },
    family: () => ({ name, help, kind: 'histogram', buckets, distributions: [...series.all] }),
  };
}
