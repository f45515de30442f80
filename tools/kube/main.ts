// `make cluster-k8s`: a Kubernetes on this machine (or the one of KUBECONFIG), the chart on it, in the foreground; Ctrl-C removes it.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { install, NAMESPACE, RELEASE, RUN } from './install.ts';

const began = Date.now();
const say = (text: string) => {
  const seconds = String(Math.round((Date.now() - began) / 1000)).padStart(4);
  process.stdout.write(`${seconds} s  ${text}\n`);
};
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopped.abort());
const local = process.env.KUBECONFIG === undefined || process.env.KUBECONFIG.startsWith(RUN);
function remove(): void {
  say('removing the cluster');
  spawnSync(join(import.meta.dirname, 'down.sh'), { stdio: 'inherit' });
}

try {
  const { host, httpPort, dimsePort, helm } = await install(say, process.argv.slice(2), stopped.signal);
  say('knocking at both doors (helm test)');
  helm('test', RELEASE); // it says what is wrong, when something is
  say('ready');
  process.stdout.write(`
  HTTP      http://${host}:${httpPort}       the viewer is at /viewer/, DICOMweb at /dicom-web
  DICOM     ${host}:${dimsePort}, AE title GANTRY, and anyone may call
  Cluster   ${local ? `export KUBECONFIG=${join(RUN, 'pki/admin.kubeconfig')}; ` : ''}kubectl -n ${NAMESPACE} get pods
            Ctrl-C ${local ? 'removes all of it, what was stored too' : `uninstalls ${RELEASE}; its volumes and secrets stay`}

`);
  await new Promise<void>((resolve) => {
    // Something to wait for: a signal alone keeps no process alive.
    const alive = setInterval(() => {}, 3_600_000);
    const end = () => {
      clearInterval(alive);
      resolve();
    };
    if (stopped.signal.aborted) end();
    else stopped.signal.addEventListener('abort', end);
  });
  if (local) remove();
  else helm('uninstall', RELEASE, '--wait');
} catch (error) {
  if (stopped.signal.aborted && local) {
    remove();
    process.exit(130);
  }
  process.stderr.write(`make cluster-k8s: ${(error as Error).message}\n`);
  if (local)
    process.stderr.write('What there is of the cluster is left for you to look at; tools/kube/down.sh removes it.\n');
  process.exit(1);
}
