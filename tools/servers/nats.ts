// A real NATS server with JetStream, or a cluster of them.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { launch } from './launch.ts';
import { closeNode, type LaunchedNode, type ServerNode } from './node.ts';
import { withFreePorts } from './ports.ts';
import { temporaryFolder } from './watchdog.ts';

export interface NatsOptions {
  /** 1, or 3 for a cluster that outlives one of them. */
  nodes?: number;
  /** Kept when given; else a temporary one that `close` removes. */
  dir?: string;
  /** Of the clients, one a node; free ones else. */
  ports?: number[];
  /** Clients must present it. */
  token?: string;
  /** More lines of its configuration (TLS, users, an operator), and the folders with the files that they name. */
  config?: string[];
  folders?: string[];
}

export interface NatsServers {
  /** `127.0.0.1:4222`, one a node: what a client (and `platform.natsServers`) is given. */
  readonly servers: string[];
  readonly nodes: ServerNode[];
  readonly token?: string;
  /** All nodes that run answer, and JetStream has a leader. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

const READY_MS = 60_000;

export async function startNats(options: NatsOptions = {}): Promise<NatsServers> {
  const count = options.nodes ?? 1;
  // For each node: clients, health, the cluster's routes.
  return withFreePorts(3 * count, (ports) => start(options, count, ports));
}

async function start(options: NatsOptions, count: number, ports: number[]): Promise<NatsServers> {
  const work = temporaryFolder('nats');
  const dir = options.dir ?? join(work.path, 'data');
  const all = Array.from({ length: count }, (_, index) => ({
    name: `n${index + 1}`,
    client: options.ports?.[index] ?? ports[3 * index]!,
    health: ports[3 * index + 1]!,
    route: ports[3 * index + 2]!,
  }));
  const routes = all.map(({ route }) => `nats://127.0.0.1:${route}`);
  const monitors = new Map<string, string>();

  const launched: LaunchedNode[] = [];
  async function close() {
    await Promise.all(launched.map((node) => closeNode(node, options.dir !== undefined)));
    work.remove();
  }
  try {
    const starting = await Promise.allSettled(
      all.map(async ({ name, client, health, route }) => {
        const config = join(work.path, `${name}.conf`);
        const data = join(dir, name);
        mkdirSync(data, { recursive: true });
        writeFileSync(
          config,
          [
            `server_name: ${name}`,
            `listen: "127.0.0.1:${client}"`,
            `http: "127.0.0.1:${health}"`,
            // An acknowledged message is on the disk: what Gantry asks of a NATS that it shall rely on.
            `jetstream { store_dir: ${JSON.stringify(data)}, sync_interval: always }`,
            ...(options.token === undefined ? [] : [`authorization { token: ${JSON.stringify(options.token)} }`]),
            ...(options.config ?? []),
            ...(count === 1
              ? []
              : [
                  `cluster { name: gantry, listen: "127.0.0.1:${route}", no_advertise: true, routes: ${JSON.stringify(routes)} }`,
                ]),
            '',
          ].join('\n'),
        );
        const monitor = `http://127.0.0.1:${health}`;
        monitors.set(name, monitor);
        launched.push(
          await launch('nats', {
            name: `nats ${name}`,
            url: `127.0.0.1:${client}`,
            program: 'nats-server',
            args: ['--config', config],
            docker: {
              image: 'nats:2.15.1',
              args: ['--config', config],
              folders: [work.path, data, ...(options.folders ?? [])],
            },
            logFile: join(work.path, `${name}.log`),
            // Alone it is ready when its streams are; in a cluster that is for `ready`, since it may be the first to come back.
            ready: async () => (await fetch(`${monitor}/healthz${count === 1 ? '' : '?js-enabled-only=true'}`)).ok,
            readyMs: READY_MS,
          }),
        );
      }),
    );
    const failed = starting.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    launched.sort((a, b) => a.name.localeCompare(b.name));
    const ready = () => untilAllReady(launched, monitors);
    await ready();
    return {
      servers: launched.map(({ url }) => url),
      nodes: launched,
      ...(options.token === undefined ? {} : { token: options.token }),
      ready,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

interface JetStreamState {
  meta_cluster?: { leader?: string; replicas?: { name: string; current: boolean; offline?: boolean }[] };
}

async function untilAllReady(nodes: LaunchedNode[], monitors: Map<string, string>): Promise<void> {
  const nameOf = (node: LaunchedNode) => node.name.replace('nats ', '');
  for (const until = Date.now() + READY_MS; ; await sleep(50)) {
    const running = nodes.filter((node) => node.running).map(nameOf);
    // Not answering yet: asked again until it is too late.
    if (await areReady(running).catch(() => false)) return;
    if (Date.now() > until) throw new Error(`NATS was not ready after ${READY_MS} ms`);
  }

  async function areReady(running: string[]): Promise<boolean> {
    const healthy = await Promise.all(running.map(async (name) => (await fetch(`${monitors.get(name)}/healthz`)).ok));
    if (!healthy.every(Boolean)) return false;
    if (nodes.length === 1) return true;
    // All know the same leader, one that runs (after a kill the dead one is still believed in for a while) ...
    const states = new Map<string, JetStreamState>();
    for (const name of running)
      states.set(name, (await (await fetch(`${monitors.get(name)}/jsz`)).json()) as JetStreamState);
    const leaders = new Set([...states.values()].map(({ meta_cluster: meta }) => meta?.leader));
    const [leader] = leaders;
    if (leaders.size !== 1 || leader === undefined || !running.includes(leader)) return false;
    // ... and the leader has heard from all of them.
    const heard = (states.get(leader)!.meta_cluster?.replicas ?? []).filter(
      ({ current, offline }) => current && !offline,
    );
    return running.every((name) => name === leader || heard.some((replica) => replica.name === name));
  }
}
