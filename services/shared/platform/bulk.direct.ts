import { answerable, type DirectOptions } from './rpc.direct.ts';
import type { BulkClient, BulkHandler, BulkRoute, Bytes } from './rpc.types.ts';
import { Scope } from './scope.ts';

/** Buffers are handed over as they are; not pulling is the back-pressure. */
export function directBulk<Request, Response>(
  route: BulkRoute<Request, Response>,
  resolve: () => BulkHandler<Request, Response>,
  options: DirectOptions,
): BulkClient<Request, Response> {
  const request = (value: Request) =>
    options.codec ? route.request.decode(route.request.encode(value).finish()) : value;
  const response = (value: Response) =>
    options.codec ? route.response.decode(route.response.encode(value).finish()) : value;
  return async (call, value, body) => {
    // A body may flow for hours (a whole STOW): only a deadline that the caller names ends it.
    const scope = new Scope(call, Infinity, route.name);
    try {
      const answer = await scope.wait(async () => resolve()(scope.call, request(value), toBytes(body)));
      if (answer.body) return { response: response(answer.response), body: scoped(scope, answer.body) };
      scope.close();
      return { response: response(answer.response), body: emptyBytes() };
    } catch (error) {
      scope.close();
      throw answerable(error);
    }
  };
}

export async function* emptyBytes(): AsyncGenerator<Buffer> {}

/** Empty buffers carry nothing and are dropped, as a socket would. */
export async function* toBytes(body: Bytes | readonly Buffer[] | undefined): AsyncGenerator<Buffer> {
  if (!body) return;
  for await (const chunk of body) if (chunk.length > 0) yield chunk;
}

async function* scoped(scope: Scope, body: Bytes): AsyncGenerator<Buffer> {
  const iterator = body[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const result = await scope.wait(() => iterator.next());
      if (result.done) break;
      if (result.value.length > 0) yield result.value;
    }
    ended = true;
  } catch (error) {
    throw answerable(error);
  } finally {
    scope.close();
    // Not awaited: a generator that is busy answers `return` only once its own await has ended. Its reader has left: its error has no reader.
    if (!ended) void iterator.return?.()?.then(undefined, () => undefined);
  }
}
