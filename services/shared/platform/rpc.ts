import { directBulk } from './bulk.direct.ts';
import { GantryError } from './errors.ts';
import {
  type AnyMethod,
  type DirectOptions,
  directMethod,
  type StreamHandler,
  serviceName,
  type UnaryHandler,
} from './rpc.direct.ts';
import type { BulkClient, BulkHandler, BulkRoute, Service, ServiceDefinition } from './rpc.types.ts';

// biome-ignore lint/suspicious/noExplicitAny: routes of any message types, as in ServiceDefinition
export type AnyRoute = BulkRoute<any, any>;
// biome-ignore lint/suspicious/noExplicitAny: as above
export type AnyBulkHandler = BulkHandler<any, any>;

/** How a service or route outside this process is reached; undefined: nobody has said where it is. */
export interface Remote {
  method(service: string, name: string, method: AnyMethod): UnaryHandler | StreamHandler | undefined;
  /** The same, of each process that offers it now. */
  each?(service: string, name: string, method: AnyMethod): (UnaryHandler | StreamHandler)[] | undefined;
  bulk(route: AnyRoute): BulkClient<unknown, unknown> | undefined;
}

export interface Offered {
  service: ServiceDefinition;
  handlers: Record<string, UnaryHandler | StreamHandler>;
}

/** What this process offers, and clients of what it or others offer. */
export class Services {
  readonly offered = new Map<string, Offered>();
  readonly #offerListeners = new Set<(offered: Offered) => void>();
  readonly routes = new Map<string, { route: AnyRoute; handler: AnyBulkHandler }>();
  readonly #options: DirectOptions;
  readonly #remote: Remote;
  /** True in tests that want the wire between modules of one process. */
  readonly #preferRemote: boolean;
  readonly #clients = new Map<ServiceDefinition, unknown>();
  #sealed = false;

  constructor(options: DirectOptions, remote: Remote, preferRemote = false) {
    this.#options = options;
    this.#remote = remote;
    this.#preferRemote = preferRemote;
  }

  /** After this nothing more may be offered: what a process serves is settled before it is ready. */
  seal(sealed = true): void {
    this.#sealed = sealed;
  }

  serve<S extends ServiceDefinition>(service: S, handlers: Service<S>): void {
    const name = serviceName(service);
    if (this.#sealed) throw new Error(`${name} must be offered while its module starts`);
    if (this.offered.has(name)) throw new Error(`${name} is offered twice`);
    const bound: Record<string, UnaryHandler | StreamHandler> = {};
    for (const method of Object.keys(service)) {
      const handler = (handlers as Record<string, unknown>)[method];
      if (typeof handler !== 'function') throw new Error(`${name} lacks a handler for ${method}`);
      bound[method] = handler.bind(handlers);
    }
    this.offered.set(name, { service, handlers: bound });
    for (const listener of this.#offerListeners) listener({ service, handlers: bound });
  }

  /** For the doors to other processes: called for every service, those already offered included. */
  onOffer(listener: (offered: Offered) => void): void {
    this.#offerListeners.add(listener);
    for (const offered of this.offered.values()) listener(offered);
  }

  serveBulk<Request, Response>(route: BulkRoute<Request, Response>, handler: BulkHandler<Request, Response>): void {
    if (this.#sealed) throw new Error(`${route.name} must be offered while its module starts`);
    if (this.routes.has(route.name)) throw new Error(`${route.name} is offered twice`);
    this.routes.set(route.name, { route, handler });
  }

  client<S extends ServiceDefinition>(service: S): Service<S> {
    const known = this.#clients.get(service);
    if (known) return known as Service<S>;
    const name = serviceName(service);
    const client: Record<string, unknown> = {};
    for (const [key, method] of Object.entries(service)) {
      const direct = directMethod(method, () => this.offered.get(name)?.handlers[key] ?? absent(name), this.#options);
      let remote: UnaryHandler | StreamHandler | undefined;
      client[key] = (call: never, request: never) => {
        if (this.#preferRemote || !this.offered.has(name)) {
          remote ??= this.#remote.method(name, key, method);
          if (remote) return remote(call, request);
        }
        return direct(call, request);
      };
    }
    this.#clients.set(service, client);
    return client as Service<S>;
  }

  /**
   * The service in every process that offers it: for what each of them knows alone (its associations, its permits). Where nobody has said
   * that there are others, it is the one that `client` asks.
   */
  everywhere<S extends ServiceDefinition>(service: S): Service<S>[] {
    const name = serviceName(service);
    const entries = Object.entries(service);
    const columns = entries.map(([key, method]) => this.#remote.each?.(name, key, method));
    const processes = columns[0]?.length ?? 0;
    if (processes === 0 || columns.some((column) => column?.length !== processes)) return [this.client(service)];
    return Array.from(
      { length: processes },
      (_, i) => Object.fromEntries(entries.map(([key], k) => [key, columns[k]![i]])) as Service<S>,
    );
  }

  bulk<Request, Response>(route: BulkRoute<Request, Response>): BulkClient<Request, Response> {
    const direct = directBulk(
      route,
      () => (this.routes.get(route.name)?.handler as BulkHandler<Request, Response>) ?? absent(route.name),
      this.#options,
    );
    let remote: BulkClient<Request, Response> | undefined;
    return (call, request, body) => {
      if (this.#preferRemote || !this.routes.has(route.name)) {
        remote ??= this.#remote.bulk(route) as BulkClient<Request, Response> | undefined;
        if (remote) return remote(call, request, body);
      }
      return direct(call, request, body);
    };
  }
}

function absent(name: string): never {
  throw new GantryError(
    'unavailable',
    `${name} is not in this process, and platform.endpoints does not say where it is`,
  );
}
