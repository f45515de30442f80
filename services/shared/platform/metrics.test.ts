import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { requirePeer, without } from '../../../tools/setup/peers.ts';
import { createMetrics, type MetricsRunning } from './metrics.ts';
import { formatFor } from './metrics-text.ts';

async function withMetrics(run: (metrics: MetricsRunning) => Promise<void>): Promise<void> {
  const metrics = createMetrics({ role: 'test' });
  try {
    await run(metrics);
  } finally {
    await metrics.close();
  }
}
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const traced = (sampled: boolean) => ({ trace: { traceId: TRACE, spanId: 'b7ad6b7169203331', sampled } });

describe('metrics', () => {
  test('counters, gauges and histograms as Prometheus text', () =>
    withMetrics(async (metrics) => {
      metrics.counter('gantry_instances_total', 'Instances').add(2, { door: 'dimse' });
      metrics.counter('gantry_instances_total', 'Instances').add(1, { door: 'dimse' });
      metrics.gauge('gantry_waiting', 'Waiting', () => 7);
      metrics.gauge('gantry_places', 'Places', () => [
        { value: 1, labels: { area: 'log' } },
        { value: 2, labels: { area: 'pack' } },
      ]);
      metrics.total('gantry_kept_total', 'Kept by somebody else', () => 5);
      const seconds = metrics.histogram('gantry_request_seconds', 'Requests', [0.1, 1]);
      for (const value of [0.1, 0.5, 3]) seconds.record(value, { route: '/a"b\n' });
      const text = await metrics.expose();
      assert.match(text, /^gantry_instances_total\{door="dimse"\} 3$/m);
      assert.match(text, /^# TYPE gantry_instances_total counter$/m);
      assert.match(text, /^gantry_waiting 7$/m);
      assert.match(text, /^gantry_places\{area="pack"\} 2$/m);
      assert.match(text, /^gantry_kept_total 5$/m);
      // A bound belongs to its bucket, and buckets cumulate.
      for (const [le, count] of [
        ['0.1', 1],
        ['1', 2],
        ['+Inf', 3],
      ])
        assert.ok(text.includes(`gantry_request_seconds_bucket{route="/a\\"b\\n",le="${le}"} ${count}\n`), text);
      assert.match(text, /^gantry_request_seconds_sum\{[^}]*\} 3\.6$/m);
      assert.match(text, /^gantry_request_seconds_count\{[^}]*\} 3$/m);
      assert.match(text, /^gantry_process_resident_memory_bytes \d+$/m);
      assert.match(text, /^gantry_process_gc_seconds_total/m);
      assert.match(text, /^gantry_build_info\{node="24[^"]*",role="test"\} 1$/m);
    }));

  test('the order in which labels are named makes no second series', () =>
    withMetrics(async (metrics) => {
      const counter = metrics.counter('gantry_x_total', 'x');
      counter.add(1, { a: '1', b: '2' });
      counter.add(1, { b: '2', a: '1' });
      assert.equal((await metrics.expose()).match(/^gantry_x_total\{.*$/gm)?.join(), 'gantry_x_total{a="1",b="2"} 2');
    }));

  test('labels that never end cost no memory, and are told', () =>
    withMetrics(async (metrics) => {
      const counter = metrics.counter('gantry_x_total', 'x');
      for (let at = 0; at < 5_000; at++) counter.add(1, { uid: String(at) });
      const text = await metrics.expose();
      assert.equal(text.match(/^gantry_x_total\{/gm)?.length, 1_001);
      assert.match(text, /^gantry_x_total\{overflow="true"\} 4000$/m);
      assert.match(text, /^gantry_metrics_overflows_total 4000$/m);
    }));

  test('a reading that fails hides no other', () =>
    withMetrics(async (metrics) => {
      metrics.gauge('gantry_broken', 'x', () => {
        throw new Error('no');
      });
      metrics.gauge('gantry_whole', 'x', () => 1);
      await metrics.expose();
      const text = await metrics.expose();
      assert.match(text, /^gantry_whole 1$/m);
      assert.match(text, /^gantry_metrics_failures_total [12]$/m);
      assert.ok(!/^gantry_broken \d/m.test(text));
    }));

  test('a name is one kind, ours, and says whether it counts', () =>
    withMetrics(async (metrics) => {
      metrics.counter('gantry_x_total', 'x');
      assert.throws(() => metrics.total('gantry_x_total', 'x', () => 1), /counted and read at once/);
      assert.throws(() => metrics.counter('Gantry-x_total', 'x'), /is named gantry_/);
      assert.throws(() => metrics.counter('gantry_x', 'x'), /named …_total/);
      assert.throws(() => metrics.gauge('gantry_y_total', 'x', () => 1), /named …_total/);
      assert.throws(() => metrics.histogram('gantry_h', 'x', [2, 1]), /must rise/);
    }));

  test('exemplars: the trace of what was slow, for who reads OpenMetrics, and only of traces that are kept', () =>
    withMetrics(async (metrics) => {
      const seconds = metrics.histogram('gantry_request_seconds', 'Requests', [0.1, 1]);
      seconds.record(0.5, { route: '/a' }, traced(true));
      seconds.record(0.05, { route: '/a' }, traced(false));
      seconds.record(0.05, { route: '/a' }, {});
      const open = await metrics.expose('openmetrics');
      assert.match(
        open,
        new RegExp(
          `^gantry_request_seconds_bucket\\{route="/a",le="1"\\} 3 # \\{trace_id="${TRACE}"\\} 0\\.5 \\d+\\.\\d{3}$`,
          'm',
        ),
      );
      assert.equal(open.match(/trace_id/g)?.length, 1);
      assert.ok(open.endsWith('# EOF\n'));
      metrics.counter('gantry_x_total', 'x').add(1);
      // The family without the suffix, the sample with it.
      assert.match(await metrics.expose('openmetrics'), /^# TYPE gantry_x counter\ngantry_x_total 1$/m);
      assert.ok(!(await metrics.expose()).includes('trace_id'), 'the older text has no word for it');
    }));

  test('who asks for what', () => {
    const prometheus =
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
    assert.equal(formatFor(prometheus), 'openmetrics');
    for (const accept of [undefined, '', '*/*', 'text/plain', 'application/openmetrics-text;q=0, text/plain'])
      assert.equal(formatFor(accept), 'text', accept);
  });

  test('promtool finds nothing to say of it', { skip: without('promtool') }, () =>
    withMetrics(async (metrics) => {
      metrics.histogram('gantry_request_seconds', 'Requests “quoted”', [0.1, 1]).record(0.5, { route: '/a"b\\\n' });
      const input = await metrics.expose();
      const checked = spawnSync(requirePeer('promtool'), ['check', 'metrics'], { input, encoding: 'utf8' });
      assert.equal(checked.stdout + checked.stderr, '');
      assert.equal(checked.status, 0);
    }),
  );
});
