// node tools/bench/cluster.ts [--count 1000]: a cluster of plain processes with 1, 2 and 4 ingest processes, and how late search is.
// Everything shares this machine's cores, so what tells is the CPU of an instance, not the rate. The table goes to SCALE.md by hand.
import { once } from 'node:events';
import { request } from 'node:http';
import { parseArgs } from 'node:util';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { type Cluster, type ClusterRole, STATELESS, startCluster } from '../cluster/cluster.ts';
import { DELAYS } from '../servers/index.ts';
import { CT, EXPLICIT, maker } from './made.ts';
import { percentile, send, using } from './measure.ts';

const { values } = parseArgs({ options: { count: { type: 'string', default: '1000' } } });
const count = Number(values.count);
const ASSOCIATIONS = 8;
const round = (value: number): number => Number(value.toPrecision(3));
const line = (...cells: (string | number)[]) => process.stdout.write(`| ${cells.join(' | ')} |\n`);

/** CPU seconds of the processes of each role, and of the servers, until what it gives is called. */
function cpuOf(cluster: Cluster): () => Record<ClusterRole | 'servers', number> {
  const used = STATELESS.map(
    (role) => [role, cluster.nodes.filter((node) => node.role === role).map(({ pid }) => using(pid))] as const,
  );
  const servers = [...cluster.nats, cluster.s3, ...cluster.elasticsearch].map(({ pid }) => using(pid));
  const sum = (list: (() => { cpuSeconds: number })[]) => list.reduce((all, one) => all + one().cpuSeconds, 0);
  return () =>
    Object.fromEntries([...used.map(([role, list]) => [role, sum(list)]), ['servers', sum(servers)]]) as Record<
      ClusterRole | 'servers',
      number
    >;
}

let run = 100;
async function measure(cluster: Cluster, processes: number, name: string): Promise<void> {
  const orders = (n: number) => ({
    by: 'c-store' as const,
    port: cluster.dimsePort,
    shape: { run: run++, instancesPerStudy: 50, frames: 0 },
    from: 0,
    count: n,
    associations: ASSOCIATIONS,
  });
  await send(orders(Math.ceil(count / 4))); // warm
  const used = cpuOf(cluster);
  const account = await send(orders(count));
  const cpu = used();
  const each = (seconds: number) => round((1_000 * seconds) / account.instances);
  line(
    processes,
    name,
    round(account.instances / account.seconds),
    round(account.p50Ms),
    round(account.p99Ms),
    each(cpu.ingest),
    each(cpu.index + cpu.storage + cpu.auth + cpu.gateway),
    each(cpu.servers),
  );
}

/** From the answer to a C-STORE to the first QIDO answer, by somebody else, that has it. */
async function freshness(cluster: Cluster, samples: number): Promise<number[]> {
  const make = maker({ run: 99, instancesPerStudy: 1, frames: 0 });
  const association = await connect({
    host: '127.0.0.1',
    port: cluster.dimsePort,
    callingAeTitle: 'BENCH',
    calledAeTitle: 'GANTRY',
    contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
  });
  const late: number[] = [];
  for (let n = 0; n < samples; n++) {
    const made = make(n);
    await store(association, { contextId: 1, sopClassUid: CT, sopInstanceUid: made.instance, data: made.pieces });
    for (const stored = performance.now(); ; ) {
      // A connection of its own from another address: no door takes it for the sender, whose queries wait.
      const asked = request({
        host: '127.0.0.1',
        port: cluster.httpPort,
        path: `/dicom-web/studies?StudyInstanceUID=${made.study}`,
        localAddress: '127.0.0.9',
        agent: false,
      });
      asked.end();
      const [answer] = (await once(asked, 'response')) as [import('node:http').IncomingMessage];
      const text = (await answer.toArray()).join('');
      if (text.includes(made.study)) {
        late.push(performance.now() - stored);
        break;
      }
    }
  }
  await association.release();
  return late;
}

line(
  'ingest processes',
  'PUT latency',
  'instances/s',
  'p50 ms',
  'p99 ms',
  'CPU ms an instance: ingest',
  'other roles',
  'servers',
);
line(...Array(8).fill('---'));
for (const processes of [1, 2, 4]) {
  const cluster = await startCluster({ proxies: true, processes: { ingest: processes }, jit: 'full' });
  try {
    await measure(cluster, processes, '0');
    for (const [name, delay] of [
      ['10 ms', DELAYS.near],
      ['50 ms', DELAYS.usual],
      ['200 ms', DELAYS.far],
      ['10 ms, 1 % at 1 s', DELAYS.hiccups],
    ] as const) {
      cluster.proxies!.s3.set({ delay, only: ({ method }) => method === 'PUT' });
      await measure(cluster, processes, name);
    }
    if (processes === 2) {
      cluster.proxies!.s3.set({ delay: DELAYS.near });
      const late = await freshness(cluster, Math.min(100, count));
      process.stdout.write(
        `\nFound by others after ${[0.5, 0.95, 0.99].map((p) => `p${100 * p} ${Math.round(percentile(late, p))} ms`).join(', ')} (${late.length} samples, S3 at 10 ms)\n\n`,
      );
    }
  } finally {
    await cluster.close();
  }
}
process.exit(0);
