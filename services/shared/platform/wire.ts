import { type BulkChannel, bulkChannel } from './bulk.client.ts';
import { serveBulkHttp } from './bulk.http.ts';
import { Addresses, type Endpoint, parseEndpoint, type Resolve } from './endpoints.ts';
import type { Settings } from './module.ts';
import { isLoopback } from './net.ts';
import { observedRemote, observedServices, type Served, type Telemetry } from './observe-wire.ts';
import { type GrpcChannel, grpcChannel } from './rpc.grpc.client.ts';
import { serveGrpc } from './rpc.grpc.ts';
import type { Remote, Services } from './rpc.ts';

/** The doors between Gantry processes: where others are, and where others reach us. */

/** Sentences for what cannot be, before the first socket opens. */
export function checkWire(settings: Settings): string[] {
  const problems: string[] = [];
  for (const text of settings.list('platform.endpoints'))
    if (!parseEndpoint(text))
      problems.push(
        `platform.endpoints holds "${text}"; an entry is name=host:grpcPort:bulkPort, for example storage=storage:9090:9091; several places of one name are joined by |`,
      );
  const names = settings.list('platform.endpoints').map((text) => parseEndpoint(text)?.name);
  for (const name of new Set(names))
    if (name !== undefined && names.indexOf(name) !== names.lastIndexOf(name))
      problems.push(`platform.endpoints names ${name} twice: join its places by |`);
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

/** A role that is not told where to find what it needs would start, never be ready, and not say why to whoever waits for it. */
export function checkNeeds(settings: Settings, needs: readonly string[]): string[] {
  const names = settings.list('platform.endpoints').map((text) => parseEndpoint(text)?.name);
  const missing = needs.filter((need) => !names.includes(need) && !names.includes(need.split('.')[0]!));
  if (missing.length === 0) return [];
  const example = missing.map((name) => `${name}=host-of-${name.split('.')[0]}:9090:9091`).join(',');
  return [
    `platform.endpoints does not say where to find ${missing.join(', ')}, which this role needs: add its host and ports (gRPC, bytes), such as ${example} (GANTRY_PLATFORM_ENDPOINTS in the environment)`,
  ];
}

const wireOptions = (settings: Settings, token: string) => ({
  messageMax: settings.number('platform.rpcMessageMax'),
  headerMax: settings.number('platform.bulkHeaderMax'),
  idleMs: settings.number('platform.bulkIdleMs'),
  socketsMax: settings.number('platform.bulkSockets'),
  timeoutMs: () => settings.number('platform.rpcTimeoutMs'),
  connectMs: () => settings.number('platform.connectMs'),
  retryPercent: () => settings.number('platform.retryPercent'),
  stallMs: () => settings.number('platform.stallMs'),
  token,
});

export interface Remotes extends Remote {
  /** Of these names, those that no process of was reached yet. */
  unreached(names: readonly string[]): string[];
  close(): void;
}

interface Place {
  addresses: Addresses;
  grpc?: GrpcChannel;
  bulk?: BulkChannel;
}

/** `gantry.storage.v1.Keeper` is looked for as storage.keeper, then storage; the route `storage.read` as storage. */
export function remotes(
  find: (name: string) => Endpoint | undefined,
  settings: Settings,
  token: string,
  resolve?: Resolve,
): Remotes {
  const options = wireOptions(settings, token);
  const places = new Map<string, Place>();
  const place = (...names: string[]): Place | undefined => {
    const at = names.map(find).find((one) => one !== undefined);
    if (at === undefined) return undefined;
    let known = places.get(at.name);
    if (!known) {
      known = { addresses: new Addresses(at.places, () => settings.number('platform.resolveMs'), resolve) };
      places.set(at.name, known);
    }
    return known;
  };
  const control = (one: Place | undefined) => one && (one.grpc ??= grpcChannel(one.addresses, options));
  const serving = (service: string) => {
    const [, pack, , name] = service.split('.');
    return control(place(`${pack}.${name!.toLowerCase()}`, pack!));
  };
  return {
    method: (service, _key, method) => serving(service)?.method(method),
    each: (service, _key, method) => serving(service)?.each(method),
    bulk(route) {
      const at = place(route.name.split('.')[0]!);
      return at && (at.bulk ??= bulkChannel(at.addresses, options)).route(route);
    },
    unreached: (names) => names.filter((name) => control(place(name, name.split('.')[0]!))?.reached() !== true),
    close() {
      for (const { addresses, grpc, bulk } of places.values()) {
        addresses.close();
        grpc?.close();
        bulk?.close();
      }
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
  /** No new bytes: they go to another process from now on. Resolves when what is in flight has ended, or at the signal. */
  drainBulk(signal: AbortSignal): Promise<void>;
  /** No new calls either. */
  drainGrpc(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export async function openInternalDoors(
  services: Served,
  settings: Settings,
  token: string,
  ports: { grpc: number | undefined; bulk: number | undefined },
  serving: () => boolean = () => true,
): Promise<InternalDoors> {
  const host = settings.string('platform.internalHost');
  const options = wireOptions(settings, token);
  const grpc = ports.grpc === undefined ? undefined : await serveGrpc(services, host, ports.grpc, options, serving);
  const bulk = ports.bulk === undefined ? undefined : await serveBulkHttp(services, host, ports.bulk, options);
  return {
    grpcPort: grpc?.port ?? 0,
    bulkPort: bulk?.port ?? 0,
    drainBulk: async (signal) => bulk?.drain(signal),
    drainGrpc: async (signal) => grpc?.drain(signal),
    async close() {
      await grpc?.close();
      await bulk?.close();
    },
  };
}

/** For tests: a process that reaches its own services by the wire. */
export async function loopbackWire(settings: Settings, telemetry?: Telemetry) {
  const token = 'loopback-test';
  let at: Endpoint | undefined;
  const remote = remotes(() => at, settings, token);
  let doors: InternalDoors | undefined;
  return {
    remote: telemetry === undefined ? (remote as Remote) : observedRemote(remote, telemetry),
    async attach(services: Services) {
      const served = telemetry === undefined ? services : observedServices(services, telemetry);
      doors = await openInternalDoors(served, settings, token, { grpc: 0, bulk: 0 });
      const host = settings.string('platform.internalHost');
      at = { name: 'self', places: [{ host, grpcPort: doors.grpcPort, bulkPort: doors.bulkPort }] };
    },
    async close() {
      remote.close();
      await doors?.close();
    },
  };
}
