import type { Exemplar, Family, Labels } from './metrics.ts';

/**
 * The two texts that Prometheus reads: its own (0.0.4), and OpenMetrics 1.0, which carries exemplars, for whoever asks for it.
 * https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
 */
export type Format = 'text' | 'openmetrics';

export const CONTENT_TYPES: Record<Format, string> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

/** By the Accept header: OpenMetrics when it is named and not refused, the older text for everybody else. */
export function formatFor(accept: string | undefined): Format {
  for (const range of (accept ?? '').split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    if (type === 'application/openmetrics-text' && !parameters.some((one) => /^q=0(\.0*)?$/.test(one)))
      return 'openmetrics';
  }
  return 'text';
}

export function exposition(families: readonly Family[], format: Format): string {
  const lines: string[] = [];
  for (const family of [...families].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // OpenMetrics names a family without the suffix of its counter.
    const name =
      format === 'openmetrics' && family.kind === 'counter' ? family.name.replace(/_total$/, '') : family.name;
    lines.push(`# HELP ${name} ${escaped(family.help)}`, `# TYPE ${name} ${family.kind}`);
    if (family.kind !== 'histogram')
      for (const { labels, value } of family.values) lines.push(`${family.name}${braced(labels)} ${number(value)}`);
    else
      for (const { labels, counts, exemplars, sum } of family.distributions) {
        let count = 0;
        for (const [at, bound] of [...family.buckets, Infinity].entries()) {
          count += counts[at]!;
          const tail = format === 'openmetrics' ? exemplar(exemplars[at]) : '';
          lines.push(`${family.name}_bucket${braced(labels, number(bound))} ${count}${tail}`);
        }
        lines.push(
          `${family.name}_sum${braced(labels)} ${number(sum)}`,
          `${family.name}_count${braced(labels)} ${count}`,
        );
      }
  }
  if (format === 'openmetrics') lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

const exemplar = (one: Exemplar | undefined): string =>
  one === undefined ? '' : ` # {trace_id="${one.traceId}"} ${number(one.value)} ${(one.atMs / 1_000).toFixed(3)}`;

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');

function braced(labels: Labels, le?: string): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  if (le !== undefined) parts.push(`le="${le}"`);
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

const number = (value: number): string =>
  value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : Number.isNaN(value) ? 'NaN' : String(value);
