// The HPAs that KEDA would make of the chart's ScaledObjects, and the definition by which its API server would judge them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { render } from '../clients.ts';
import { judgeOf, VERSIONS } from '../schemas.ts';
import { hpaOf, OWNER_LABEL, quantity, type ScaledObject, signalsOf } from './hpa.ts';
import { podMonitor, scrapeConfigs } from './prometheus.ts';

const objects = (...sets: string[]) =>
  render('network', ...sets).filter(({ kind }) => kind === 'ScaledObject') as ScaledObject[];

test('each ScaledObject becomes an HPA that Kubernetes takes, with all its triggers', () => {
  const found = objects();
  assert.equal(found.length, 4);
  for (const object of found) {
    const hpa = hpaOf(object);
    for (const version of VERSIONS) assert.equal(judgeOf(version)(hpa), undefined);
    assert.equal(hpa.spec.metrics.length, object.spec.triggers.length);
    assert.deepEqual(hpa.spec.scaleTargetRef.name, object.metadata.name);
    assert.equal((hpa.spec.behavior as { scaleUp: object; scaleDown: object }).scaleDown !== undefined, true);
  }
});

test('a signal is asked for by its place among the triggers, and its threshold is for each pod', () => {
  const ingest = objects().find(({ metadata }) => metadata.name === 'gantry-ingest')!;
  assert.deepEqual(
    signalsOf(ingest).map(({ name, metric }) => `${metric} ${name}`),
    ['s1-prometheus ingest-permits', 's2-prometheus ingest-waiting', 's3-prometheus ingest-event-loop'],
  );
  const { metrics } = hpaOf(ingest).spec;
  assert.deepEqual(metrics[0], {
    type: 'ContainerResource',
    containerResource: { name: 'cpu', container: 'ingest', target: { type: 'Utilization', averageUtilization: 120 } },
  });
  assert.deepEqual(metrics[2], {
    type: 'External',
    external: {
      metric: { name: 's2-prometheus', selector: { matchLabels: { [OWNER_LABEL]: 'gantry-ingest' } } },
      target: { type: 'AverageValue', averageValue: '125m' },
    },
  });
  assert.equal(quantity(0.61), '610m');
});

test('where both doors run in one pod, the pod is scaled by the signals of both', () => {
  const { metrics } = hpaOf(
    objects('exposure={"doors":"together"}').find(({ metadata }) => metadata.name === 'gantry-ingest')!,
  ).spec;
  assert.equal(metrics.filter(({ type }) => type === 'External').length, 4);
});

test('a trigger that the chart does not write is refused, not left out', () => {
  const [object] = objects();
  const triggers = [{ type: 'kafka', metricType: 'AverageValue', metadata: {} }];
  assert.throws(() => hpaOf({ ...object!, spec: { ...object!.spec, triggers } }), /kafka/);
});

test('what the PodMonitor names is scraped at both ports, under the labels that the queries ask for', () => {
  const configs = scrapeConfigs(podMonitor(), '/pods.json') as { relabel_configs: Record<string, unknown>[] }[];
  assert.equal(configs.length, 2);
  for (const { relabel_configs: rules } of configs) {
    const given = rules.map(({ target_label: label }) => label).filter((label) => label !== undefined);
    for (const { query } of objects().flatMap(signalsOf))
      for (const [, label] of query.matchAll(/\{namespace=|(pod|container)=/g))
        assert.ok(label === undefined || given.includes(label), `${query}: ${label}`);
    assert.deepEqual(given, ['namespace', 'container', 'pod']);
    assert.ok(
      rules.some(
        ({ source_labels: from, regex }) =>
          String(from) === '__meta_kubernetes_pod_label_app_kubernetes_io_instance' && regex === 'gantry',
      ),
    );
  }
});
