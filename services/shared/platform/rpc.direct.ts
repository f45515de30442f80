import type { Call } from './call.ts';
import { toGantryError } from './errors.ts';
import type { Method, ServiceDefinition } from './rpc.types.ts';
import { Scope } from './scope.ts';

export type UnaryHandler = (call: Call, request: unknown) => Promise<unknown>;
export type StreamHandler = (call: Call, request: unknown) => AsyncIterable<unknown>;
// biome-ignore lint/suspicious/noExplicitAny: handlers of any message types, as in ServiceDefinition
export type AnyMethod = Method<any, any>;

export interface DirectOptions {
  /** Tests encode and decode every message, so that what works here works over gRPC. */
  codec: boolean;
  timeoutMs: () => number;
}

/** A broken invariant is no error to be answered: the process crashes (errors.ts), and the log's recovery is the way back. */
export function crashOnBrokenInvariant(error: unknown): void {
  if (error instanceof Error && 'code' in error && error.code === 'ERR_ASSERTION')
    setImmediate(() => {
      throw error;
    });
}

export function answerable(error: unknown) {
  crashOnBrokenInvariant(error);
  return toGantryError(error);
}

/**
 * A client whose calls are function calls. `resolve` is asked at each call: modules may take clients of services that start later.
 * As over gRPC: the deadline and the caller's signal end a call, and whatever is thrown arrives as a GantryError.
 */
export function directMethod(method: AnyMethod, resolve: () => UnaryHandler | StreamHandler, options: DirectOptions) {
  const request = (value: unknown) =>
    options.codec ? method.requestDeserialize(method.requestSerialize(value)) : value;
  const response = (value: unknown) =>
    options.codec ? method.responseDeserialize(method.responseSerialize(value)) : value;
  if (method.responseStream)
    return (call: Call, value: unknown): AsyncIterable<unknown> => ({
      [Symbol.asyncIterator]: () =>
        new DirectStream(method.path, call, (inner) => (resolve() as StreamHandler)(inner, request(value)), response),
    });
  return async (call: Call, value: unknown): Promise<unknown> => {
    const scope = new Scope(call, options.timeoutMs(), method.path);
    try {
      return response(await scope.wait(async () => (resolve() as UnaryHandler)(scope.call, request(value))));
    } catch (error) {
      throw answerable(error);
    } finally {
      scope.close();
    }
  };
}

class DirectStream implements AsyncIterator<unknown> {
  readonly #scope: Scope;
  readonly #open: (call: Call) => AsyncIterable<unknown>;
  readonly #response: (value: unknown) => unknown;
  #iterator: AsyncIterator<unknown> | undefined;
  #ended = false;

  constructor(
    path: string,
    call: Call,
    open: (call: Call) => AsyncIterable<unknown>,
    response: (value: unknown) => unknown,
  ) {
    // Streams run as long as they give rows (a rebuild takes hours): only a deadline that the caller names ends them.
    this.#scope = new Scope(call, Infinity, path);
    this.#open = open;
    this.#response = response;
  }

  async next(): Promise<IteratorResult<unknown>> {
    if (this.#ended) return { done: true, value: undefined };
    try {
      const result = await this.#scope.wait(async () => {
        this.#iterator ??= this.#open(this.#scope.call)[Symbol.asyncIterator]();
        return this.#iterator.next();
      });
      if (!result.done) return { done: false, value: this.#response(result.value) };
      this.#finish();
      return { done: true, value: undefined };
    } catch (error) {
      this.#finish();
      this.#leave();
      throw answerable(error);
    }
  }

  /** The caller stopped reading: the handler's signal aborts and its `finally` blocks run. */
  async return(): Promise<IteratorResult<unknown>> {
    if (!this.#ended) {
      this.#finish();
      this.#scope.fail(toGantryError(new DOMException('the caller stopped reading', 'AbortError')));
      this.#leave();
    }
    return { done: true, value: undefined };
  }

  #finish(): void {
    this.#ended = true;
    this.#scope.close();
  }

  /** Not awaited: a generator that is busy answers `return` only once its own await has ended. */
  #leave(): void {
    this.#iterator?.return?.().catch(crashOnBrokenInvariant); // its caller has left: nobody is there to be told
  }
}

export function serviceName(service: ServiceDefinition): string {
  const [method] = Object.values(service);
  const match = method && /^\/([\w.]+)\/\w+$/.exec(method.path);
  if (!match) throw new Error('a service needs at least one method with a path');
  return match[1];
}
