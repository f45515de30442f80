// `make scenarios-k8s`: the scenario suite (tools/peers/scenarios) on this machine's Kubernetes, or on the one of KUBECONFIG, whose
// pods reach this machine at GANTRY_SCENARIO_PEER_HOST. The cluster is left running.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { peersYaml, receiverIn } from '../peers/scenarios/deployment.ts';
import { install, RUN } from './install.ts';

const host = process.env.GANTRY_SCENARIO_PEER_HOST;
const foreign = process.env.KUBECONFIG !== undefined && !process.env.KUBECONFIG.startsWith(RUN);
if (foreign && host === undefined) {
  process.stderr.write(
    'Where do pods of this cluster reach this machine? Set GANTRY_SCENARIO_PEER_HOST (tools/peers/README.md).\n',
  );
  process.exit(64);
}
const more: string[] = [];
if (foreign) {
  const peers = join(process.env.TMPDIR ?? '/tmp', `gantry-peers-${process.pid}.yaml`);
  writeFileSync(peers, peersYaml(receiverIn(process.env)));
  more.push('-f', peers);
}
const target = await install((text) => process.stdout.write(`  ${text}\n`), more);
const { status } = spawnSync(process.execPath, ['--test', join(import.meta.dirname, '../peers/scenarios/run.ts')], {
  stdio: 'inherit',
  env: {
    ...process.env,
    GANTRY_SCENARIO_HTTP: `http://${target.host}:${target.httpPort}`,
    GANTRY_SCENARIO_DIMSE: `${target.host}:${target.dimsePort}`,
    GANTRY_SCENARIO_PEER_HOST: host ?? target.bridge ?? target.host,
    // values-trial.yaml lets anyone in.
    GANTRY_SCENARIO_ACCEPTS_UNKNOWN: 'true',
  },
});
process.exit(status ?? 1);
