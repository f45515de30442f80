import { once } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import type { Call } from './call.ts';
import { errorHeaders, readCall } from './call-headers.ts';
import { ERRORS } from './errors.ts';
import { serveGrpcHealth } from './health.grpc.ts';
import { hostPort } from './net.ts';
import type { Served } from './observe-wire.ts';
import { answerable, directMethod, type StreamHandler, type UnaryHandler } from './rpc.direct.ts';

export interface GrpcOptions {
  messageMax: number;
  token: string;
}

export const channelOptions = ({ messageMax }: GrpcOptions): grpc.ChannelOptions => ({
  'grpc.max_send_message_length': messageMax,
  'grpc.max_receive_message_length': messageMax,
  // A process that vanished without a word (its node lost power) is noticed within 15 s.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // A process is back within a second or two: grpc-js would wait up to two minutes.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
});

export const readMetadata = (metadata: grpc.Metadata) => (name: string) => metadata.get(name)[0]?.toString();
export function toMetadata(headers: Record<string, string>): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function toStatus(error: unknown): Partial<grpc.StatusObject> {
  const known = answerable(error);
  return { code: ERRORS[known.code].grpc, details: known.message, metadata: toMetadata(errorHeaders(known)) };
}

export interface GrpcServer {
  readonly port: number;
  /** Callers are told to go elsewhere (GOAWAY); resolves when what is in flight has been answered, or at the signal. */
  drain(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export async function serveGrpc(
  services: Served,
  host: string,
  port: number,
  options: GrpcOptions,
  serving: () => boolean,
): Promise<GrpcServer> {
  const server = new grpc.Server(channelOptions(options));
  serveGrpcHealth(server, services, serving);
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
    drain: (signal) =>
      new Promise((resolve) => {
        server.tryShutdown(() => resolve());
        if (signal.aborted) resolve();
        signal.addEventListener('abort', () => resolve(), { once: true });
      }),
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
