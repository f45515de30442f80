import http from 'node:http';
import { Balance, type BalanceOptions, Lost, NotSent } from './balance.ts';
import { emptyBytes, toBytes } from './bulk.direct.ts';
import {
  type BulkOptions,
  END,
  framed,
  NO_BYTES,
  NOT_TAKEN,
  readFrame,
  readHeaders,
  readRest,
  received,
} from './bulk.http.ts';
import { callHeaders, readError } from './call-headers.ts';
import type { Addresses } from './endpoints.ts';
import { GantryError, toGantryError } from './errors.ts';
import { pump } from './pump.ts';
import { REPEATABLE_ROUTES } from './rpc.repeat.ts';
import type { AnyRoute } from './rpc.ts';
import type { BulkClient, Bytes } from './rpc.types.ts';
import { Scope } from './scope.ts';

export interface BulkChannelOptions extends BulkOptions, BalanceOptions {
  socketsMax: number;
  /** How long the other side may give nothing while we want it. */
  stallMs: () => number;
}

export interface BulkChannel {
  route(route: AnyRoute): BulkClient<unknown, unknown>;
  close(): void;
}

interface Host {
  host: string;
  port: number;
  agent: http.Agent;
}

export function bulkChannel(addresses: Addresses, options: BulkChannelOptions): BulkChannel {
  const balance = new Balance<Host>(
    addresses,
    options,
    ({ host, bulkPort }) => ({
      host,
      port: bulkPort,
      // noDelay is Node's default for agents; without it the 40 ms Nagle stall costs ten-fold.
      agent: new http.Agent({ keepAlive: true, maxSockets: options.socketsMax, scheduling: 'lifo' }),
    }),
    ({ agent }) => agent.destroy(),
  );
  return {
    route: (route) => (call, message, body) => callBulk(balance, route, options, call, message, body),
    close: () => balance.close(),
  };
}

async function callBulk(
  balance: Balance<Host>,
  route: AnyRoute,
  options: BulkChannelOptions,
  ...[call, message, body]: Parameters<BulkClient<unknown, unknown>>
) {
  const scope = new Scope(call, Infinity, route.name);
  try {
    return await balance.call(route.name, scope, REPEATABLE_ROUTES.has(route.name), (host, release) =>
      attempt(host, route, options, scope, message, body, release),
    );
  } catch (error) {
    scope.close();
    throw scope.failure ?? toGantryError(error);
  }
}

async function attempt(
  { host, port, agent }: Host,
  route: AnyRoute,
  options: BulkChannelOptions,
  scope: Scope,
  message: unknown,
  body: Bytes | readonly Buffer[] | undefined,
  release: () => void,
) {
  const stop = new AbortController();
  // What can be pulled only once waits until somebody takes it; the rest is small or at hand, and is not worth a round trip.
  const asks = body !== undefined && !Array.isArray(body);
  const flight = { connected: false, taken: !asks };
  const request = http.request({
    agent,
    host,
    port,
    method: 'POST',
    path: `/bulk/${route.name}`,
    headers: {
      ...callHeaders(scope.call, options.token),
      'content-type': 'application/octet-stream',
      ...(asks ? { expect: '100-continue' } : {}),
    },
    signal: scope.call.signal,
    timeout: options.idleMs,
  });
  const quiet = (limit: string) => () =>
    request.destroy(new GantryError('deadline-exceeded', `${route.name}: the connection stood still (${limit})`));
  request.on('timeout', quiet('platform.bulkIdleMs'));
  request.once('socket', (socket) => {
    if (!socket.connecting) flight.connected = true;
    else {
      const late = setTimeout(() => request.destroy(new Error('connecting took too long')), options.connectMs());
      socket.once('connect', () => {
        flight.connected = true;
      });
      for (const end of ['connect', 'close']) socket.once(end, () => clearTimeout(late));
    }
  });
  try {
    const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.once('error', reject);
      request.once('close', () => reject(new Error('closed without an answer')));
    });
    answered.catch(() => undefined); // looked at below; the sender may fail first
    // Waiting for an answer to what has been sent: only where nothing but reading keeps it (a store may wait for a permit).
    let patience: NodeJS.Timeout | undefined;
    const wait = () => {
      if (asks && flight.taken) return;
      if (asks || REPEATABLE_ROUTES.has(route.name))
        patience = setTimeout(() => request.destroy(new Error('no answer in time')), options.stallMs());
    };
    const frame = framed(route.request.encode(message).finish());
    let sent: Promise<void>;
    if (asks) {
      request.flushHeaders();
      wait();
      sent = new Promise<void>((resolve) => request.once('continue', resolve)).then(() => {
        clearTimeout(patience);
        flight.taken = true;
        return send(request, frame, body, stop.signal);
      });
    } else {
      wait();
      sent = send(request, frame, body, stop.signal);
    }
    sent.catch(() => undefined); // as above
    // Whichever comes first: an answer (perhaps a refusal before the body was read), or a body that fails.
    const response = await Promise.race([answered, sent.then(() => answered)]).finally(() => clearTimeout(patience));
    stop.abort();
    const header = readHeaders(response.headers);
    const refusal = readError(header);
    if (refusal || response.statusCode !== 200) {
      response.resume();
      if (!request.writableFinished) request.destroy();
      if (header(NOT_TAKEN) !== undefined) throw new NotSent(new Error('the process is leaving'));
      throw (
        refusal ?? new GantryError('unavailable', `${route.name} was answered with HTTP status ${response.statusCode}`)
      );
    }
    const source = watched(
      received(response, () => new GantryError('unavailable', `${route.name}: the connection broke inside the answer`)),
      request,
      route,
      options.stallMs,
    );
    const { message: reply, rest } = await readFrame(source, options.headerMax);
    const rows = answerBody(route, request, response, scope, rest, source, release);
    if (header(NO_BYTES) === undefined) return { response: route.response.decode(reply), body: leavable(rows) };
    // Read to its end here: its receiver need not look at a body that is none.
    for await (const unexpected of rows)
      throw new GantryError('internal', `${route.name}: ${unexpected.length} bytes where none were announced`);
    return { response: route.response.decode(reply), body: emptyBytes() };
  } catch (error) {
    stop.abort();
    request.destroy();
    if (error instanceof NotSent || error instanceof GantryError) throw error;
    if (!isConnectionError(error)) throw toGantryError(error); // of the body that we send: its owner's
    throw flight.connected && flight.taken ? new Lost(error) : new NotSent(error);
  }
}

const OWN_WORDS = new Set(['connecting took too long', 'no answer in time', 'closed without an answer']);
function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return OWN_WORDS.has(error.message) || (/^(E[A-Z]+|UND_|HPE_)/.test(code) && code !== 'ERR_ASSERTION');
}

/** Silence is counted only while we wait for bytes: who does not pull keeps nobody waiting but himself. */
async function* watched(
  source: AsyncGenerator<Buffer>,
  request: http.ClientRequest,
  route: AnyRoute,
  stallMs: () => number,
): AsyncGenerator<Buffer> {
  let patience: NodeJS.Timeout | undefined;
  const late = () =>
    request.destroy(new GantryError('unavailable', `${route.name}: no byte came for platform.stallMs`));
  try {
    for (;;) {
      patience = setTimeout(late, stallMs());
      const { done, value } = await source.next();
      clearTimeout(patience);
      if (done) return;
      yield value;
    }
  } finally {
    clearTimeout(patience);
    await source.return(undefined);
  }
}

async function send(
  request: http.ClientRequest,
  frame: Buffer,
  body: Bytes | readonly Buffer[] | undefined,
  stop: AbortSignal,
): Promise<void> {
  if (body === undefined) {
    // With its length and in one packet: the server has the whole request when it answers, and the connection is used again.
    request.end(frame);
    return;
  }
  request.write(frame);
  try {
    await pump(toBytes(body), request, stop);
  } catch (error) {
    if (stop.aborted) return; // the answer came first: the rest of the body is not wanted
    throw error;
  }
  if (!stop.aborted) request.end();
}

/** A generator that was never begun does not clean up when it is left. */
function leavable(rows: AsyncGenerator<Buffer>): AsyncIterableIterator<Buffer> {
  let begun = false;
  const iterator: AsyncIterableIterator<Buffer> = {
    [Symbol.asyncIterator]: () => iterator,
    next: () => {
      begun = true;
      return rows.next();
    },
    async return() {
      if (!begun) {
        begun = true;
        const first = rows.next();
        first.catch(() => undefined); // who has left is not told
        await rows.return(undefined).catch(() => undefined);
        return { done: true, value: undefined };
      }
      return rows.return(undefined);
    },
  };
  return iterator;
}

async function* answerBody(
  route: AnyRoute,
  request: http.ClientRequest,
  response: http.IncomingMessage,
  scope: Scope,
  rest: Buffer,
  source: AsyncIterator<Buffer>,
  release: () => void,
): AsyncGenerator<Buffer> {
  let ended = false;
  try {
    yield* readRest(rest, source);
    ended = true;
    const trailer = readHeaders(response.trailers);
    if (trailer(END) !== 'ok')
      throw readError(trailer) ?? new GantryError('unavailable', `${route.name}: the answer was cut off`);
  } catch (error) {
    if (scope.failure) throw scope.failure;
    if (isConnectionError(error))
      throw new GantryError('unavailable', `${route.name}: the connection broke inside the answer`, { cause: error });
    throw toGantryError(error);
  } finally {
    scope.close();
    release();
    // Whoever stops reading in the middle gives the connection up; one that was read to its end goes back to the agent.
    if (!ended) request.destroy();
  }
}
