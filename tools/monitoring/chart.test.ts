// What the chart makes of the alerts and dashboards: for the Prometheus operator, and for Grafana's sidecar.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Manifest, render } from '../kube/clients.ts';

const ofKind = (manifests: Manifest[], kind: string): Manifest | undefined =>
  manifests.find((one) => one.kind === kind && (kind !== 'ConfigMap' || one.metadata.name.endsWith('-dashboards')));

test('the rules, with labels to be selected by, and links to where the runbooks are', () => {
  const sets = ['monitoring.runbooks="https://wiki.example/pacs/"', 'monitoring.ruleLabels={"release":"prometheus"}'];
  const rule = ofKind(render('network', ...sets), 'PrometheusRule')!;
  assert.equal(rule.metadata.labels.release, 'prometheus');
  const alerts = rule.spec.groups.flatMap((group: { rules: Manifest[] }) => group.rules);
  assert.ok(alerts.length >= 17);
  for (const { alert, annotations } of alerts)
    assert.equal(annotations.runbook_url, `https://wiki.example/pacs/${alert}.md`);
  // Prometheus' own templates are not Helm's.
  assert.ok(alerts.some(({ annotations }: Manifest) => annotations.description.includes('{{ $labels.instance }}')));
});

test('the dashboards, whole, with the label that Grafana looks for', () => {
  const config = ofKind(render('network'), 'ConfigMap')!;
  assert.equal(config.metadata.labels.grafana_dashboard, '1');
  const titles = Object.values(config.data as Record<string, string>).map((text) => JSON.parse(text).title);
  assert.deepEqual(titles.sort(), [
    'Gantry index',
    'Gantry ingest',
    'Gantry overview',
    'Gantry queues',
    'Gantry storage',
  ]);
});

test('neither where nobody asked for it', () => {
  const manifests = render('trial');
  assert.deepEqual([ofKind(manifests, 'PrometheusRule'), ofKind(manifests, 'ConfigMap')], [undefined, undefined]);
});
