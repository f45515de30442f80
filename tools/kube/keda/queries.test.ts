// Every query of the chart's scalers, asked of a real Prometheus that scrapes a real Gantry under the labels of its pods: one number each,
// and an idle process is below every threshold, whoever else reads its metrics.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type GantryServer, startServer } from '../../peers/server.ts';
import { without } from '../../setup/peers.ts';
import { render } from '../clients.ts';
import { type ScaledObject, type Signal, signalsOf } from './hpa.ts';
import { ask } from './metrics.ts';
import { type Pod, podMonitor, prometheus, scrapeConfigs, targetsOf } from './prometheus.ts';

const NAMESPACE = 'imaging'; // as clients.ts renders
/** Prometheus has to come by twice for a rate. */
const PATIENCE_MS = 60_000;
const PODS = ['gateway', 'ingest', 'storage', 'index'];

describe('the queries of the scalers', { skip: without('prometheus'), timeout: 120_000 }, () => {
  let server: GantryServer;
  let folder: string | undefined;
  let stop: (() => void) | undefined;
  let signals: Signal[];
  before(async () => {
    server = await startServer();
    // As the cluster says it, so that the discovery, the chart's PodMonitor and its labels are tried too.
    const pod = (role: string, name: string): Pod => ({
      metadata: {
        name: `gantry-${role}-5d9c-${name}`,
        namespace: NAMESPACE,
        labels: podMonitor().spec.selector.matchLabels as Record<string, string>,
      },
      spec: { containers: [{ name: role, ports: [{ name: 'health', containerPort: server.httpPort }] }] },
      status: { phase: 'Running', podIP: '127.0.0.1' },
    });
    folder = mkdtempSync(join(tmpdir(), 'gantry-pods-'));
    const file = join(folder, 'pods.json');
    writeFileSync(file, JSON.stringify(targetsOf(PODS.flatMap((role) => [pod(role, 'a'), pod(role, 'b')]))));
    const configs = scrapeConfigs(podMonitor(), file).map((one) => ({
      ...one,
      scrape_interval: '2s',
      scrape_timeout: '2s',
    }));
    const started = await prometheus(configs);
    stop = started.stop;
    const objects = render('network', `keda.prometheusAddress="${started.address}"`).filter(
      ({ kind }) => kind === 'ScaledObject',
    ) as ScaledObject[];
    signals = objects.flatMap(signalsOf);
  });
  after(async () => {
    stop?.();
    if (folder !== undefined) rmSync(folder, { recursive: true });
    await server?.close();
  });

  async function numberOf(signal: Signal): Promise<number> {
    const patience = performance.now() + PATIENCE_MS;
    for (;;)
      try {
        return await ask(signal);
      } catch (error) {
        if (performance.now() > patience) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
  }

  test('one number each', async () => {
    assert.ok(signals.length >= 8);
    for (const signal of signals) assert.ok((await numberOf(signal)) >= 0, signal.name);
  });

  test('an event loop’s share is its own, however often somebody reads it', async () => {
    // The gauge beside it counts from the last reading: read in a row it says that the process does nothing but answer.
    const eventLoop = signals.find(({ name }) => name === 'ingest-event-loop')!;
    const scrape = async () => (await fetch(`${server.origin}/metrics`)).text();
    const gauges: number[] = [];
    for (let reading = 0; reading < 40; reading++)
      gauges.push(Number(/^gantry_process_event_loop_utilization (\S+)/m.exec(await scrape())![1]));
    assert.ok(Math.max(...gauges) > eventLoop.threshold, `${gauges}`);
    // Two pods, so that the sum is for both.
    const share = (await numberOf(eventLoop)) / 2;
    assert.ok(share < eventLoop.threshold, `${share}`);
  });
});
