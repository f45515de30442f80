// What can go wrong in a cluster, one row a kind: done to it, and undone. README.md of tools/servers says what each proxy can do.
import type { Cluster, GantryNode } from '../cluster/cluster.ts';
import { DELAYS, type Delays, type ServerNode } from '../servers/index.ts';
import { pause } from './load.ts';

export interface Fault {
  /** What is counted and logged. */
  name: string;
  /** Does it, lets it last, and undoes it. */
  run(): Promise<void>;
}

/** Within the longest fault there are fewer; a process that cannot start at all is found. */
const STARTS_MAX = 20;

type Chance = () => number; // 0 to 1

/** The seconds that a fault lasts: mostly short, sometimes longer than any patience inside. */
const lasting = (chance: Chance, ms: number): number => (chance() < 0.2 ? ms : chance() * 0.3 * ms);
const oneOf = <T>(chance: Chance, list: readonly T[]): T => list[Math.floor(chance() * list.length)]!;

async function killed(node: ServerNode, ms: number): Promise<void> {
  await node.kill();
  await pause(ms);
  // A process that finds no S3 at its start says so and leaves: it is started again, as Kubernetes does it.
  for (let attempt = 1; ; attempt++) {
    try {
      await node.restart();
      return;
    } catch (error) {
      if (attempt === STARTS_MAX) throw error;
      await pause(1_000);
    }
  }
}
async function stopped(node: ServerNode, ms: number): Promise<void> {
  await node.stop();
  await pause(ms);
  await node.cont();
}

/** Faults of Gantry's own processes. */
export function ofProcesses(cluster: Cluster, chance: Chance): Fault {
  const node: GantryNode = oneOf(chance, cluster.nodes);
  const what = chance();
  if (what < 0.6)
    return { name: `kill -9 of ${node.role}`, run: () => killed(node, chance() < 0.5 ? 0 : lasting(chance, 3_000)) };
  // Longer than its lane is believed to be alive: it wakes as a zombie.
  return { name: `SIGSTOP of ${node.role}`, run: () => stopped(node, lasting(chance, 12_000)) };
}

/** Faults of servers and of the network. */
export function ofServers(cluster: Cluster, chance: Chance): Fault {
  const { proxies } = cluster;
  const kinds: [weight: number, make: () => Fault][] = [
    [2, () => ({ name: 'kill -9 of NATS', run: () => killed(oneOf(chance, cluster.nats), lasting(chance, 6_000)) })],
    [2, () => ({ name: 'kill -9 of S3', run: () => killed(cluster.s3, lasting(chance, 6_000)) })],
    [
      2,
      () => ({
        name: 'kill -9 of Elasticsearch',
        run: () => killed(oneOf(chance, cluster.elasticsearch), lasting(chance, 6_000)),
      }),
    ],
    [1, () => ({ name: 'SIGSTOP of NATS', run: () => stopped(oneOf(chance, cluster.nats), lasting(chance, 10_000)) })],
    [1, () => ({ name: 'SIGSTOP of S3', run: () => stopped(cluster.s3, lasting(chance, 10_000)) })],
    [
      1,
      () => ({
        name: 'SIGSTOP of Elasticsearch',
        run: () => stopped(oneOf(chance, cluster.elasticsearch), lasting(chance, 10_000)),
      }),
    ],
  ];
  if (proxies) {
    const networks: [string, readonly { set(to: { partition: 'none' | 'drop' | 'reset' }): void }[]][] = [
      ['NATS', proxies.nats],
      ['S3', [proxies.s3.network]],
      ['Elasticsearch', proxies.elasticsearch],
      ...Object.entries(proxies.processes).map(([name, both]): (typeof networks)[number] => [
        name.replace(/-\d+$/, ''),
        both,
      ]),
    ];
    kinds.push(
      [
        4,
        () => {
          const [name, ways] = oneOf(chance, networks);
          const partition = chance() < 0.6 ? 'drop' : 'reset';
          const run = async () => {
            for (const way of ways) way.set({ partition });
            await pause(lasting(chance, 15_000));
            for (const way of ways) way.set({ partition: 'none' });
          };
          return { name: `partition (${partition}) before ${name}`, run };
        },
      ],
      [
        4,
        () => {
          const [name, delay] = oneOf<[string, Delays]>(chance, Object.entries(DELAYS));
          const run = async () => {
            proxies.s3.set({ delay });
            await pause(lasting(chance, 15_000));
            proxies.s3.set({ delay: DELAYS.near });
          };
          return { name: `S3 is ${name}`, run };
        },
      ],
      [
        2,
        () => ({
          name: 'S3 says SlowDown',
          run: async () => {
            proxies.s3.set({ unavailable: chance() < 0.3 ? 1 : 0.3 });
            await pause(lasting(chance, 8_000));
            proxies.s3.set({ unavailable: 0 });
          },
        }),
      ],
    );
  }
  const total = kinds.reduce((sum, [weight]) => sum + weight, 0);
  let roll = chance() * total;
  for (const [weight, make] of kinds) {
    roll -= weight;
    if (roll < 0) return make();
  }
  throw new Error('chance gives numbers below 1');
}
