// `make cluster`: the contract of `make up` (same variables, /readyz, data kept in GANTRY_DATA_DIR), many processes. TERM drains it.
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerNode } from '../servers/index.ts';
import { startCluster } from './cluster.ts';

const SAME_SIGNAL_MS = 500; // npm and make forward a Ctrl-C that the terminal has sent to all already
const AGAIN_MS = 1_000;

const began = performance.now();
const dataDir = resolve(process.env.GANTRY_DATA_DIR ?? './data/cluster');
const [httpPort, dimsePort] = [
  Number(process.env.GANTRY_HTTP_PORT ?? 8080),
  Number(process.env.GANTRY_DIMSE_PORT ?? 11112),
];
const say = (text: string) => process.stdout.write(`${text}\n`);

let ending = 0;
const asked = Promise.withResolvers<void>();
const onSignal = () => {
  if (ending === 0) {
    ending = performance.now();
    asked.resolve();
  } else if (performance.now() - ending > SAME_SIGNAL_MS) {
    say('asked a second time: leaving at once');
    process.exit(1); // everything that we started dies with us
  }
};
process.on('SIGTERM', onSignal);
process.on('SIGINT', onSignal);

setInterval(() => undefined, 60_000); // the processes that we started do not keep us here
const starting = startCluster({ dataDir, httpPort, dimsePort, jit: 'full', say: (what) => say(`starting ${what}`) });
const cluster = await Promise.race([starting, asked.promise]).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
if (!cluster) process.exit(0); // asked to end while starting: nothing was acknowledged yet

const nodes: ServerNode[] = [...cluster.nats, cluster.s3, ...cluster.elasticsearch, ...cluster.nodes];
/** What dies is started again, as Kubernetes does it. */
async function keepRunning(node: ServerNode): Promise<void> {
  for (;;) {
    await node.ended();
    if (ending > 0) return;
    say(`${node.name} ended; it is started again`);
    await sleep(AGAIN_MS);
    if (ending > 0) return;
    await node.restart().catch((error: Error) => say(`${node.name} did not start: ${error.message}`));
  }
}
for (const node of nodes) void keepRunning(node);

const count = (prefix: string) => cluster.nodes.filter(({ role }) => role === prefix).length;
say(`
  Gantry    ready as a cluster in ${((performance.now() - began) / 1000).toFixed(1)} s
  HTTP      http://localhost:${httpPort}  (${count('gateway')} processes share it)
  DICOM     localhost:${dimsePort}, AE title ${process.env.GANTRY_AE_TITLE ?? 'GANTRY'}  (${count('ingest')} processes share it)
  Processes ${cluster.nodes.map(({ name, pid }) => `${name} ${pid}`).join(', ')}
  Servers   ${nodes
    .slice(0, -cluster.nodes.length)
    .map(({ name, url, pid }) => `${name} at ${url} ${pid}`)
    .join(', ')}
  Data      ${dataDir}
  Logs      ${dataDir}/logs
  Try       kill -9 one of them and go on; Ctrl-C ends it all
`);

await asked.promise;
say('draining: what is in flight may finish, nothing new is taken');
await cluster.close();
say('stopped');
process.exit(0);
