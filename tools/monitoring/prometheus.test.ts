// A real Prometheus scrapes a real Gantry: what was stored is counted, exemplars arrive, the rules load, and promtool has nothing to say.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Collector, startCollector } from '#platform/collector.testing.ts';
import { testFiles } from '../peers/files.ts';
import { freePort, type GantryServer, startServer } from '../peers/server.ts';
import { requirePeer, without } from '../setup/peers.ts';
import { CHECKOUT } from './names.ts';

const PATIENCE_MS = 30_000;

interface Result {
  metric: Record<string, string>;
  value: [number, string];
}

describe('Prometheus', { skip: without('prometheus', 'promtool'), timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-prometheus-'));
  let collector: Collector;
  let server: GantryServer;
  let prometheus: ChildProcess;
  let origin: string;
  let stored = 0;

  before(async () => {
    collector = await startCollector();
    server = await startServer({
      env: { GANTRY_PLATFORM_OTLP_ENDPOINT: collector.endpoint, GANTRY_PLATFORM_TRACE_SAMPLE: '1' },
    });
    const port = await freePort();
    origin = `http://127.0.0.1:${port}`;
    const config = join(directory, 'prometheus.yml');
    writeFileSync(
      config,
      `global: {scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 1s}
rule_files: [${join(CHECKOUT, 'charts/gantry/files/alerts.yaml')}]
scrape_configs:
  - job_name: gantry
    static_configs: [{targets: ['127.0.0.1:${server.httpPort}']}]
`,
    );
    const args = [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'tsdb')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
    ];
    prometheus = spawn(requirePeer('prometheus'), args, { stdio: 'ignore' });
    const { files } = await testFiles();
    for (const { bytes } of files.filter(({ row }) => row.class === 'storable').slice(0, 8)) {
      const response = await fetch(`${server.origin}/api/v1/instances`, {
        method: 'POST',
        headers: { 'content-type': 'application/dicom' },
        body: new Uint8Array(bytes),
      });
      assert.ok(response.ok);
      if (((await response.json()) as { status: number }).status === 0) stored++;
    }
  });
  after(async () => {
    const ended = prometheus === undefined || prometheus.exitCode !== null ? undefined : once(prometheus, 'exit');
    prometheus?.kill('SIGTERM');
    await ended;
    await server?.close();
    await collector?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  async function ask<T>(path: string): Promise<T | undefined> {
    const response = await fetch(`${origin}${path}`).catch(() => undefined); // it is still starting
    if (!response?.ok) return undefined;
    return ((await response.json()) as { data: T }).data;
  }
  /** Until Prometheus has seen it: it comes by for its samples when it will. */
  async function until<T>(path: string, enough: (data: T) => boolean): Promise<T> {
    let data: T | undefined;
    for (const late = Date.now() + PATIENCE_MS; Date.now() < late; ) {
      data = await ask<T>(path);
      if (data !== undefined && enough(data)) return data;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${decodeURIComponent(path)} still gives ${JSON.stringify(data)}`);
  }
  const query = (expr: string, enough: (result: Result[]) => boolean) =>
    until<{ result: Result[] }>(`/api/v1/query?query=${encodeURIComponent(expr)}`, ({ result }) => enough(result));

  test('what was stored is what it counts', async () => {
    assert.ok(stored > 2);
    const isAll = (result: Result[]) => Number(result[0]?.value[1]) === stored;
    await query('sum(gantry_ingest_instances_total)', isAll);
    await query('sum(gantry_storage_append_seconds_count)', isAll);
    await query('sum(gantry_index_folded_instances_total)', isAll);
    const { result } = await query('gantry_build_info', ({ length }) => length > 0);
    assert.equal(result[0]!.metric.role, 'all');
  });

  test('an exemplar leads to a trace that the collector has', async () => {
    const end = Math.ceil(Date.now() / 1000) + 10;
    const path = `/api/v1/query_exemplars?query=gantry_storage_append_seconds_bucket&start=${end - 600}&end=${end}`;
    const found = await until<{ exemplars: { labels: { trace_id: string } }[] }[]>(path, ({ length }) => length > 0);
    const traceId = found[0]!.exemplars[0]!.labels.trace_id;
    await collector.until((spans) => spans.some((span) => span.traceId === traceId && span.name === 'storage.append'));
  });

  test('the rules are loaded and well', async () => {
    type Rules = { groups: { rules: { name: string; health: string; state: string }[] }[] };
    const { groups } = await until<Rules>('/api/v1/rules', (data) =>
      data.groups.every(({ rules }) => rules.every(({ health }) => health === 'ok')),
    );
    const rules = groups.flatMap((group) => group.rules);
    assert.ok(rules.length >= 17);
    assert.deepEqual(
      rules.filter(({ state }) => state === 'firing').map(({ name }) => name),
      [],
    );
  });

  test('promtool finds nothing to say of the whole of it', async () => {
    const input = await (await fetch(`${server.origin}/metrics`)).text();
    assert.ok(input.split('\n').filter((line) => line.startsWith('# TYPE')).length > 50);
    const checked = spawnSync(requirePeer('promtool'), ['check', 'metrics'], { input, encoding: 'utf8' });
    assert.equal(checked.stdout + checked.stderr, '');
    assert.equal(checked.status, 0);
  });
});
