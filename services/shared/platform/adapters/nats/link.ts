import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { type JetStreamClient, jetstream, jetstreamManager } from '@nats-io/jetstream';
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  type NatsConnection,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node';
import type { Logger } from 'pino';
import { GantryError } from '../../errors.ts';
import { isPassing, toError, whyNotConnected } from './errors.ts';

export interface LinkOptions {
  servers: string[];
  /** Before every stream and subject, so that several installations may share one NATS. */
  prefix: string;
  replicas: number;
  /** How long one call may take with all its tries: longer than a change of leaders. */
  timeoutMs: () => number;
  credsFile?: string;
  tokenFile?: string;
  user?: string;
  passwordFile?: string;
  tls?: { caFile?: string; certFile?: string; keyFile?: string; handshakeFirst?: boolean };
}

export interface Live {
  connection: NatsConnection;
  js: JetStreamClient;
  jsm: Awaited<ReturnType<typeof jetstreamManager>>;
}

const CONNECT_MS = 3_000;
const RETRY_MS = 500;
/** One request; a leader that died does not answer, and the next one answers the next request. */
const REQUEST_MS = 2_000;
// A server that stands still (SIGSTOP, a dead node) is left after at most three of these: the library's default is 6 minutes.
const PING_MS = 2_000;
const PINGS_OUT = 2;
const PAUSES_MS = [20, 50, 100, 250, 500];

/**
 * The connection to NATS, made in the background and made again for ever: a process starts, stores and answers without it. What needs
 * NATS waits for `timeoutMs`, and not at all once NATS has been gone for so long.
 */
export class NatsLink extends EventEmitter<{ up: []; down: [] }> {
  readonly options: LinkOptions;
  readonly #log: Logger;
  #live: Live | undefined;
  #connected = false;
  #downSince = performance.now();
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #reason = 'not connected yet';
  #warned = false;
  #connecting: Promise<void>;

  constructor(options: LinkOptions, log: Logger) {
    super();
    this.setMaxListeners(0);
    this.options = options;
    this.#log = log;
    this.#connecting = this.#connect();
  }

  get connected(): boolean {
    return this.#connected;
  }
  /** Undefined while there is none: for what is not worth waiting (wakes, heartbeats). */
  get connection(): NatsConnection | undefined {
    return this.#connected ? this.#live?.connection : undefined;
  }
  get detail(): string {
    return this.#connected ? `connected to ${this.#live?.connection.getServer()}` : `not connected: ${this.#reason}`;
  }

  async #connect(): Promise<void> {
    if (this.#closed) return;
    try {
      const { servers, tls } = this.options;
      const connection = await connect({
        servers,
        name: this.options.prefix,
        timeout: CONNECT_MS,
        authenticator: authenticators(this.options),
        tls: tls && { ...tls },
        noEcho: true, // what this process publishes it hears without NATS
        maxReconnectAttempts: -1,
        reconnectTimeWait: 250,
        reconnectJitter: 250,
        ignoreAuthErrorAbort: true, // a password that is rotated is wrong for a while
        pingInterval: PING_MS,
        maxPingOut: PINGS_OUT,
      });
      if (this.#closed) return void (await connection.close());
      const jsm = await jetstreamManager(connection, { checkAPI: false, timeout: REQUEST_MS });
      this.#live = { connection, js: jetstream(connection, { timeout: REQUEST_MS }), jsm };
      void this.#follow(connection);
      this.#up();
    } catch (error) {
      this.#reason = whyNotConnected(error);
      if (!this.#warned)
        this.#log.warn(
          { err: error, reason: this.#reason },
          'NATS is not reachable: this goes on without it and tries again',
        );
      this.#warned = true;
      if (!this.#closed) this.#timer = setTimeout(() => (this.#connecting = this.#connect()), RETRY_MS);
    }
  }

  async #follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'disconnect') this.#down('the connection was lost');
      if (status.type === 'reconnect') this.#up();
      if (status.type === 'error') this.#reason = whyNotConnected(status.error);
    }
    // The library gave up, which it should not: begin anew.
    this.#down('the connection was closed');
    this.#live = undefined;
    if (!this.#closed) this.#connecting = this.#connect();
  }

  #up(): void {
    if (this.#connected || this.#closed) return;
    this.#connected = true;
    this.#warned = false;
    this.#log.info('connected to NATS');
    this.emit('up');
  }
  #down(reason: string): void {
    if (!this.#connected) return;
    this.#connected = false;
    this.#downSince = performance.now();
    this.#reason = reason;
    if (!this.#closed) this.#log.warn('NATS is gone: jobs, leases and configured facts wait for it; storing goes on');
    this.emit('down');
  }

  /** Resolves when connected, rejects `unavailable` after so long or when the signal aborts. */
  async whenUp(limitMs: number, signal?: AbortSignal): Promise<Live> {
    if (this.#connected && this.#live) return this.#live;
    if (!this.#closed && limitMs > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, limitMs);
      this.once('up', resolve);
      signal?.addEventListener('abort', () => resolve(), { once: true });
      await promise;
      clearTimeout(timer);
      this.off('up', resolve);
    }
    if (this.#connected && this.#live) return this.#live;
    throw new GantryError('unavailable', `NATS is ${this.detail}`);
  }

  /** Tries `work` again through what passes, within `limitMs`. It must be safe to repeat. */
  async use<T>(what: string, work: (live: Live) => Promise<T>, limitMs = this.options.timeoutMs()): Promise<T> {
    const began = performance.now();
    const left = () => limitMs - (performance.now() - began);
    for (let tries = 0; ; tries++) {
      // Gone for longer than a change of leaders: nobody is made to wait for it.
      const patience = this.#connected ? left() : left() - (began - this.#downSince);
      const live = await this.whenUp(patience);
      try {
        return await work(live);
      } catch (error) {
        const pause = PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)] * (0.5 + Math.random());
        if (this.#closed || !isPassing(error) || left() < pause) throw toError(error, what);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#connecting;
    // What was published last (a lease given back) leaves first, if the server takes it at all.
    const { connection } = this.#live ?? {};
    if (this.#connected && connection)
      await Promise.race([
        connection.flush().catch(() => undefined),
        new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref()),
      ]);
    await connection?.close();
    this.emit('up'); // those who wait are told that there is none
  }
}

/** Files are read at each connection, so that a rotated secret needs no restart. */
function authenticators({ credsFile, tokenFile, user, passwordFile }: LinkOptions): Authenticator[] {
  const secret = (file: string) => readFileSync(file, 'utf8').trim();
  return [
    ...(credsFile ? [credsAuthenticator(() => readFileSync(credsFile))] : []),
    ...(tokenFile ? [tokenAuthenticator(() => secret(tokenFile))] : []),
    ...(user ? [usernamePasswordAuthenticator(user, () => (passwordFile ? secret(passwordFile) : ''))] : []),
  ];
}
