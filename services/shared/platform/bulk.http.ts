import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { directBulk, toBytes } from './bulk.direct.ts';
import { callHeaders, errorHeaders, type ReadHeader, readCall, readError } from './call-headers.ts';
import { ERRORS, GantryError, toGantryError } from './errors.ts';
import { answerable } from './rpc.direct.ts';
import type { AnyRoute, Services } from './rpc.ts';
import type { BulkClient, Bytes } from './rpc.types.ts';
import { Scope } from './scope.ts';

/**
 * The data plane between processes: POST /bulk/<route>. Both bodies are a 32-bit length, a message of that length, then bytes.
 * The trailer `gantry-end: ok` says that the bytes are all there; an error inside a body travels as a trailer too, so that a
 * reader learns `not-found` (the place has moved) as it would in one process. A body without either was cut off.
 */
const PREFIX = 4;
const END = 'gantry-end';
// Bound for unread bytes of a request that was refused before they were read: more, and the connection is closed instead.
const LINGER_MS = 1_000;

export interface BulkOptions {
  headerMax: number;
  idleMs: number;
  socketsMax: number;
  token: string;
}

const readHeaders =
  (headers: http.IncomingHttpHeaders | NodeJS.Dict<string>): ReadHeader =>
  (name) => {
    const value = headers[name];
    return Array.isArray(value) ? value[0] : value;
  };

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX + message.length);
  frame.writeUInt32BE(message.length, 0);
  frame.set(message, PREFIX);
  return frame;
}

/** Takes the message off the front of a body; what follows is left to be read as it comes. */
async function readFrame(source: AsyncIterator<Buffer>, max: number): Promise<{ message: Buffer; rest: Buffer }> {
  const chunks: Buffer[] = [];
  let length = 0;
  let need = PREFIX;
  for (;;) {
    const { done, value } = await source.next();
    if (done) throw new GantryError('invalid-argument', 'the body ended inside its message');
    chunks.push(value);
    length += value.length;
    if (length < need) continue;
    const head = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    chunks.splice(0, chunks.length, head);
    const size = head.readUInt32BE(0);
    if (size > max)
      throw new GantryError('too-large', `the message has ${size} bytes; ${max} are allowed (platform.bulkHeaderMax)`);
    need = PREFIX + size;
    if (length >= need) return { message: head.subarray(PREFIX, need), rest: head.subarray(need) };
  }
}

async function* readRest(rest: Buffer, source: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (rest.length > 0) yield rest;
  for (;;) {
    const { done, value } = await source.next();
    if (done) return;
    yield value;
  }
}

/** Writes as fast as the socket takes it: not pulling is the back-pressure. */
async function pump(body: Bytes, to: http.OutgoingMessage, signal: AbortSignal): Promise<void> {
  for await (const chunk of body) {
    if (signal.aborted || to.destroyed) return;
    if (!to.write(chunk)) await once(to, 'drain', { signal });
  }
}

export interface BulkServer {
  readonly port: number;
  close(): Promise<void>;
}

export async function serveBulkHttp(
  services: Services,
  host: string,
  port: number,
  options: BulkOptions,
): Promise<BulkServer> {
  const server = http.createServer(
    { noDelay: true, keepAlive: true, requestTimeout: 0, headersTimeout: 30_000, keepAliveTimeout: 65_000 },
    (request, response) => {
      request.socket.setTimeout(options.idleMs);
      void answer(services, request, response, options);
    },
  );
  server.on('timeout', (socket) => socket.destroy());
  server.listen(port, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  services: Services,
  request: http.IncomingMessage,
  response: http.ServerResponse,
  options: BulkOptions,
): Promise<void> {
  const abort = new AbortController();
  response.on(
    'close',
    () => response.writableFinished || abort.abort(new GantryError('cancelled', 'the caller went away')),
  );
  try {
    const call = readCall(readHeaders(request.headers), options.token, abort.signal);
    const name = request.method === 'POST' ? /^\/bulk\/([\w.]+)$/.exec(request.url ?? '')?.[1] : undefined;
    const offered = name === undefined ? undefined : services.routes.get(name);
    if (!offered) throw new GantryError('unimplemented', 'this process does not serve that route');
    const source = received(request, () => new GantryError('cancelled', 'the caller went away inside its body'));
    const { message, rest } = await readFrame(source, options.headerMax);
    const run = directBulk(offered.route, () => offered.handler, { codec: false, timeoutMs: () => Infinity });
    const { response: reply, body } = await run(call, offered.route.request.decode(message), readRest(rest, source));
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      trailer: END,
      ...(request.complete ? {} : { connection: 'close' }),
    });
    response.write(framed(offered.route.response.encode(reply).finish()));
    try {
      await pump(body, response, abort.signal);
      response.addTrailers({ [END]: 'ok' });
    } catch (error) {
      if (abort.signal.aborted) return;
      response.addTrailers({ [END]: 'error', ...errorHeaders(answerable(error)) });
    }
    response.end();
  } catch (error) {
    const known = answerable(error);
    if (response.headersSent || abort.signal.aborted) response.destroy();
    else
      response
        .writeHead(ERRORS[known.code].http, {
          ...errorHeaders(known),
          ...(request.complete ? {} : { connection: 'close' }),
        })
        .end();
  }
  // What the handler did not want is not read either; its sender has a moment to see the answer before the connection goes.
  if (request.complete) return;
  const close = () => setTimeout(() => request.destroy(), LINGER_MS).unref();
  if (response.writableFinished) close();
  else response.once('finish', close);
}

/** An iterator over a message whose early end does not destroy the socket, on which an answer may still travel. */
async function* received(message: http.IncomingMessage, broken: () => GantryError): AsyncGenerator<Buffer> {
  try {
    yield* message.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  } catch (cause) {
    throw Object.assign(broken(), { cause });
  }
}

export interface BulkChannel {
  route(route: AnyRoute): BulkClient<unknown, unknown>;
  close(): void;
}

export function bulkChannel(host: string, port: number, options: BulkOptions): BulkChannel {
  // noDelay is Node's default for agents; without it the 40 ms Nagle stall costs ten-fold.
  const agent = new http.Agent({ keepAlive: true, maxSockets: options.socketsMax, scheduling: 'lifo' });
  return {
    route: (route) => (call, request, body) => callBulk(agent, host, port, route, options, call, request, body),
    close: () => agent.destroy(),
  };
}

async function callBulk(
  agent: http.Agent,
  host: string,
  port: number,
  route: AnyRoute,
  options: BulkOptions,
  ...[call, message, body]: Parameters<BulkClient<unknown, unknown>>
) {
  const scope = new Scope(call, Infinity, route.name);
  const stop = new AbortController();
  let request: http.ClientRequest | undefined;
  try {
    if (scope.failure) throw scope.failure;
    request = http.request({
      agent,
      host,
      port,
      method: 'POST',
      path: `/bulk/${route.name}`,
      headers: { ...callHeaders(scope.call, options.token), 'content-type': 'application/octet-stream' },
      signal: scope.call.signal,
      timeout: options.idleMs,
    });
    request.on('timeout', () =>
      request?.destroy(new GantryError('deadline-exceeded', `${route.name}: the connection stood still`)),
    );
    const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
    answered.catch(() => undefined); // looked at below; the sender may fail first
    const sent = send(request, framed(route.request.encode(message).finish()), body, stop.signal);
    // Whichever comes first: an answer (perhaps a refusal before the body was read), or a body that fails.
    const first = await Promise.race([answered, sent.then(() => answered)]);
    const [response] = first;
    stop.abort();
    const refusal = readError(readHeaders(response.headers));
    if (refusal || response.statusCode !== 200) {
      response.resume();
      if (!request.writableFinished) request.destroy();
      throw (
        refusal ?? new GantryError('unavailable', `${route.name} was answered with HTTP status ${response.statusCode}`)
      );
    }
    const source = received(
      response,
      () => new GantryError('unavailable', `${route.name}: the connection broke inside the answer`),
    );
    const frame = await readFrame(source, options.headerMax);
    const reply = route.response.decode(frame.message);
    return { response: reply, body: answerBody(route, request, response, scope, frame.rest, source) };
  } catch (error) {
    stop.abort();
    scope.close();
    request?.destroy();
    if (scope.failure) throw scope.failure;
    throw connectionError(route, error);
  }
}

/** Errors of the socket say that the other process could not be reached; errors of the body that we send are its owner's. */
function connectionError(route: AnyRoute, error: unknown): GantryError {
  if (error instanceof GantryError) return error;
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? '';
  if (/^(E[A-Z]+|UND_|HPE_)/.test(code) && code !== 'ERR_ASSERTION')
    return new GantryError('unavailable', `${route.name}: no connection (${code})`, { cause: error });
  return toGantryError(error);
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

async function* answerBody(
  route: AnyRoute,
  request: http.ClientRequest,
  response: http.IncomingMessage,
  scope: Scope,
  rest: Buffer,
  source: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer> {
  let ended = false;
  try {
    yield* readRest(rest, source);
    ended = true;
    const trailer = readHeaders(response.trailers);
    if (trailer(END) !== 'ok')
      throw readError(trailer) ?? new GantryError('unavailable', `${route.name}: the answer was cut off`);
  } catch (error) {
    throw scope.failure ?? connectionError(route, error);
  } finally {
    scope.close();
    // Whoever stops reading in the middle gives the connection up; one that was read to its end goes back to the agent.
    if (!ended) request.destroy();
  }
}
