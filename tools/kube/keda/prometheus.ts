// A Prometheus beside the cluster that scrapes what the chart's PodMonitor names, under the labels that the Prometheus operator gives.
// Debian builds it without the discovery of Kubernetes: a file of pods takes its place, whose labels are those that it would give.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../peers/server.ts';
import { requirePeer } from '../../setup/peers.ts';
import { type Manifest, render } from '../clients.ts';
import { NAMESPACE } from '../install.ts';

const READY_MS = 30_000;

const meta = (name: string): string => `__meta_kubernetes_${name}`;
const metaLabel = (label: string): string => meta(`pod_label_${label.replaceAll(/[^A-Za-z0-9_]/g, '_')}`);

export interface Pod {
  metadata: { name: string; namespace: string; labels?: Record<string, string> };
  spec: {
    containers: Container[];
    initContainers?: Container[];
  };
  status: { phase: string; podIP?: string };
}
interface Container {
  name: string;
  ports?: { name?: string; containerPort: number }[];
}

/** What `kubernetes_sd_configs` of role `pod` finds: each port of each container of a pod that has an address. */
export const targetsOf = (pods: readonly Pod[]): { targets: string[]; labels: Record<string, string> }[] =>
  pods.flatMap(({ metadata, spec, status }) =>
    status.podIP === undefined
      ? []
      : [...spec.containers, ...(spec.initContainers ?? [])].flatMap((container) =>
          (container.ports ?? []).map((port) => ({
            targets: [`${status.podIP}:${port.containerPort}`],
            labels: {
              [meta('namespace')]: metadata.namespace,
              [meta('pod_name')]: metadata.name,
              [meta('pod_phase')]: status.phase,
              [meta('pod_container_name')]: container.name,
              [meta('pod_container_port_name')]: port.name ?? '',
              ...Object.fromEntries(
                Object.entries(metadata.labels ?? {}).map(([label, value]) => [metaLabel(label), value]),
              ),
            },
          })),
        ),
  );

/** One scrape job for each endpoint, as the operator writes it (pkg/prometheus/promcfg.go). JSON is YAML. `pods`: a file of `targetsOf`. */
export function scrapeConfigs(monitor: Manifest, pods: string): object[] {
  const selected = Object.entries(monitor.spec.selector.matchLabels as Record<string, string>).map(
    ([label, regex]) => ({ action: 'keep', source_labels: [metaLabel(label)], regex }),
  );
  return (monitor.spec.podMetricsEndpoints as { port: string; path: string; interval: string }[]).map(
    ({ port, path, interval }, at) => ({
      job_name: `podMonitor/${NAMESPACE}/${monitor.metadata.name}/${at}`,
      file_sd_configs: [{ files: [pods] }],
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

/** Its address, and what ends it. Throws what it says where it does not start. */
export async function prometheus(configs: object[]): Promise<{ address: string; stop(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-prometheus-'));
  const port = await freePort();
  const address = `http://127.0.0.1:${port}`;
  const config = join(folder, 'prometheus.yml');
  writeFileSync(config, JSON.stringify({ scrape_configs: configs }));
  const log = join(folder, 'log');
  const output = openSync(log, 'w');
  const child: ChildProcess = spawn(
    requirePeer('prometheus'),
    [`--config.file=${config}`, `--storage.tsdb.path=${folder}/tsdb`, `--web.listen-address=127.0.0.1:${port}`],
    { stdio: ['ignore', output, output] },
  );
  closeSync(output);
  const stop = () => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', stop);
  for (const until = performance.now() + READY_MS; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const ready = await fetch(`${address}/-/ready`).catch(() => undefined); // not listening yet
    if (ready?.ok) return { address, stop };
    if (child.exitCode === null && child.signalCode === null && performance.now() < until) continue;
    const said = readFileSync(log, 'utf8').slice(-2000);
    stop();
    throw new Error(`Prometheus does not start: ${said}`);
  }
}

export const podMonitor = (): Manifest => {
  const found = render('trial', 'monitoring.podMonitor=true').find(({ kind }) => kind === 'PodMonitor');
  if (found === undefined) throw new Error('the chart renders no PodMonitor');
  return found;
};
