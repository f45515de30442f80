// An S3 server that misbehaves as object stores do over a bad day. It stands between a client and a real server, passes
// requests on untouched (Host included, which the signature covers), and harms those that chance or a test picks.
import { once } from 'node:events';
import { Agent, createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Toxic, toxic } from './toxic.ts';

/** The chance of a delay of so many milliseconds; what is left to 1 is not delayed. */
export type Delays = readonly (readonly [chance: number, ms: number])[];

/** The distributions of the kill campaign: a store that is near, one that is far, and a hiccup of a second in a hundred. */
export const DELAYS = {
  none: [],
  near: [[1, 10]],
  usual: [[1, 50]],
  far: [[1, 200]],
  hiccups: [
    [0.99, 10],
    [0.01, 1000],
  ],
} as const satisfies Record<string, Delays>;

/** What can be done to a request; all but `unavailable` only to those that write (PUT, POST, DELETE). */
export type Toxin = 'unavailable' | 'late' | 'dropAnswer' | 'reorder';

export interface S3Toxins extends Record<Toxin, number> {
  /** Before a request is passed on. */
  delay: Delays;
  /** Chance of 503 SlowDown instead of being passed on. */
  unavailable: number;
  /** Chance of being taken in, never answered, and applied `lateMs` later: the zombie of an unclear PUT. */
  late: number;
  lateMs: number;
  /** Chance of being applied, and its answer lost. */
  dropAnswer: number;
  /** Chance of being held until a write that came later is done, or for `reorderMs`. Answered as usual. */
  reorder: number;
  reorderMs: number;
  /** How no answer looks: `close` cuts the connection, `hang` leaves the client waiting until it gives up. */
  silence: 'close' | 'hang';
  /** Which requests may be harmed. */
  only: (request: S3Request) => boolean;
}

export interface S3Request {
  method: string;
  /** With the query, as it came. */
  path: string;
}

export interface ToxicS3 {
  /** For the client. */
  readonly endpoint: string;
  readonly host: string;
  readonly port: number;
  /** Below HTTP: partitions, bandwidth. */
  readonly network: Toxic;
  set(toxins: Partial<S3Toxins>): void;
  /** The next request that writes and that `match` takes gets this one, whatever chance says; resolves when it is done. */
  next(toxin: Toxin, match?: (request: S3Request) => boolean): Promise<S3Request>;
  /** How many requests were passed on untouched, and how many got what. */
  readonly counts: Readonly<Record<Toxin | 'passed' | 'delayed', number>>;
  /** Resolves when nothing waits to be applied late. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const HEALTHY: S3Toxins = {
  delay: DELAYS.none,
  unavailable: 0,
  late: 0,
  lateMs: 2000,
  dropAnswer: 0,
  reorder: 0,
  reorderMs: 500,
  silence: 'close',
  only: () => true,
};

const SLOW_DOWN =
  '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';

/** `seed`: the same requests in the same order get the same. `onRequest` is told each of them before anything is done to it. */
export async function toxicS3(
  endpoint: string,
  toxins: Partial<S3Toxins> = {},
  { seed = 1, onRequest }: { seed?: number; onRequest?: (request: S3Request) => void } = {},
): Promise<ToxicS3> {
  const target = new URL(endpoint);
  let now: S3Toxins = { ...HEALTHY, ...toxins };
  const random = mulberry32(seed);
  const counts = { passed: 0, delayed: 0, unavailable: 0, late: 0, dropAnswer: 0, reorder: 0 };
  const wanted: { toxin: Toxin; match: (request: S3Request) => boolean; done: (request: S3Request) => void }[] = [];
  const agent = new Agent({ keepAlive: true });
  const late = new Set<Promise<unknown>>();
  const held = new Set<() => void>();
  const closing = new AbortController();

  const server = createServer((incoming, answer) => {
    answer.sendDate = false;
    handle(incoming, answer).catch(() => {
      // The client went away, or the server behind did: either way there is no answer, as without a proxy.
      answer.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const network = await toxic(`127.0.0.1:${(server.address() as { port: number }).port}`);

  async function handle(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const request: S3Request = { method: incoming.method!, path: incoming.url! };
    onRequest?.(request);
    const { toxin, done } = pick(request);
    const delayMs = pickDelay(request);
    if (delayMs > 0) {
      counts.delayed++;
      await sleep(delayMs, undefined, { signal: closing.signal });
    }
    counts[toxin ?? 'passed']++;
    await HARM[toxin ?? 'passed'](incoming, answer);
    done?.(request);
  }

  function pick(request: S3Request): { toxin?: Toxin; done?: (request: S3Request) => void } {
    const writes = /^(PUT|POST|DELETE)$/.test(request.method);
    const index = writes ? wanted.findIndex(({ match }) => match(request)) : -1;
    if (index >= 0) return wanted.splice(index, 1)[0]!;
    if (!now.only(request)) return {};
    // One draw for all: their chances add up.
    let draw = random();
    for (const toxin of ['unavailable', 'late', 'dropAnswer', 'reorder'] as const) {
      if (toxin !== 'unavailable' && !writes) continue;
      if (draw < now[toxin]) return { toxin };
      draw -= now[toxin];
    }
    return {};
  }

  function pickDelay(request: S3Request): number {
    if (now.delay.length === 0 || !now.only(request)) return 0;
    let draw = random();
    for (const [chance, ms] of now.delay) {
      if (draw < chance) return ms;
      draw -= chance;
    }
    return 0;
  }

  const HARM: Record<Toxin | 'passed', (incoming: IncomingMessage, answer: ServerResponse) => Promise<void>> = {
    async passed(incoming, answer) {
      const sent = send(incoming);
      const [, response] = await Promise.all([pipeline(incoming, sent), responseOf(sent)]);
      await giveBack(response, incoming, answer);
    },
    async unavailable(incoming, answer) {
      // Read to its end, or the client would see a broken connection instead of the answer.
      await bodyOf(incoming);
      answer.writeHead(503, { 'Content-Type': 'application/xml', 'Retry-After': '1' });
      answer.end(SLOW_DOWN);
    },
    async late(incoming, answer) {
      const [body, lateMs] = [await bodyOf(incoming), now.lateMs];
      silence(answer);
      const applied = (async () => {
        // At the end at once, so that nothing is lost that a test counts on.
        await sleep(lateMs, undefined, { signal: closing.signal }).catch(() => undefined);
        await apply(incoming, body);
      })();
      late.add(applied);
      await applied.finally(() => late.delete(applied));
    },
    async dropAnswer(incoming, answer) {
      await apply(incoming, await bodyOf(incoming));
      silence(answer);
    },
    async reorder(incoming, answer) {
      const body = await bodyOf(incoming);
      const { promise, resolve } = Promise.withResolvers<void>();
      held.add(resolve);
      const timer = setTimeout(resolve, now.reorderMs);
      await promise;
      clearTimeout(timer);
      held.delete(resolve);
      const sent = send(incoming);
      sent.end(body);
      await giveBack(await responseOf(sent), incoming, answer);
    },
  };

  /** Method, path and headers as they came: the signature stays valid. */
  function send(incoming: IncomingMessage) {
    const sent = httpRequest({
      host: target.hostname,
      port: target.port,
      method: incoming.method!,
      path: incoming.url!,
      headers: incoming.rawHeaders,
      agent,
    });
    // Who waits for the response is told; a connection that breaks after it harms the body, and whoever reads that is told.
    sent.on('error', () => undefined);
    return sent;
  }

  async function apply(incoming: IncomingMessage, body: Buffer): Promise<void> {
    const sent = send(incoming);
    sent.end(body);
    const response = await responseOf(sent);
    await bodyOf(response);
    release(incoming);
  }

  async function giveBack(response: IncomingMessage, incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const headers = response.rawHeaders.flatMap((name, at, all) =>
      // These are about the connection behind us.
      at % 2 === 1 || /^(connection|keep-alive)$/i.test(name) ? [] : [name, all[at + 1]!],
    );
    answer.writeHead(response.statusCode!, response.statusMessage, headers);
    await pipeline(response, answer);
    release(incoming);
  }

  /** A write is done: those that were held for it go on. */
  function release(incoming: IncomingMessage): void {
    if (incoming.method !== 'GET' && incoming.method !== 'HEAD') for (const go of held) go();
  }

  function silence(answer: ServerResponse): void {
    if (now.silence === 'close') answer.destroy();
  }

  async function settled(): Promise<void> {
    while (late.size > 0) await Promise.allSettled(late);
  }

  return {
    endpoint: `${target.protocol}//${network.address}`,
    host: network.host,
    port: network.port,
    network,
    set(changes) {
      now = { ...now, ...changes };
    },
    next(toxin, match = () => true) {
      const { promise, resolve } = Promise.withResolvers<S3Request>();
      wanted.push({ toxin, match, done: resolve });
      return promise;
    },
    counts,
    settled,
    async close() {
      closing.abort();
      for (const go of held) go();
      await settled();
      await network.close();
      server.closeAllConnections();
      server.close();
      agent.destroy();
    },
  };
}

async function responseOf(sent: ReturnType<typeof httpRequest>): Promise<IncomingMessage> {
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return response;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  return Buffer.concat(await message.toArray());
}

/** A small generator with a seed: Math.random has none. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
