import type { Call } from './call.ts';
import { toGantryError } from './errors.ts';
import type { Metrics } from './module.ts';
import type { AnyMethod, StreamHandler, UnaryHandler } from './rpc.direct.ts';
import type { AnyBulkHandler, AnyRoute, Offered, Remote, Services } from './rpc.ts';
import type { BulkClient, Bytes } from './rpc.types.ts';
import type { Span, Tracing } from './trace.ts';

/**
 * Rate, errors and duration of what goes between processes, and a span of each end of it. Only on the wire: what is a function call in one
 * process is measured by the door that it serves, and costs nothing more.
 */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export interface Telemetry {
  metrics: Metrics;
  trace: Tracing;
}

type Ended = (error?: unknown) => void;
type Begin = (call: Call, route: string) => { call: Call; ended: Ended };

/** Names in full, so that whoever looks for one finds it here. */
const RPC_SERVER = { requests: 'gantry_rpc_server_requests_total', seconds: 'gantry_rpc_server_seconds' };
const RPC_CLIENT = { requests: 'gantry_rpc_client_requests_total', seconds: 'gantry_rpc_client_seconds' };
const BULK_SERVER = { requests: 'gantry_bulk_server_requests_total', seconds: 'gantry_bulk_server_seconds' };
const BULK_CLIENT = { requests: 'gantry_bulk_client_requests_total', seconds: 'gantry_bulk_client_seconds' };

function measured({ metrics, trace }: Telemetry, names: typeof RPC_SERVER, label: 'method' | 'route'): Begin {
  const side = names === RPC_SERVER || names === BULK_SERVER ? 'server' : 'client';
  const what = label === 'method' ? 'gRPC calls' : 'data-plane requests';
  const how = side === 'server' ? 'of other processes' : 'to other processes';
  const requests = metrics.counter(names.requests, `${what} ${how} that ended, by ${label} and error code`);
  const seconds = metrics.histogram(names.seconds, `Duration of ${what} ${how}`, SECONDS);
  return (given, route) => {
    const began = performance.now();
    const span: Span = trace.begin(given, `${side === 'server' ? 'serve' : 'call'} ${route}`, {
      kind: side,
      attributes: { [label === 'method' ? 'rpc.method' : 'route']: route },
    });
    let open = true;
    return {
      call: span.call,
      ended(error) {
        if (!open) return;
        open = false;
        const code = error === undefined ? 'ok' : toGantryError(error).code;
        requests.add(1, { [label]: route, code });
        seconds.record((performance.now() - began) / 1e3, { [label]: route }, span.call);
        span.end(error);
      },
    };
  };
}

/** `/gantry.storage.v1.Data/Heads` as `storage.v1.Data/Heads`: one of a closed list. */
const shortPath = (path: string): string => path.replace(/^\/gantry\./, '');

function observedMethod(
  method: AnyMethod,
  handler: UnaryHandler | StreamHandler,
  begin: Begin,
): UnaryHandler | StreamHandler {
  const route = shortPath(method.path);
  if (!method.responseStream)
    return async (given: Call, request: unknown) => {
      const { call, ended } = begin(given, route);
      try {
        const answer = await (handler as UnaryHandler)(call, request);
        ended();
        return answer;
      } catch (error) {
        ended(error);
        throw error;
      }
    };
  return async function* (given: Call, request: unknown) {
    const { call, ended } = begin(given, route);
    try {
      yield* (handler as StreamHandler)(call, request);
    } catch (error) {
      ended(error);
      throw error;
    } finally {
      ended(); // also where the caller has read enough
    }
  };
}

/** The body is part of it: a call has ended when its last byte was read, or nobody reads on. */
async function* observedBytes(body: Bytes, ended: Ended, count: (bytes: number) => void): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) {
      count(chunk.length);
      yield chunk;
    }
  } catch (error) {
    ended(error);
    throw error;
  } finally {
    ended();
  }
}

/** What the doors to other processes serve of `services`. */
export interface Served extends Pick<Services, 'offered' | 'onOffer'> {
  readonly routes: Pick<Services['routes'], 'get'>;
}

export function observedServices(services: Services, telemetry: Telemetry): Served {
  const rpc = measured(telemetry, RPC_SERVER, 'method');
  const bulk = measured(telemetry, BULK_SERVER, 'route');
  const bytes = telemetry.metrics.counter('gantry_bulk_sent_bytes_total', 'Bytes of answers to other processes');
  return {
    offered: services.offered,
    onOffer: (listener) =>
      services.onOffer(({ service, handlers }: Offered) =>
        listener({
          service,
          handlers: Object.fromEntries(
            Object.entries(handlers).map(([key, handler]) => [key, observedMethod(service[key]!, handler, rpc)]),
          ),
        }),
      ),
    routes: {
      get(name) {
        const offered = services.routes.get(name);
        if (offered === undefined) return undefined;
        const handler: AnyBulkHandler = async (given, request, body) => {
          const { call, ended } = bulk(given, name);
          try {
            const answer = await offered.handler(call, request, body);
            if (answer.body === undefined) ended();
            else answer.body = observedBytes(answer.body, ended, (length) => bytes.add(length, { route: name }));
            return answer;
          } catch (error) {
            ended(error);
            throw error;
          }
        };
        return { route: offered.route, handler };
      },
    },
  };
}

/** What is asked of other processes. */
export function observedRemote(remote: Remote, telemetry: Telemetry): Remote {
  const rpc = measured(telemetry, RPC_CLIENT, 'method');
  const bulk = measured(telemetry, BULK_CLIENT, 'route');
  const { each } = remote;
  return {
    method(service, name, method) {
      const handler = remote.method(service, name, method);
      return handler && observedMethod(method, handler, rpc);
    },
    ...(each && {
      each: (service, name, method) =>
        each(service, name, method)?.map((handler) => observedMethod(method, handler, rpc)),
    }),
    bulk(route: AnyRoute): BulkClient<unknown, unknown> | undefined {
      const client = remote.bulk(route);
      if (client === undefined) return undefined;
      return async (given, request, body) => {
        const { call, ended } = bulk(given, route.name);
        try {
          const answer = await client(call, request, body);
          return { ...answer, body: lastByte(answer.body, ended) };
        } catch (error) {
          ended(error);
          throw error;
        }
      };
    },
  };
}

/** Ends with the body; an answer without bytes is often not read at all, and ends with itself. */
function lastByte(body: Bytes, ended: Ended): Bytes {
  const unread = setImmediate(ended);
  return {
    [Symbol.asyncIterator]() {
      clearImmediate(unread);
      return observedBytes(body, ended, () => undefined);
    },
  };
}
