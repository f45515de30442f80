// Alerts, dashboards and runbooks: that Prometheus takes them, that each alert fires, that each metric exists, and that each has its page.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { requirePeer, without } from '../setup/peers.ts';
import { CHECKOUT, metricsIn, metricsOfCode } from './names.ts';

const ALERTS = join(CHECKOUT, 'charts/gantry/files/alerts.yaml');
const DASHBOARDS = join(CHECKOUT, 'charts/gantry/files/dashboards');
const RUNBOOKS = join(CHECKOUT, 'deploy/runbooks');

interface Alert {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook_url: string };
}
const alerts = (parse(readFileSync(ALERTS, 'utf8')) as { groups: { rules: Alert[] }[] }).groups.flatMap(
  ({ rules }) => rules,
);
const names = metricsOfCode();

function promtool(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(requirePeer('promtool'), args, { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

test('the metrics of the code were found', () => {
  assert.ok(names.size > 60, `${names.size}`);
  for (const name of ['gantry_ingest_instances_total', 'gantry_storage_append_seconds_bucket', 'gantry_jobs'])
    assert.ok(names.has(name), name);
  assert.ok(!names.has('gantry_not_there_total'));
});

describe('alerts', () => {
  test('promtool takes them', { skip: without('promtool') }, () => {
    const { status, output } = promtool('check', 'rules', '--lint-fatal', ALERTS);
    assert.equal(status, 0, output);
  });

  test('each fires when it should, and a healthy archive calls nobody', { skip: without('promtool') }, () => {
    const tests = readFileSync(join(import.meta.dirname, 'alerts.test.yaml'), 'utf8');
    const fired = new Set((parse(tests) as { tests: { name: string }[] }).tests.map(({ name }) => name));
    for (const { alert } of alerts) assert.ok(fired.has(alert), `${alert} has no test`);
    const { status, output } = promtool('test', 'rules', join(import.meta.dirname, 'alerts.test.yaml'));
    assert.equal(status, 0, output);
  });

  for (const { alert, expr, labels, annotations } of alerts)
    test(`${alert}: its metrics exist, and somebody is told what to do`, () => {
      const asked = metricsIn(expr);
      assert.ok(asked.length > 0);
      assert.deepEqual(
        asked.filter((name) => !names.has(name)),
        [],
      );
      assert.match(labels.severity, /^(critical|warning)$/);
      assert.ok(annotations.summary.length > 0 && annotations.description.length > 0);
      assert.equal(annotations.runbook_url, `deploy/runbooks/${alert}.md`);
      const page = readFileSync(join(RUNBOOKS, `${alert}.md`), 'utf8');
      assert.ok(page.startsWith(`# ${alert}\n`));
      for (const title of ['What it means', 'What a person sees', 'What to do first']) {
        const text = page.split(`## ${title}\n`)[1]?.split('\n## ')[0] ?? '';
        assert.ok(text.trim().length > 20, `${title}: ${text}`);
      }
      assert.deepEqual(
        metricsIn(page).filter((name) => !names.has(name)),
        [],
      );
    });

  test('no page is without its alert', () => {
    assert.deepEqual(readdirSync(RUNBOOKS).sort(), alerts.map(({ alert }) => `${alert}.md`).sort());
  });
});

describe('dashboards', () => {
  const files = readdirSync(DASHBOARDS);
  test('the five are there', () => {
    assert.deepEqual(files.sort(), ['index.json', 'ingest.json', 'overview.json', 'queues.json', 'storage.json']);
  });
  const uids = new Set<string>();
  for (const file of files)
    test(`${file}: each metric exists, each panel asks something, none covers another`, () => {
      const dashboard = JSON.parse(readFileSync(join(DASHBOARDS, file), 'utf8')) as {
        uid: string;
        title: string;
        panels: { id: number; title: string; gridPos: { x: number; y: number }; targets: { expr: string }[] }[];
      };
      assert.ok(!uids.has(dashboard.uid));
      uids.add(dashboard.uid);
      assert.ok(dashboard.panels.length >= 7);
      for (const { title, targets } of dashboard.panels)
        for (const { expr } of targets) {
          const asked = metricsIn(expr);
          assert.ok(asked.length > 0, title);
          assert.deepEqual(
            asked.filter((name) => !names.has(name)),
            [],
            title,
          );
        }
      const places = dashboard.panels.map(({ gridPos }) => `${gridPos.x} ${gridPos.y}`);
      assert.equal(new Set(places).size, places.length);
      assert.ok(!JSON.stringify(dashboard).includes('"patient'), 'no patients here');
    });
});

test('what scales and what drains asks for metrics that exist', () => {
  for (const path of ['charts/gantry/values.yaml', 'charts/gantry/files/scale-in.mts']) {
    assert.ok(existsSync(join(CHECKOUT, path)));
    const asked = metricsIn(readFileSync(join(CHECKOUT, path), 'utf8'));
    assert.ok(asked.length > 0, path);
    assert.deepEqual(
      asked.filter((name) => !names.has(name)),
      [],
      path,
    );
  }
});
