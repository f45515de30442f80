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
    const source = new Source(body);
    try {
      const answer = await scope.wait(async () => resolve()(scope.call, request(value), source));
      if (answer.body) return { response: response(answer.response), body: scoped(scope, answer.body) };
      scope.close();
      return { response: response(answer.response), body: emptyBytes() };
    } catch (error) {
      scope.close();
      throw answerable(error);
    } finally {
      source.leave();
    }
  };
}

/**
 * The body as its handler pulls it. Once the handler has answered, what it did not pull is not wanted any more, and the body's owner
 * is told so (its iterator's `return`), as over HTTP. Empty buffers carry nothing and are dropped, as a socket would.
 */
class Source implements AsyncIterableIterator<Buffer> {
  readonly #iterator: AsyncIterator<Buffer> | Iterator<Buffer> | undefined;
  #ended: boolean;

  constructor(body: Bytes | readonly Buffer[] | undefined) {
    this.#iterator = body && (Symbol.asyncIterator in body ? body[Symbol.asyncIterator]() : body[Symbol.iterator]());
    this.#ended = !body;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Buffer>> {
    while (!this.#ended) {
      try {
        const result = await this.#iterator!.next();
        if (!result.done && result.value.length === 0) continue;
        if (!result.done) return result;
      } catch (error) {
        this.#ended = true;
        throw error;
      }
      this.#ended = true;
    }
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Buffer>> {
    this.leave();
    return { done: true, value: undefined };
  }

  leave(): void {
    if (this.#ended) return;
    this.#ended = true;
    // Not awaited: a generator that is busy answers `return` only once its own await has ended; its owner sees its own errors.
    const left = this.#iterator!.return?.();
    if (left instanceof Promise) left.catch(() => undefined);
  }
}

export async function* emptyBytes(): AsyncGenerator<Buffer> {}

export const toBytes = (body: Bytes | readonly Buffer[] | undefined): AsyncIterableIterator<Buffer> => new Source(body);

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
