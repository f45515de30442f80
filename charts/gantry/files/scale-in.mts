// Which ingest pod goes first when there are too many. Kubernetes removes the pod with the lowest
// controller.kubernetes.io/pod-deletion-cost; this writes each pod's open associations there. Best effort: with old numbers a busier
// pod goes, and drains. No imports but node's own: it runs in the image as it is.
import { readFileSync } from 'node:fs';

const ANNOTATION = 'controller.kubernetes.io/pod-deletion-cost';
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const PATIENCE_MS = 5_000;

export interface Pod {
  metadata: { name: string; annotations?: Record<string, string>; deletionTimestamp?: string };
  status?: { podIP?: string; phase?: string };
}

export interface Cluster {
  pods(): Promise<Pod[]>;
  metrics(address: string): Promise<string>;
  annotate(name: string, annotations: Record<string, string>): Promise<void>;
}

/** Open associations, and work in progress, which weighs more than an idle one. */
export function costOf(metrics: string): number {
  const sum = (name: string): number =>
    [...metrics.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.eE+-]+)`, 'gm'))].reduce((all, [, value]) => all + Number(value), 0);
  const cost = sum('gantry_dimse_associations') + 10 * sum('gantry_dimse_retrieves');
  return Math.min(Math.round(cost), 2_147_483_647);
}

/** One round. A pod that does not answer keeps what it had: it may be the busiest. */
export async function round(cluster: Cluster): Promise<{ changed: number; silent: number }> {
  let [changed, silent] = [0, 0];
  const pods = await cluster.pods();
  await Promise.all(
    pods.map(async ({ metadata, status }) => {
      if (metadata.deletionTimestamp !== undefined || status?.phase !== 'Running' || !status.podIP) return;
      const metrics = await cluster.metrics(status.podIP).catch(() => undefined); // a pod that starts or goes: counted as silent
      if (metrics === undefined) {
        silent++;
        return;
      }
      const cost = String(costOf(metrics));
      // Each change is a write to etcd: only differences.
      if ((metadata.annotations?.[ANNOTATION] ?? '0') === cost) return;
      await cluster.annotate(metadata.name, { [ANNOTATION]: cost });
      changed++;
    }),
  );
  return { changed, silent };
}

export function realCluster(env: Record<string, string | undefined>): Cluster {
  const selector = Object.entries(JSON.parse(env.SELECTOR ?? '{}') as Record<string, string>)
    .map(([label, value]) => `${label}=${value}`)
    .join(',');
  const host = env.KUBERNETES_SERVICE_HOST ?? 'kubernetes.default.svc';
  const base = `https://${host.includes(':') ? `[${host}]` : host}:${env.KUBERNETES_SERVICE_PORT ?? '443'}/api/v1/namespaces/${env.NAMESPACE}/pods`;
  const ask = async (url: string, init: RequestInit = {}): Promise<Response> => {
    // Read each time: the kubelet renews it.
    const token = readFileSync(`${ACCOUNT}/token`, 'utf8').trim();
    const answer = await fetch(url, {
      ...init,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/strategic-merge-patch+json' },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw new Error(`${init.method ?? 'GET'} ${url}: ${answer.status}`);
    return answer;
  };
  return {
    async pods() {
      const list = (await (await ask(`${base}?labelSelector=${encodeURIComponent(selector)}&limit=500`)).json()) as { items: Pod[] };
      return list.items;
    },
    async metrics(address) {
      const at = address.includes(':') ? `[${address}]` : address;
      const answer = await fetch(`http://${at}:${env.METRICS_PORT}/metrics`, { signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(`/metrics: ${answer.status}`);
      return answer.text();
    },
    async annotate(name, annotations) {
      await ask(`${base}/${name}`, { method: 'PATCH', body: JSON.stringify({ metadata: { annotations } }) });
    },
  };
}

if (import.meta.main) {
  const cluster = realCluster(process.env);
  const intervalMs = Number(process.env.INTERVAL_SECONDS ?? '15') * 1000;
  process.on('SIGTERM', () => process.exit(0));
  const log = (level: string, msg: string, more: object) => console.log(JSON.stringify({ time: new Date().toISOString(), level, msg, ...more }));
  log('info', 'writing deletion costs', { intervalMs });
  for (;;) {
    try {
      const { changed, silent } = await round(cluster);
      if (changed > 0 || silent > 0) log('info', 'deletion costs', { changed, silent });
    } catch (error) {
      // The API server may be away for a while: the next round is soon.
      log('warn', 'this round failed', { error: error instanceof Error ? error.message : String(error) });
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}
