// The server's HTTP API as the commands call it. node:http instead of fetch: a verification may be silent for minutes, and bodies stream.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { parse } from 'yaml';
import { CommandFailure, EXIT, usage } from './command.ts';

/** An answer of the API is held whole: a list of 10^5 conflicts has some 30 MB. */
const ANSWER_BYTES_MAX = 512 * 1024 * 1024;
/** A connection that was kept open may have been closed by the server at the moment we use it. */
const STALE_RETRIES = 2;

export interface Sending {
  type: string;
  /** Made anew when a request is repeated. */
  open(): Readable | Buffer;
  /** A body that cannot be made twice: the request is not repeated. */
  once?: boolean;
  /** On a connection of its own, which cannot be one that the server is about to close. */
  fresh?: boolean;
}
export interface Ask {
  headers?: Record<string, string>;
  body?: Sending;
  signal?: AbortSignal;
}
export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: http.IncomingMessage;
}

/** What the server said instead of what was asked for. */
export class Refused extends CommandFailure {
  readonly status: number;
  constructor(status: number, code: string, message: string, requestId: string) {
    const exit = status === 401 || status === 403 ? EXIT.unreachable : EXIT.failed;
    const hint = status === 401 ? ' (give a token: --token-file FILE, or GANTRY_TOKEN_FILE)' : '';
    super(exit, code, `${message}${hint}${requestId === '' ? '' : ` [request ${requestId}]`}`);
    this.status = status;
  }
}

export interface Client {
  readonly server: string;
  /** Told apart from a default: an explicit server is never replaced by the stopped archive on disk. */
  readonly explicit: boolean;
  request(method: string, path: string, ask?: Ask): Promise<Answer>;
  /** The JSON answer; a refusal throws. */
  json<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T>;
  /** NDJSON, row by row. */
  lines<T>(method: string, path: string, body?: object, signal?: AbortSignal): AsyncGenerator<T>;
  text(method: string, path: string): Promise<string>;
  close(): void;
}

export interface Where {
  server?: string;
  tokenFile?: string;
  env: Record<string, string | undefined>;
  cwd: string;
}

export function createClient(where: Where): Client {
  const { url, explicit } = serverOf(where);
  const token = tokenOf(where);
  const secure = url.protocol === 'https:';
  const agent = new (secure ? https : http).Agent({ keepAlive: true, maxSockets: 64 });

  const once = (method: string, path: string, ask: Ask): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers: Record<string, string> = { 'user-agent': 'gantry-cli', ...ask.headers };
      if (token !== undefined) headers.authorization = `Bearer ${token}`;
      const body = ask.body?.open();
      if (ask.body !== undefined) {
        headers['content-type'] = ask.body.type;
        if (Buffer.isBuffer(body)) headers['content-length'] = String(body.length);
      }
      const base = url.pathname.replace(/\/$/, '');
      const request = (secure ? https : http).request(
        {
          ...addressOf(url),
          path: `${base}${path}`,
          method,
          headers,
          agent: ask.body?.fresh ? false : agent,
          signal: ask.signal,
        },
        (answer) => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: answer }),
      );
      request.setNoDelay(true);
      request.on('error', (error: NodeJS.ErrnoException) => {
        if (body !== undefined && !Buffer.isBuffer(body)) body.destroy();
        const stale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(stale ? new StaleConnection(error) : error); // after an answer this goes nowhere, as it should: the answer counts
      });
      if (body === undefined || Buffer.isBuffer(body)) request.end(body);
      else {
        body.on('error', (error) => request.destroy(error));
        body.pipe(request);
      }
    });

  const request = async (method: string, path: string, ask: Ask = {}): Promise<Answer> => {
    for (let tries = 0; ; tries++) {
      try {
        return await once(method, path, ask);
      } catch (error) {
        if (ask.signal?.aborted) throw new CommandFailure(EXIT.interrupted, 'interrupted', 'interrupted');
        if (error instanceof StaleConnection && tries < STALE_RETRIES && ask.body?.once !== true) continue;
        throw unreachable(url, error instanceof StaleConnection ? error.cause : error);
      }
    }
  };

  const checked = async (method: string, path: string, ask: Ask): Promise<Answer> => {
    const answer = await request(method, path, ask);
    if (answer.status >= 400) throw await refusalOf(answer);
    return answer;
  };
  const jsonAsk = (accept: string, body: object | undefined, signal: AbortSignal | undefined): Ask => ({
    headers: { accept },
    ...(body === undefined
      ? {}
      : { body: { type: 'application/json', open: () => Buffer.from(JSON.stringify(body)) } }),
    ...(signal === undefined ? {} : { signal }),
  });

  return {
    server: url.href.replace(/\/$/, ''),
    explicit,
    request,
    async json<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
      const text = await wholeText(await checked(method, path, jsonAsk('application/json', body, signal)));
      try {
        return JSON.parse(text) as T;
      } catch (cause) {
        throw new CommandFailure(EXIT.unreachable, 'no-gantry', `${url.origin} answers, but not as Gantry does`, {
          cause,
        });
      }
    },
    async *lines<T>(method: string, path: string, body?: object, signal?: AbortSignal): AsyncGenerator<T> {
      const answer = await checked(method, path, jsonAsk('application/x-ndjson', body, signal));
      let cut: unknown;
      answer.body.on('error', (error) => (cut = error));
      for await (const line of createInterface({ input: answer.body, crlfDelay: Number.POSITIVE_INFINITY }))
        if (line !== '') yield JSON.parse(line) as T;
      if (cut !== undefined || !answer.body.complete)
        throw new CommandFailure(EXIT.failed, 'cut-off', 'the server broke its answer off: its log says why', {
          cause: cut,
        });
    },
    text: async (method, path) => wholeText(await checked(method, path, {})),
    close: () => agent.destroy(),
  };
}

class StaleConnection extends Error {
  constructor(cause: unknown) {
    super('a kept connection was closed', { cause });
  }
}

export async function wholeText(answer: Answer): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > ANSWER_BYTES_MAX)
      throw new CommandFailure(EXIT.failed, 'too-large', 'the answer is longer than 512 MB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The server's own sentence: it never holds patient data. */
export async function refusalOf(answer: Answer): Promise<Refused> {
  const text = await wholeText(answer).catch(() => ''); // the status alone says enough
  let said: { error?: unknown; message?: unknown; requestId?: unknown } = {};
  try {
    said = JSON.parse(text) as typeof said;
  } catch {
    // Not from Gantry itself (a proxy, perhaps): the status is what we know.
  }
  const message = typeof said.message === 'string' ? said.message : `HTTP ${answer.status}`;
  const requestId = typeof said.requestId === 'string' ? said.requestId : '';
  return new Refused(answer.status, typeof said.error === 'string' ? said.error : 'refused', message, requestId);
}

function unreachable(url: URL, error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error;
  const inner = error instanceof AggregateError ? error.errors[0] : error;
  const code = (inner as NodeJS.ErrnoException)?.code ?? 'no answer';
  return new CommandFailure(
    EXIT.unreachable,
    'unreachable',
    `no Gantry answers at ${url.origin} (${code}): start it with \`gantry up\`, or say where it is with --server URL`,
    { cause: error },
  );
}

function addressOf(url: URL): { protocol: string; hostname: string; port: string | number } {
  const hostname = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return { protocol: url.protocol, hostname, port: url.port || (url.protocol === 'https:' ? 443 : 80) };
}

/** --server, GANTRY_URL, GANTRY_HTTP_HOST and _PORT, gantry.yaml here, and then the defaults. */
export function serverOf({ server, env, cwd }: Where): { url: URL; explicit: boolean } {
  const named = server ?? (env.GANTRY_URL || undefined);
  if (named !== undefined) {
    const text = /^https?:\/\//i.test(named) ? named : `http://${named}`;
    if (!URL.canParse(text)) throw usage('--server is a URL such as http://pacs.example:8080');
    return { url: new URL(text), explicit: server !== undefined };
  }
  const file = settingsHere(env, cwd);
  const host = env.GANTRY_HTTP_HOST || file('http', 'host') || 'localhost';
  const port = env.GANTRY_HTTP_PORT || file('http', 'port') || '8080';
  const text = `http://${reachable(host)}:${port}`;
  if (!URL.canParse(text)) throw usage('GANTRY_HTTP_HOST and GANTRY_HTTP_PORT name no address');
  return { url: new URL(text), explicit: false };
}

/** An address to listen on, as one to call. */
export function reachable(host: string): string {
  const first = host.split(',')[0]!.trim();
  const bare = first.replace(/^\[(.*)\]$/, '$1');
  if (bare === '0.0.0.0') return '127.0.0.1';
  if (bare === '::') return '[::1]';
  return isIP(bare) === 6 ? `[${bare}]` : bare;
}

/** The few settings of the server's own gantry.yaml that say where it is; whatever is wrong with the file, the server says. */
export function settingsHere(env: Where['env'], cwd: string): (group: string, name: string) => string | undefined {
  let content: unknown;
  try {
    content = parse(readFileSync(env.GANTRY_CONFIG || join(cwd, 'gantry.yaml'), 'utf8'), { maxAliasCount: 100 });
  } catch {
    return () => undefined; // no such file, or one that the server will explain
  }
  return (group, name) => {
    const root = content as Record<string, unknown> | null;
    const value = root?.[`${group}.${name}`] ?? (root?.[group] as Record<string, unknown> | undefined)?.[name];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
  };
}

function tokenOf({ tokenFile, env }: Where): string | undefined {
  const file = tokenFile ?? (env.GANTRY_TOKEN_FILE || env.GANTRY_HTTP_TOKEN_FILE || undefined);
  if (file === undefined) return env.GANTRY_TOKEN || undefined;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw usage(`the token file cannot be read (${(cause as NodeJS.ErrnoException).code})`);
  }
  const token = text
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[0]!) // the server's own file may name its tokens
    .find((line) => line !== '' && !line.startsWith('#'));
  if (token === undefined || !/^[\x21-\x7e]+$/.test(token))
    throw usage('the token file holds no token on its first line');
  return token;
}
