// A Gantry on a Kubernetes: the one that KUBECONFIG names, or the one that up.sh makes here, with the image built from this checkout.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHART, clientPath } from './clients.ts';
import { ELASTICSEARCH_COMMAND, gantryImage, serverImages } from './images.ts';

const HERE = import.meta.dirname;
export const NAMESPACE = 'imaging';
export const RELEASE = 'gantry';

export interface Installation {
  host: string;
  httpPort: number;
  dimsePort: number;
  /** This machine's own cluster: nodes can be added and switched off. */
  local: boolean;
  kubectl(...args: string[]): string;
  helm(...args: string[]): string;
  script(name: 'node.sh' | 'load.sh', ...args: string[]): string;
  /** The release again, with what it had and `more`; waits until every role has it. */
  upgrade(more: string[]): void;
}

const run = (program: string, args: string[], env: NodeJS.ProcessEnv): string =>
  execFileSync(program, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 64 << 20 });

/** `more`: values files and --set for the chart. A cluster of somebody else's must be able to have the image it names. */
export async function install(say: (text: string) => void, more: string[] = []): Promise<Installation> {
  const given = process.env.KUBECONFIG;
  const local = given === undefined;
  const env = { ...process.env };
  say(local ? 'starting Kubernetes (log files: /tmp/gantry-kube/log)' : `using the Kubernetes of ${given}`);
  if (local) env.KUBECONFIG = run(join(HERE, 'up.sh'), [], env).trim().split('\n').at(-1)!;
  const kubectl = (...args: string[]) => run(clientPath('kubectl'), ['-n', NAMESPACE, ...args], env);
  const helm = (...args: string[]) => run(clientPath('helm'), ['-n', NAMESPACE, ...args], env);
  const script = (name: string, ...args: string[]) => run(join(HERE, name), args, env);
  const values = ['-f', join(CHART, 'values-trial.yaml')];
  if (local) {
    const folder = mkdtempSync(join(tmpdir(), 'gantry-images-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    say('building the image of Gantry, and those of NATS, S3 and Elasticsearch');
    const { COMMIT: commit } = process.env;
    script('load.sh', gantryImage(folder, 'kube', commit ? { commit } : {}), ...(await serverImages(folder)));
    const file = join(folder, 'values.yaml');
    writeFileSync(
      file,
      `image: {repository: docker.io/library/gantry, tag: kube}
s3: {bundled: {image: 'registry.local/versitygw:1', storage: 2Gi}}
nats: {bundled: {image: 'registry.local/nats-server:1'}}
elasticsearch:
  bundled:
    image: 'registry.local/elasticsearch:1'
    command: ${JSON.stringify(ELASTICSEARCH_COMMAND)}
    storage: 2Gi
roles: {index: {replicas: 2}}
`,
    );
    values.push('-f', file);
  }
  // "restricted" is enforced: what the chart renders must pass.
  spawnSync(clientPath('kubectl'), ['create', 'namespace', NAMESPACE], { env, stdio: 'ignore' });
  kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=restricted', '--overwrite');
  say('installing the chart, and waiting until every role is ready');
  // What an earlier run scaled by hand is taken back.
  const always = ['upgrade', '--install', RELEASE, CHART, ...values, '--force-conflicts', '--wait'];
  helm(...always, ...more, '--timeout', '5m');
  const upgrade = (further: string[]) => void helm(...always, ...more, ...further, '--timeout', '20m');
  const service = JSON.parse(kubectl('get', 'service', RELEASE, '-o', 'json')) as {
    spec: { ports: { name: string; nodePort: number }[] };
  };
  const nodes = JSON.parse(kubectl('get', 'nodes', '-o', 'json')) as {
    items: { status: { addresses: { type: string; address: string }[] } }[];
  };
  const port = (name: string) => service.spec.ports.find((one) => one.name === name)!.nodePort;
  const host = nodes.items[0]!.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
  return { host, httpPort: port('http'), dimsePort: port('dimse'), local, kubectl, helm, script, upgrade };
}
