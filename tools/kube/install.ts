// A Gantry on a Kubernetes: the one that KUBECONFIG names, or the one that up.sh makes here, with the image built from this checkout.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { peersYaml, receiverIn } from '../peers/scenarios/deployment.ts';
import { CHART, clientPath } from './clients.ts';
import { ELASTICSEARCH_COMMAND, gantryImage, serverImages } from './images.ts';

const HERE = import.meta.dirname;
export const NAMESPACE = 'imaging';
export const RELEASE = 'gantry';
/** Where up.sh keeps what runs (env.sh), and what its node is called from here. */
export const RUN = process.env.GANTRY_KUBE_RUN || join(process.env.TMPDIR || '/tmp', 'gantry-kube');
const OWN_CONFIG = join(RUN, 'pki/admin.kubeconfig');
const BRIDGE = '10.244.0.1';

export interface Installation {
  host: string;
  httpPort: number;
  dimsePort: number;
  /** This machine's own cluster: nodes can be added and switched off. */
  local: boolean;
  /** Where pods reach this machine; undefined on a cluster of somebody else's. */
  bridge: string | undefined;
  /** For a program that is started here: KUBECONFIG is in it. */
  env: NodeJS.ProcessEnv;
  kubectl(...args: string[]): string;
  apply(manifest: unknown): void;
  helm(...args: string[]): string;
  script(name: 'node.sh' | 'load.sh', ...args: string[]): string;
  /** The release again, with what it had and `more`; waits until every role has it. */
  upgrade(more: string[]): Promise<void>;
}

const OUTPUT_MAX = 64 << 20;
const run = (program: string, args: string[], env: NodeJS.ProcessEnv): string =>
  execFileSync(program, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: OUTPUT_MAX });
const execute = promisify(execFile);

/** What takes long is waited for, so that a signal is heard meanwhile; what it says on failure is in the error. */
async function runLong(program: string, args: string[], env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<string> {
  try {
    return (await execute(program, args, { env, maxBuffer: OUTPUT_MAX, ...(signal && { signal }) })).stdout;
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    throw new Error(stderr.trim() || message, { cause: error });
  }
}

/** `more`: values files and --set for the chart. A cluster of somebody else's must be able to have the image it names. */
export async function install(
  say: (text: string) => void,
  more: string[] = [],
  signal?: AbortSignal,
): Promise<Installation> {
  const given = process.env.KUBECONFIG;
  const local = given === undefined || given === OWN_CONFIG;
  const env = { ...process.env, KUBECONFIG: given ?? OWN_CONFIG };
  const kubectl = (...args: string[]) => run(clientPath('kubectl'), ['-n', NAMESPACE, ...args], env);
  const helm = (...args: string[]) => run(clientPath('helm'), ['-n', NAMESPACE, ...args], env);
  const script = (name: string, ...args: string[]) => run(join(HERE, name), args, env);
  const apply = (manifest: unknown) => {
    const args = ['-n', NAMESPACE, 'apply', '-f', '-'];
    execFileSync(clientPath('kubectl'), args, {
      env,
      input: JSON.stringify(manifest),
      stdio: ['pipe', 'ignore', 'inherit'],
    });
  };
  const values = ['-f', join(CHART, 'values-trial.yaml')];
  if (local) {
    const folder = mkdtempSync(join(tmpdir(), 'gantry-images-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    say(`starting Kubernetes (its logs: ${RUN}/log), building Gantry's image`);
    const { COMMIT: commit } = process.env;
    const [, image, servers] = await Promise.all([
      runLong(join(HERE, 'up.sh'), [], env, signal),
      gantryImage(folder, 'kube', commit ? { commit } : {}),
      serverImages(),
    ]);
    say('giving the node the images of Gantry, NATS, S3 and Elasticsearch');
    await runLong(join(HERE, 'load.sh'), [image, ...servers], env, signal);
    const file = join(folder, 'values.yaml');
    // The peers are those of the scenario suite: C-MOVE needs to be told where they listen.
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
${peersYaml(receiverIn({ GANTRY_SCENARIO_PEER_HOST: BRIDGE }))}`,
    );
    values.push('-f', file);
  } else {
    say(`using the Kubernetes of KUBECONFIG=${given}`);
  }
  // "restricted" is enforced: what the chart renders must pass.
  spawnSync(clientPath('kubectl'), ['create', 'namespace', NAMESPACE], { env, stdio: 'ignore' });
  kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=restricted', '--overwrite');
  say(`installing the chart (${NAMESPACE}/${RELEASE}), and waiting until every role is ready`);
  // What an earlier run scaled by hand is taken back.
  const upgrade = async (further: string[], timeout = '20m', until = signal) => {
    const always = ['-n', NAMESPACE, 'upgrade', '--install', RELEASE, CHART, ...values, ...more, ...further];
    await runLong(clientPath('helm'), [...always, '--force-conflicts', '--wait', '--timeout', timeout], env, until);
  };
  try {
    await upgrade([], '5m');
  } catch (error) {
    if (!signal?.aborted) say(whatIsNotReady(kubectl));
    throw error;
  }
  const service = JSON.parse(kubectl('get', 'service', RELEASE, '-o', 'json')) as {
    spec: { ports: { name: string; nodePort: number }[] };
  };
  const nodes = JSON.parse(kubectl('get', 'nodes', '-o', 'json')) as {
    items: { status: { addresses: { type: string; address: string }[] } }[];
  };
  const port = (name: string) => service.spec.ports.find((one) => one.name === name)!.nodePort;
  const host = nodes.items[0]!.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
  const bridge = local ? BRIDGE : undefined;
  return {
    host,
    httpPort: port('http'),
    dimsePort: port('dimse'),
    local,
    bridge,
    env,
    kubectl,
    apply,
    helm,
    script,
    upgrade,
  };
}

/** The pods, and the last lines of those that are not ready: what a person would ask for next. */
function whatIsNotReady(kubectl: Installation['kubectl']): string {
  const pods = kubectl('get', 'pods', '--no-headers').trimEnd().split('\n');
  const logs = pods
    .map((line) => line.split(/\s+/))
    .filter(([, ready]) => ready?.split('/')[0] !== ready?.split('/')[1])
    .map(([name]) => `\n--- ${name}\n${tailOf(kubectl, name!)}`);
  return `not every role is ready:\n${pods.join('\n')}\n${logs.join('')}`;
}
function tailOf(kubectl: Installation['kubectl'], pod: string): string {
  try {
    return kubectl('logs', pod, '--all-containers', '--tail=5');
  } catch {
    return kubectl('get', 'events', '--field-selector', `involvedObject.name=${pod}`); // it never started: why, is there
  }
}
