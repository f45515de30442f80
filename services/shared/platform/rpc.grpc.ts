import { once } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import type { Call } from './call.ts';
import { callHeaders, errorHeaders, readCall, readError } from './call-headers.ts';
import { ERRORS, GantryError, toGantryError } from './errors.ts';
import { hostPort } from './net.ts';
import { type AnyMethod, answerable, directMethod, type StreamHandler, type UnaryHandler } from './rpc.direct.ts';
import type { Services } from './rpc.ts';
import { Scope } from './scope.ts';

export interface GrpcOptions {
  messageMax: number;
  token: string;
}

const channelOptions = ({ messageMax }: GrpcOptions): grpc.ChannelOptions => ({
  'grpc.max_send_message_length': messageMax,
  'grpc.max_receive_message_length': messageMax,
  // A process that vanished without a word (its node lost power) is noticed within 30 s.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 1,
});

const readMetadata = (metadata: grpc.Metadata) => (name: string) => metadata.get(name)[0]?.toString();
function toMetadata(headers: Record<string, string>): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function toStatus(error: unknown): Partial<grpc.StatusObject> {
  const known = answerable(error);
  return { code: ERRORS[known.code].grpc, details: known.message, metadata: toMetadata(errorHeaders(known)) };
}

/** What grpc-js itself reports, without a word from the other side. */
const OWN_CODES: Partial<Record<grpc.status, keyof typeof ERRORS>> = {
  [grpc.status.CANCELLED]: 'cancelled',
  [grpc.status.DEADLINE_EXCEEDED]: 'deadline-exceeded',
  [grpc.status.UNAVAILABLE]: 'unavailable',
  [grpc.status.RESOURCE_EXHAUSTED]: 'too-large',
  [grpc.status.UNIMPLEMENTED]: 'unimplemented',
};

function fromStatus(error: unknown, path: string): GantryError {
  const status = error as grpc.ServiceError;
  if (!(status instanceof Error) || typeof status.code !== 'number') return toGantryError(error);
  const said = status.metadata && readError(readMetadata(status.metadata), error);
  return (
    said ??
    new GantryError(
      OWN_CODES[status.code] ?? 'internal',
      `${path} failed with gRPC status ${grpc.status[status.code]}`,
      { cause: error },
    )
  );
}

export interface GrpcServer {
  readonly port: number;
  close(): Promise<void>;
}

export async function serveGrpc(
  services: Services,
  host: string,
  port: number,
  options: GrpcOptions,
): Promise<GrpcServer> {
  const server = new grpc.Server(channelOptions(options));
  services.onOffer(({ service, handlers }) => {
    for (const [key, method] of Object.entries(service)) {
      // The handler runs as a direct call does: same deadline, same cancellation, same errors.
      const call = directMethod(method, () => handlers[key], { codec: false, timeoutMs: () => Infinity });
      if (method.responseStream)
        server.register(
          method.path,
          serveStream(call as StreamHandler, options),
          method.responseSerialize,
          method.requestDeserialize,
          'serverStream',
        );
      else
        server.register(
          method.path,
          serveUnary(call as UnaryHandler, options),
          method.responseSerialize,
          method.requestDeserialize,
          'unary',
        );
    }
  });
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(hostPort(host, port), grpc.ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    ),
  );
  return {
    port: bound,
    close: () =>
      new Promise((resolve) => {
        // The drain is over by now: what is still open belongs to callers that will not end by themselves.
        server.forceShutdown();
        resolve();
      }),
  };
}

function incoming(
  server: grpc.ServerUnaryCall<unknown, unknown> | grpc.ServerWritableStream<unknown, unknown>,
  options: GrpcOptions,
): { call: Call; abort: AbortController } {
  const abort = new AbortController();
  server.on('cancelled', () => abort.abort());
  const call = readCall(readMetadata(server.metadata), options.token, abort.signal);
  const deadline = Number(server.getDeadline());
  return { call: { ...call, deadline }, abort };
}

const serveUnary = (handler: UnaryHandler, options: GrpcOptions): grpc.handleUnaryCall<unknown, unknown> => {
  return async (server, callback) => {
    try {
      const { call } = incoming(server, options);
      callback(null, await handler(call, server.request));
    } catch (error) {
      callback(toStatus(error));
    }
  };
};

const serveStream = (
  handler: StreamHandler,
  options: GrpcOptions,
): grpc.handleServerStreamingCall<unknown, unknown> => {
  return async (server) => {
    try {
      const { call } = incoming(server, options);
      for await (const message of handler(call, server.request)) {
        // Not writing on is the back-pressure: the handler's iterator is not asked for more.
        if (!server.write(message)) await once(server, 'drain', { signal: call.signal });
      }
      server.end();
    } catch (error) {
      server.emit('error', toStatus(error));
    }
  };
};

export interface GrpcChannel {
  method(key: string, method: AnyMethod): UnaryHandler | StreamHandler;
  close(): void;
}

export function grpcChannel(
  host: string,
  port: number,
  options: GrpcOptions & { timeoutMs: () => number },
): GrpcChannel {
  const client = new grpc.Client(hostPort(host, port), grpc.credentials.createInsecure(), channelOptions(options));
  return {
    method: (_key, method) =>
      method.responseStream ? callStream(client, method, options) : callUnary(client, method, options),
    close: () => client.close(),
  };
}

function callUnary(
  client: grpc.Client,
  method: AnyMethod,
  options: GrpcOptions & { timeoutMs: () => number },
): UnaryHandler {
  return async (call, request) => {
    const scope = new Scope(call, options.timeoutMs(), method.path);
    let rpc: grpc.ClientUnaryCall | undefined;
    try {
      return await scope.wait(
        () =>
          new Promise((resolve, reject) => {
            rpc = client.makeUnaryRequest(
              method.path,
              method.requestSerialize,
              method.responseDeserialize,
              request,
              toMetadata(callHeaders(scope.call, options.token)),
              { deadline: scope.call.deadline ?? Infinity },
              (error, value) => (error ? reject(fromStatus(error, method.path)) : resolve(value)),
            );
          }),
      );
    } catch (error) {
      if (scope.failure) rpc?.cancel();
      throw toGantryError(error);
    } finally {
      scope.close();
    }
  };
}

function callStream(client: grpc.Client, method: AnyMethod, options: GrpcOptions): StreamHandler {
  return async function* (call, request) {
    const scope = new Scope(call, Infinity, method.path);
    let stream: grpc.ClientReadableStream<unknown> | undefined;
    try {
      if (scope.failure) throw scope.failure;
      stream = client.makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        toMetadata(callHeaders(scope.call, options.token)),
        { deadline: scope.call.deadline ?? Infinity },
      );
      stream.on('error', () => {}); // the iterator reports it; after a cancel nobody is left to be told
      const rows = stream[Symbol.asyncIterator]();
      for (;;) {
        const row = await scope.wait(() => rows.next());
        if (row.done) return;
        yield row.value;
      }
    } catch (error) {
      throw scope.failure ?? fromStatus(error, method.path);
    } finally {
      scope.close();
      stream?.cancel();
    }
  };
}
