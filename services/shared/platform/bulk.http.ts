import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { directBulk } from './bulk.direct.ts';
import { errorHeaders, type ReadHeader, readCall } from './call-headers.ts';
import { ERRORS, GantryError } from './errors.ts';
import type { Served } from './observe-wire.ts';
import { pump } from './pump.ts';
import { answerable } from './rpc.direct.ts';

/**
 * The data plane between processes: POST /bulk/<route>. Both bodies are a 32-bit length, a message of that length, then bytes.
 * The trailer `gantry-end: ok` says that the bytes are all there; an error inside a body travels as a trailer too, so that a
 * reader learns `not-found` (the place has moved) as it would in one process. A body without either was cut off.
 */
const PREFIX = 4;
export const END = 'gantry-end';
// Bound for unread bytes of a request that was refused before they were read: more, and the connection is closed instead.
const LINGER_MS = 1_000;

/** Said where the message is all: nobody has to read on to give the connection back. */
export const NO_BYTES = 'gantry-no-bytes';

/** Said with a refusal before anything was looked at: this process is leaving, another one may have the request. */
export const NOT_TAKEN = 'gantry-not-taken';

export interface BulkOptions {
  headerMax: number;
  idleMs: number;
  token: string;
}

export const readHeaders =
  (headers: http.IncomingHttpHeaders | NodeJS.Dict<string>): ReadHeader =>
  (name) => {
    const value = headers[name];
    return Array.isArray(value) ? value[0] : value;
  };

export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX + message.length);
  frame.writeUInt32BE(message.length, 0);
  frame.set(message, PREFIX);
  return frame;
}

/** Takes the message off the front of a body; what follows is left to be read as it comes. */
export async function readFrame(
  source: AsyncIterator<Buffer>,
  max: number,
): Promise<{ message: Buffer; rest: Buffer }> {
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

export async function* readRest(rest: Buffer, source: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (rest.length > 0) yield rest;
  for (;;) {
    const { done, value } = await source.next();
    if (done) return;
    yield value;
  }
}

export interface BulkServer {
  readonly port: number;
  /** New requests are refused as not taken; resolves when those in flight are answered, or at the signal. */
  drain(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export async function serveBulkHttp(
  services: Served,
  host: string,
  port: number,
  options: BulkOptions,
): Promise<BulkServer> {
  let draining = false;
  let inFlight = 0;
  const idle = new Set<() => void>();
  const serve = (request: http.IncomingMessage, response: http.ServerResponse, goOn: () => void): void => {
    request.socket.setTimeout(options.idleMs);
    if (draining) {
      response.writeHead(503, { [NOT_TAKEN]: 'leaving', connection: 'close', 'content-length': 0 }).end();
      return;
    }
    inFlight++;
    response.once('close', () => {
      if (--inFlight === 0) for (const tell of idle) tell();
    });
    goOn();
    void answer(services, request, response, options);
  };
  const server = http.createServer(
    { noDelay: true, keepAlive: true, requestTimeout: 0, headersTimeout: 30_000, keepAliveTimeout: 65_000 },
    (request, response) => serve(request, response, () => undefined),
  );
  // A stream that can be pulled only once waits for this word: until then its sender may turn to another process.
  server.on('checkContinue', (request, response) => serve(request, response, () => response.writeContinue()));
  server.on('timeout', (socket) => socket.destroy());
  server.listen(port, host);
  await once(server, 'listening');
  const stopListening = () => {
    const closed = server.listening ? once(server, 'close') : Promise.resolve();
    server.close();
    return closed;
  };
  return {
    port: (server.address() as AddressInfo).port,
    async drain(signal) {
      draining = true;
      void stopListening(); // and closes connections that nothing happens on
      if (inFlight === 0 || signal.aborted) return;
      await new Promise<void>((resolve) => {
        const done = () => {
          idle.delete(done);
          signal.removeEventListener('abort', done);
          resolve();
        };
        idle.add(done);
        signal.addEventListener('abort', done, { once: true });
      });
    },
    async close() {
      const closed = stopListening();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  services: Served,
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
    let bytes = false;
    const handler: typeof offered.handler = async (...given) => {
      const answered = await offered.handler(...given);
      bytes = answered.body !== undefined;
      return answered;
    };
    const run = directBulk(offered.route, () => handler, { codec: false, timeoutMs: () => Infinity });
    const { response: reply, body } = await run(call, offered.route.request.decode(message), readRest(rest, source));
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      trailer: END,
      ...(bytes ? {} : { [NO_BYTES]: 'yes' }),
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
export async function* received(message: http.IncomingMessage, broken: () => GantryError): AsyncGenerator<Buffer> {
  try {
    yield* message.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  } catch (cause) {
    throw Object.assign(broken(), { cause });
  }
}
