import * as grpc from '@grpc/grpc-js';
import { Balance, type BalanceOptions, Lost, NotSent } from './balance.ts';
import { callHeaders, readError } from './call-headers.ts';
import type { Addresses } from './endpoints.ts';
import { GantryError, toGantryError } from './errors.ts';
import { hostPort } from './net.ts';
import type { AnyMethod, StreamHandler, UnaryHandler } from './rpc.direct.ts';
import { channelOptions, type GrpcOptions, readMetadata, toMetadata } from './rpc.grpc.ts';
import { isRepeatable } from './rpc.repeat.ts';
import { Scope } from './scope.ts';

export interface GrpcChannelOptions extends GrpcOptions, BalanceOptions {
  timeoutMs: () => number;
}

export interface GrpcChannel {
  method(method: AnyMethod): UnaryHandler | StreamHandler;
  /** The same, of each process that is there now. */
  each(method: AnyMethod): (UnaryHandler | StreamHandler)[];
  /** True once any process was reached; the first look starts with the first question. */
  reached(): boolean;
  close(): void;
}

/** What grpc-js itself says when the other side said nothing: the request met a limit of ours, or a version that lacks the method. */
const OWN_CODES: Partial<Record<grpc.status, ConstructorParameters<typeof GantryError>[0]>> = {
  [grpc.status.DEADLINE_EXCEEDED]: 'deadline-exceeded',
  [grpc.status.RESOURCE_EXHAUSTED]: 'too-large',
  [grpc.status.UNIMPLEMENTED]: 'unimplemented',
};

/** What was answered, or what the connection did. A test holds grpc-js to these words. */
function fromStatus(error: unknown, path: string): Error {
  const status = error as grpc.ServiceError;
  if (!(status instanceof Error) || typeof status.code !== 'number') return toGantryError(error);
  const said = status.metadata && readError(readMetadata(status.metadata), error);
  if (said) return said;
  const own = OWN_CODES[status.code];
  if (own) return new GantryError(own, `${path} failed with gRPC status ${grpc.status[status.code]}`, { cause: error });
  if (/^(\w+: )?No connection established|^Name resolution failed/.test(status.details)) return new NotSent(error);
  return new Lost(error);
}

/** A connection that stands, or NotSent. */
function connected(client: grpc.Client, connectMs: number): Promise<void> {
  const { connectivityState: State } = grpc;
  const channel = client.getChannel();
  const now = channel.getConnectivityState(true);
  if (now === State.READY) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + connectMs;
    const look = (state: grpc.connectivityState): void => {
      if (state === State.READY) resolve();
      else if (state === State.TRANSIENT_FAILURE || state === State.SHUTDOWN)
        reject(new NotSent(new Error(`gRPC channel: ${State[state]}`)));
      else
        channel.watchConnectivityState(state, deadline, (late) => {
          if (late) reject(new NotSent(late));
          else look(channel.getConnectivityState(true));
        });
    };
    look(now);
  });
}

export function grpcChannel(addresses: Addresses, options: GrpcChannelOptions): GrpcChannel {
  const balance = new Balance<grpc.Client>(
    addresses,
    options,
    ({ host, grpcPort }) =>
      new grpc.Client(hostPort(host, grpcPort), grpc.credentials.createInsecure(), channelOptions(options)),
    (client) => client.close(),
  );
  const through: Through = (what, scope, repeatable, run) =>
    balance.call(what, scope, repeatable, async (client, release) => {
      await scope.wait(() => connected(client, options.connectMs()));
      return run(client, release);
    });
  const handler = (method: AnyMethod, by: Through) =>
    method.responseStream ? callStream(by, method, options) : callUnary(by, method, options);
  return {
    method: (method) => handler(method, through),
    each: (method) =>
      balance.targets.map(({ channel }) =>
        handler(method, async (what, scope, _repeatable, run) => {
          try {
            await scope.wait(() => connected(channel, options.connectMs()));
            return await run(channel, () => undefined);
          } catch (error) {
            if (error instanceof NotSent || error instanceof Lost)
              throw new GantryError('unavailable', `${what}: one of the processes cannot be reached`, { cause: error });
            throw error;
          }
        }),
      ),
    reached: () =>
      balance.targets.some(
        ({ channel }) => channel.getChannel().getConnectivityState(true) === grpc.connectivityState.READY,
      ),
    close: () => balance.close(),
  };
}

type Through = <T>(
  what: string,
  scope: Scope,
  repeatable: boolean,
  run: (client: grpc.Client, release: () => void) => Promise<T>,
) => Promise<T>;

function callUnary(through: Through, method: AnyMethod, options: GrpcChannelOptions): UnaryHandler {
  return async (call, request) => {
    const scope = new Scope(call, options.timeoutMs(), method.path);
    let rpc: grpc.ClientUnaryCall | undefined;
    try {
      return await through(method.path, scope, isRepeatable(method.path), async (client, release) => {
        const answer = await scope.wait(
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
        release();
        return answer;
      });
    } catch (error) {
      if (scope.failure) rpc?.cancel();
      throw toGantryError(error);
    } finally {
      scope.close();
    }
  };
}

interface Open {
  stream: grpc.ClientReadableStream<unknown>;
  rows: AsyncIterator<unknown>;
  first: IteratorResult<unknown>;
  release: () => void;
}

function callStream(through: Through, method: AnyMethod, options: GrpcChannelOptions): StreamHandler {
  return async function* (call, request) {
    const scope = new Scope(call, Infinity, method.path);
    let open: Open | undefined;
    let asked: grpc.ClientReadableStream<unknown> | undefined;
    try {
      // Up to the first row nothing was given out: until then another process may answer instead.
      open = await through(method.path, scope, isRepeatable(method.path), async (client, release): Promise<Open> => {
        const stream = client.makeServerStreamRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          request,
          toMetadata(callHeaders(scope.call, options.token)),
          { deadline: scope.call.deadline ?? Infinity },
        );
        asked = stream;
        stream.on('error', () => {}); // the iterator reports it; after a cancel nobody is left to be told
        const rows = stream[Symbol.asyncIterator]();
        try {
          return { stream, rows, first: await scope.wait(() => rows.next()), release };
        } catch (error) {
          stream.cancel();
          throw fromStatus(error, method.path);
        }
      });
      for (let row = open.first; !row.done; row = await scope.wait(() => open!.rows.next())) yield row.value;
    } catch (error) {
      if (scope.failure) throw scope.failure;
      const known = fromStatus(error, method.path);
      throw known instanceof GantryError
        ? known
        : new GantryError('unavailable', `${method.path}: the connection broke inside the answer`, { cause: error });
    } finally {
      scope.close();
      open?.release();
      (open?.stream ?? asked)?.cancel();
    }
  };
}
