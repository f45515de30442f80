// `make cluster-k8s`: a Kubernetes on this machine (or the one of KUBECONFIG), the chart on it, in the foreground; Ctrl-C removes it.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { install, NAMESPACE, RELEASE } from './install.ts';

const say = (text: string) => process.stdout.write(`  ${text}\n`);
const { host, httpPort, dimsePort, local, helm } = await install(say);
process.stdout.write(helm('test', RELEASE, '--logs'));
process.stdout.write(`
  HTTP      http://${host}:${httpPort}
  DICOM     ${host}:${dimsePort}, AE title GANTRY
  Cluster   namespace ${NAMESPACE}${local ? `, export KUBECONFIG=${join(process.env.TMPDIR ?? '/tmp', 'gantry-kube/pki/admin.kubeconfig')}` : ''}

`);
// Something to wait for: a signal alone keeps no process alive.
const alive = setInterval(() => {}, 3_600_000);
await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
clearInterval(alive);
if (local) execFileSync(join(import.meta.dirname, 'down.sh'), { stdio: 'inherit' });
else helm('uninstall', RELEASE, '--wait');
