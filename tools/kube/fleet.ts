// The modalities of senders.ts in a pod: load that comes from inside the cluster, steered over `kubectl exec`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { clientPath } from './clients.ts';
import { type Installation, NAMESPACE, RELEASE } from './install.ts';
import type { Counts, Fleet } from './senders.ts';

const POD = 'modalities';
const HERE = import.meta.dirname;
/** They are no part of the image: the pod finds them where the program's own imports lead. */
const FILES = { 'senders.ts': 'tools/kube/senders.ts', 'instances.ts': 'tools/chaos/instances.ts' };

const podOf = (image: string, node: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: POD },
  spec: {
    nodeName: node,
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 1,
    securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
    containers: [
      {
        name: POD,
        image,
        command: ['node', '-e', 'setInterval(() => {}, 1e6)'],
        resources: { requests: { cpu: '10m', memory: '128Mi' }, limits: { memory: '512Mi' } },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        volumeMounts: Object.entries(FILES).map(([subPath, path]) => ({
          name: 'program',
          subPath,
          mountPath: `/opt/gantry/${path}`,
        })),
      },
    ],
    volumes: [{ name: 'program', configMap: { name: POD } }],
  },
});

export async function fleetInPod(target: Installation, seed: number, size: number): Promise<Fleet> {
  const { kubectl, env } = target;
  const apply = (manifest: unknown) => target.apply(manifest);
  kubectl('delete', 'pod,configmap', POD, '--ignore-not-found', '--wait');
  apply(
    JSON.parse(
      kubectl(
        ...['create', 'configmap', POD, '--dry-run=client', '-o', 'json'],
        ...[`--from-file=${join(HERE, 'senders.ts')}`, `--from-file=${join(HERE, '../chaos/instances.ts')}`],
      ),
    ),
  );
  const image = kubectl(
    'get',
    'deployment',
    `${RELEASE}-auth`,
    '-o',
    'jsonpath={.spec.template.spec.containers[0].image}',
  );
  const node = kubectl('get', 'nodes', '-o', 'jsonpath={.items[0].metadata.name}');
  apply(podOf(image, node));
  kubectl('wait', '--for=condition=Ready', `pod/${POD}`, '--timeout=60s');
  const child = spawn(
    clientPath('kubectl'),
    [
      ...['-n', NAMESPACE, 'exec', '-i', POD, '--', 'node', '/opt/gantry/tools/kube/senders.ts'],
      ...[RELEASE, '11112', String(seed), String(size)],
    ],
    { env, stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const acknowledged = new Set<number>();
  const counts: Counts = { attempts: 0, failedAttempts: 0, givenUp: 0, longestMs: 0, open: 0 };
  createInterface({ input: child.stdout }).on('line', (line) => {
    const said = JSON.parse(line) as { acknowledged: number[]; counts: Counts };
    for (const n of said.acknowledged) acknowledged.add(n);
    Object.assign(counts, said.counts);
  });
  const order = (line: string) => void child.stdin.write(`${line}\n`);
  return {
    acknowledged,
    counts,
    sending: (count, pauseMs = 0) => order(`sending ${count} ${pauseMs}`),
    reconnect: () => order('reconnect'),
    async stop() {
      order('stop');
      const [code] = await ended;
      if (code !== 0) throw new Error(`the modalities in pod ${POD} ended with ${code}`);
      kubectl('delete', 'pod,configmap', POD, '--wait=false');
    },
  };
}
