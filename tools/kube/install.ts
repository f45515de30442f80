// A Gantry on a Kubernetes: the one that KUBECONFIG names, or the one that up.sh makes here, with the image built from this checkout.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CHART, clientPath } from './clients.ts';

const HERE = import.meta.dirname;
const CHECKOUT = resolve(HERE, '../..');
const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gantry');
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
}

const run = (program: string, args: string[], env: NodeJS.ProcessEnv): string =>
  execFileSync(program, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 64 << 20 });

/** NATS and S3 as images of one static program, from the programs that tools/servers built. */
function serverImages(folder: string): string[] {
  const programs = { 'nats-server': 'nats-2.15.1', versitygw: 'versitygw-1.8.0' };
  return Object.entries(programs).map(([program, part]) => {
    const tree = join(folder, `tree-${program}`);
    for (const place of ['bin', 'tmp']) mkdirSync(join(tree, place), { recursive: true });
    cpSync(join(CACHE, part, program), join(tree, 'bin', program));
    const archive = join(folder, `${program}.tar`);
    const config = JSON.stringify({ Entrypoint: [`/bin/${program}`] });
    execFileSync('python3', [join(HERE, 'mkimage.py'), archive, `registry.local/${program}:1`, tree, config]);
    return archive;
  });
}

/** `more`: values files and --set for the chart. A cluster of somebody else's must be able to have the image it names. */
export function install(say: (text: string) => void, more: string[] = []): Installation {
  const given = process.env.KUBECONFIG;
  const local = given === undefined;
  const env = { ...process.env };
  if (local) env.KUBECONFIG = run(join(HERE, 'up.sh'), [], env).trim().split('\n').at(-1)!;
  const kubectl = (...args: string[]) => run(clientPath('kubectl'), ['-n', NAMESPACE, ...args], env);
  const helm = (...args: string[]) => run(clientPath('helm'), ['-n', NAMESPACE, ...args], env);
  const script = (name: string, ...args: string[]) => run(join(HERE, name), args, env);
  const values = ['-f', join(CHART, 'values-trial.yaml')];
  if (local) {
    const folder = mkdtempSync(join(tmpdir(), 'gantry-images-'));
    say('building the image');
    run(process.execPath, [join(CHECKOUT, 'tools/image/main.ts'), '--name', 'gantry:kube', '--out', folder], env);
    run(join(CHECKOUT, 'tools/setup/servers.sh'), [], env);
    script(
      'load.sh',
      join(folder, `gantry-kube-${process.arch === 'arm64' ? 'arm64' : 'amd64'}.tar`),
      ...serverImages(folder),
    );
    const file = join(folder, 'values.yaml');
    writeFileSync(
      file,
      `image: {repository: docker.io/library/gantry, tag: kube}
s3: {bundled: {image: 'registry.local/versitygw:1', storage: 2Gi}}
nats: {bundled: {image: 'registry.local/nats-server:1', storage: 1Gi}}
elasticsearch: {embedded: true, bundled: {enabled: false}}
`,
    );
    values.push('-f', file);
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  }
  // "restricted" is enforced: what the chart renders must pass.
  spawnSync(clientPath('kubectl'), ['create', 'namespace', NAMESPACE], { env, stdio: 'ignore' });
  kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=restricted', '--overwrite');
  say('installing the chart');
  // What an earlier run scaled by hand is taken back.
  helm('upgrade', '--install', RELEASE, CHART, ...values, ...more, '--force-conflicts', '--wait', '--timeout', '5m');
  const service = JSON.parse(kubectl('get', 'service', RELEASE, '-o', 'json')) as {
    spec: { ports: { name: string; nodePort: number }[] };
  };
  const nodes = JSON.parse(kubectl('get', 'nodes', '-o', 'json')) as {
    items: { status: { addresses: { type: string; address: string }[] } }[];
  };
  const port = (name: string) => service.spec.ports.find((one) => one.name === name)!.nodePort;
  const host = nodes.items[0]!.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
  return { host, httpPort: port('http'), dimsePort: port('dimse'), local, kubectl, helm, script };
}
