// A Prometheus beside the cluster that scrapes what the chart's PodMonitor names, under the labels that the Prometheus operator gives.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../peers/server.ts';
import { requirePeer } from '../../setup/peers.ts';
import { type Manifest, render } from '../clients.ts';
import { NAMESPACE } from '../install.ts';

/** One scrape job for each endpoint, as the operator writes it (pkg/prometheus/promcfg.go). JSON is YAML. */
export function scrapeConfigs(monitor: Manifest, kubeconfig: string): object[] {
  const meta = (name: string) => `__meta_kubernetes_${name}`;
  const selected = Object.entries(monitor.spec.selector.matchLabels as Record<string, string>).map(
    ([label, regex]) => ({
      action: 'keep',
      source_labels: [meta(`pod_label_${label.replaceAll(/[^A-Za-z0-9_]/g, '_')}`)],
      regex,
    }),
  );
  return (monitor.spec.podMetricsEndpoints as { port: string; path: string; interval: string }[]).map(
    ({ port, path, interval }, at) => ({
      job_name: `podMonitor/${NAMESPACE}/${monitor.metadata.name}/${at}`,
      kubernetes_sd_configs: [{ role: 'pod', kubeconfig_file: kubeconfig, namespaces: { names: [NAMESPACE] } }],
      scrape_interval: interval,
      metrics_path: path,
      relabel_configs: [
        { action: 'drop', source_labels: [meta('pod_phase')], regex: 'Failed|Succeeded' },
        ...selected,
        { action: 'keep', source_labels: [meta('pod_container_port_name')], regex: port },
        { source_labels: [meta('namespace')], target_label: 'namespace' },
        { source_labels: [meta('pod_container_name')], target_label: 'container' },
        { source_labels: [meta('pod_name')], target_label: 'pod' },
      ],
    }),
  );
}

/** Its address, and what ends it. */
export async function prometheus(configs: object[]): Promise<{ address: string; stop(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-prometheus-'));
  const port = await freePort();
  const config = join(folder, 'prometheus.yml');
  writeFileSync(config, JSON.stringify({ scrape_configs: configs }));
  const child: ChildProcess = spawn(
    requirePeer('prometheus'),
    [`--config.file=${config}`, `--storage.tsdb.path=${folder}/tsdb`, `--web.listen-address=127.0.0.1:${port}`],
    { stdio: 'ignore' },
  );
  const stop = () => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', stop);
  return { address: `http://127.0.0.1:${port}`, stop };
}

export const podMonitor = (): Manifest => {
  const found = render('trial', 'monitoring.podMonitor=true').find(({ kind }) => kind === 'PodMonitor');
  if (found === undefined) throw new Error('the chart renders no PodMonitor');
  return found;
};
