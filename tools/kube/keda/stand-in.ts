// Stands in for KEDA, of which there is no image here: the chart's ScaledObjects go into the cluster under KEDA's own definition, an HPA
// is made of each, and an APIService serves what they ask for. Not stood in for: fallback, scaling to zero, KEDA's webhook.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { freePort } from '../../peers/server.ts';
import { clientPath } from '../clients.ts';
import { type Installation, NAMESPACE, RUN } from '../install.ts';
import { hpaOf, type ScaledObject, signalsOf } from './hpa.ts';
import { CERTIFICATE, type Told } from './metrics.ts';
import { type Pod, podMonitor, prometheus, scrapeConfigs, targetsOf } from './prometheus.ts';

const HERE = import.meta.dirname;
const execute = promisify(execFile);
const PKI = join(RUN, 'pki');
const GROUP = 'external.metrics.k8s.io';
const CRD = 'scaledobjects.keda.sh';
/** Prometheus itself hears of a new pod at once; a scrape comes every 15 s. */
const DISCOVERY_MS = 3_000;

/** What the HPA controller was told of a signal. Values are sums over the pods of a role, as the query makes them. */
export interface Seen {
  object: string;
  signal: string;
  threshold: number;
  answers: number;
  last: number;
  highest: number;
  error: string | undefined;
}
export interface StandIn {
  readonly seen: readonly Seen[];
  /** Forgets what was seen until now. */
  again(): void;
  /** The chart scales by CPU again, and nothing of KEDA is left. */
  stop(): Promise<void>;
}

/** Writes again and again which pods there are, by a program of its own: the process that drives the senders is not held up. */
function discover(target: Installation, file: string): { stop(): void } {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    execute(clientPath('kubectl'), ['-n', NAMESPACE, 'get', 'pods', '-o', 'json'], {
      env: target.env,
      maxBuffer: 64 << 20,
    })
      .then(({ stdout: text }) => {
        writeFileSync(`${file}.new`, JSON.stringify(targetsOf((JSON.parse(text) as { items: Pod[] }).items)));
        renameSync(`${file}.new`, file);
      })
      .catch(() => {}) // the API server is busy: the next look finds what is there
      .finally(() => {
        if (!stopped) timer = setTimeout(look, DISCOVERY_MS);
      });
  };
  look();
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** The release with `more` and KEDA on; its signals are those of Prometheus from now on. `bridge`: where the API server reaches this machine. */
export async function standIn(target: Installation, bridge: string, more: string[]): Promise<StandIn> {
  const { kubectl, apply } = target;
  const crd = execFileSync(join(HERE, 'crd.sh'), { encoding: 'utf8' }).trim();
  kubectl('apply', '--server-side', '-f', crd);
  kubectl('wait', '--for=condition=Established', `crd/${CRD}`, '--timeout=30s');
  const folder = mkdtempSync(join(tmpdir(), 'gantry-pods-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const pods = join(folder, 'pods.json');
  writeFileSync(pods, '[]');
  const discovery = discover(target, pods);
  const { address, stop: stopPrometheus } = await prometheus(scrapeConfigs(podMonitor(), pods)).catch((error) => {
    discovery.stop();
    throw error;
  });
  await target.upgrade([...more, '--set', `keda.enabled=true,keda.prometheusAddress=${address}`]);
  const { items } = JSON.parse(kubectl('get', CRD, '-o', 'json')) as { items: ScaledObject[] };

  execFileSync(join(HERE, '../pki.sh'), [PKI, 'serve', CERTIFICATE, `${CERTIFICATE}.${NAMESPACE}.svc`]);
  const port = await freePort();
  const child = spawn(process.execPath, [join(HERE, 'metrics.ts'), PKI, bridge, String(port)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.write(`${JSON.stringify(items)}\n`);
  const seen: Seen[] = [];
  const again = () => {
    seen.length = 0;
    for (const object of items)
      for (const { name, threshold } of signalsOf(object))
        seen.push({
          object: object.metadata.name,
          signal: name,
          threshold,
          answers: 0,
          last: Number.NaN,
          highest: 0,
          error: undefined,
        });
  };
  again();
  const lines = createInterface({ input: child.stdout });
  await once(lines, 'line');
  lines.on('line', (line) => {
    const { object, signal, value, error } = JSON.parse(line) as Told;
    const one = seen.find((row) => row.object === object && row.signal === signal)!;
    one.error = error;
    if (value === undefined) return;
    one.answers++;
    one.last = value;
    one.highest = Math.max(one.highest, value);
  });

  const names = { metadata: { name: CERTIFICATE } };
  apply({ apiVersion: 'v1', kind: 'Service', ...names, spec: { ports: [{ name: 'https', port: 443 }] } });
  apply({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: CERTIFICATE, labels: { 'kubernetes.io/service-name': CERTIFICATE } },
    addressType: 'IPv4',
    ports: [{ name: 'https', port }],
    endpoints: [{ addresses: [bridge], conditions: { ready: true } }],
  });
  apply({
    apiVersion: 'apiregistration.k8s.io/v1',
    kind: 'APIService',
    metadata: { name: `v1beta1.${GROUP}` },
    spec: {
      group: GROUP,
      version: 'v1beta1',
      groupPriorityMinimum: 100,
      versionPriority: 100,
      caBundle: readFileSync(join(PKI, 'ca.crt')).toString('base64'),
      service: { name: CERTIFICATE, namespace: NAMESPACE, port: 443 },
    },
  });
  kubectl('wait', '--for=condition=Available', `apiservice/v1beta1.${GROUP}`, '--timeout=60s');
  for (const object of items) apply(hpaOf(object));

  return {
    seen,
    again,
    async stop() {
      kubectl('delete', 'apiservice', `v1beta1.${GROUP}`);
      kubectl('delete', `service/${CERTIFICATE}`, `endpointslice/${CERTIFICATE}`);
      await target.upgrade([]);
      // Their owners are gone; it is waited for, so that no two scale the same pods.
      for (const object of items)
        kubectl('wait', '--for=delete', `hpa/${hpaOf(object).metadata.name}`, '--timeout=60s');
      kubectl('delete', 'crd', CRD);
      child.stdin.end();
      discovery.stop();
      stopPrometheus();
    },
  };
}
