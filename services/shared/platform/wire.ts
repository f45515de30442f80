import { type BulkChannel, bulkChannel, serveBulkHttp } from './bulk.http.ts';
import type { Settings } from './module.ts';
import { isLoopback } from './net.ts';
import { type GrpcChannel, grpcChannel, serveGrpc } from './rpc.grpc.ts';
import type { Remote, Services } from './rpc.ts';

/** The doors between Gantry processes: where others are, and where others reach us. */
export interface Endpoint {
  name: string;
  host: string;
  grpcPort: number;
  bulkPort: number;
}

/** `storage.keeper=keeper:9090:9091`; an IPv6 address in brackets. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^([a-z]+(?:\.[a-z]+)?)=(\[[0-9a-f:.]+\]|[\w.-]+):(\d{1,5}):(\d{1,5})$/i.exec(text);
  if (!match) return undefined;
  const [, name, host, grpcPort, bulkPort] = match;
  return { name, host: host.replace(/^\[(.*)\]$/, '$1'), grpcPort: Number(grpcPort), bulkPort: Number(bulkPort) };
}

/** Sentences for what cannot be, before the first socket opens. */
export function checkWire(settings: Settings): string[] {
  const problems: string[] = [];
  for (const text of settings.list('platform.endpoints'))
    if (!parseEndpoint(text))
      problems.push(
        `platform.endpoints holds "${text}"; an entry is name=host:grpcPort:bulkPort, for example storage=storage:9090:9091`,
      );
  const listens = settings.number('platform.grpcPort') > 0 || settings.number('platform.bulkPort') > 0;
  if (
    listens &&
    !isLoopback(settings.string('platform.internalHost')) &&
    settings.string('platform.internalTokenFile') === ''
  )
    problems.push(
      'platform.internalHost is not loopback: whoever reaches it could claim to be anyone. Set platform.internalTokenFile to a file with a secret that all Gantry processes share, or listen on 127.0.0.1',
    );
  return problems;
}

const wireOptions = (settings: Settings, token: string) => ({
  messageMax: settings.number('platform.rpcMessageMax'),
  headerMax: settings.number('platform.bulkHeaderMax'),
  idleMs: settings.number('platform.bulkIdleMs'),
  socketsMax: settings.number('platform.bulkSockets'),
  timeoutMs: () => settings.number('platform.rpcTimeoutMs'),
  token,
});

export interface Remotes extends Remote {
  close(): void;
}

/** `gantry.storage.v1.Keeper` is looked for as storage.keeper, then storage; the route `storage.read` as storage. */
export function remotes(find: (name: string) => Endpoint | undefined, settings: Settings, token: string): Remotes {
  const options = wireOptions(settings, token);
  const grpc = new Map<string, GrpcChannel>();
  const bulk = new Map<string, BulkChannel>();
  const once = <T>(map: Map<string, T>, key: string, open: () => T): T => {
    let value = map.get(key);
    if (!value) map.set(key, (value = open()));
    return value;
  };
  return {
    method(service, key, method) {
      const [, pack, , name] = service.split('.');
      const at = find(`${pack}.${name.toLowerCase()}`) ?? find(pack);
      return (
        at &&
        once(grpc, `${at.host} ${at.grpcPort}`, () => grpcChannel(at.host, at.grpcPort, options)).method(key, method)
      );
    },
    bulk(route) {
      const at = find(route.name.split('.')[0]);
      return (
        at && once(bulk, `${at.host} ${at.bulkPort}`, () => bulkChannel(at.host, at.bulkPort, options)).route(route)
      );
    },
    close() {
      for (const channel of [...grpc.values(), ...bulk.values()]) channel.close();
    },
  };
}

export function configuredRemotes(settings: Settings, token: string): Remotes {
  const endpoints = settings.list('platform.endpoints').map((text) => parseEndpoint(text)!);
  return remotes((name) => endpoints.find((endpoint) => endpoint.name === name), settings, token);
}

export interface InternalDoors {
  readonly grpcPort: number;
  readonly bulkPort: number;
  close(): Promise<void>;
}

export async function openInternalDoors(
  services: Services,
  settings: Settings,
  token: string,
  ports: { grpc: number | undefined; bulk: number | undefined },
): Promise<InternalDoors> {
  const host = settings.string('platform.internalHost');
  const options = wireOptions(settings, token);
  const grpc = ports.grpc === undefined ? undefined : await serveGrpc(services, host, ports.grpc, options);
  const bulk = ports.bulk === undefined ? undefined : await serveBulkHttp(services, host, ports.bulk, options);
  return {
    grpcPort: grpc?.port ?? 0,
    bulkPort: bulk?.port ?? 0,
    async close() {
      await grpc?.close();
      await bulk?.close();
    },
  };
}

/** For tests: a process that reaches its own services by the wire. */
export async function loopbackWire(settings: Settings) {
  const token = 'loopback-test';
  let at: Endpoint | undefined;
  const remote = remotes(() => at, settings, token);
  let doors: InternalDoors | undefined;
  return {
    remote: remote as Remote,
    async attach(services: Services) {
      doors = await openInternalDoors(services, settings, token, { grpc: 0, bulk: 0 });
      at = {
        name: 'self',
        host: settings.string('platform.internalHost'),
        grpcPort: doors.grpcPort,
        bulkPort: doors.bulkPort,
      };
    },
    async close() {
      remote.close();
      await doors?.close();
    },
  };
}
