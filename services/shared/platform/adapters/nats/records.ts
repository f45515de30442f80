import { AckPolicy, DeliverPolicy, DiscardPolicy, type JsMsg, RetentionPolicy, StorageType } from '@nats-io/jetstream';
import { headers, nanos } from '@nats-io/transport-node';
import { ulid } from 'ulid';
import { GantryError } from '../../errors.ts';
import {
  CONFIGURED_OTHERWISE,
  isApiError,
  isNobodyThere,
  isWrongSequence,
  STREAM_NOT_FOUND,
  toError,
} from './errors.ts';
import type { Live, NatsLink } from './link.ts';

export interface StoredRecord {
  subject: string;
  /** Of the stream: what compare-and-set compares. */
  sequence: number;
  /** Removed: kept for a while, so that those who watch hear of it. */
  gone: boolean;
  header: (name: string) => string;
  body: Buffer;
}

export interface RecordsOptions {
  stream: string;
  /** Of all its records; `<root>.>` is what the stream takes. */
  root: string;
  bytesMax: () => number;
}

export interface Watcher {
  /** Everything is told from the beginning now, what is gone is not among it. */
  begin(): void;
  record(record: StoredRecord): void;
  /** What was there at the beginning has been told. */
  caughtUp(): void;
}

/** The marker of a key-value bucket (ADR-8), so that `nats kv` reads these streams too. */
const OPERATION = 'KV-Operation';
const MESSAGE_ID = 'Nats-Msg-Id';
/** Those who watch and were away for longer read everything again anyway. */
const GONE_FOR = '60s';
const DUPLICATES_MS = 120_000;
const REPLICAS_MAX = 3;
const SERVERS_FOR_REPLICAS = 3;
/** Headers and subject of a record, of the server's `max_payload` and of JetStream's overhead. */
const ENVELOPE = 8 * 1024;
const RESYNC_MS = 300_000;
const HEARTBEAT_MS = 2_000;
const WATCH_RETRY_MS = 500;
const BATCH = 500;
const LOOK_MS = 500;

/** A stream that keeps the last message of each subject: records with compare-and-set, listing and watching. */
export class Records {
  readonly link: NatsLink;
  readonly options: RecordsOptions;
  #made: { live: Live; done: Promise<void> } | undefined;

  constructor(link: NatsLink, options: RecordsOptions) {
    this.link = link;
    this.options = options;
  }

  /** The longest body that this server takes; unknown while there is none. */
  get bodyMax(): number {
    return (this.link.connection?.info?.max_payload ?? 1024 * 1024) - ENVELOPE;
  }

  /** The stream is made when it is needed first, and again should it be gone. */
  async #use<T>(what: string, work: (live: Live) => Promise<T>, limitMs?: number): Promise<T> {
    return this.link.use(
      what,
      async (live) => {
        if (this.#made?.live !== live) this.#made = { live, done: this.#make(live) };
        const { done } = this.#made;
        try {
          await done;
          return await work(live);
        } catch (error) {
          // A server that lost its data says so to who reads; to who writes nobody answers.
          const lost = isApiError(error, STREAM_NOT_FOUND) || isNobodyThere(error);
          if (lost && this.#made?.done === done) this.#made = undefined;
          else await done.catch(() => (this.#made = undefined));
          throw error;
        }
      },
      limitMs,
    );
  }

  async #make({ connection, jsm }: Live): Promise<void> {
    const { stream, root, bytesMax } = this.options;
    const { servers, replicas } = this.link.options;
    const known = Math.max(servers.length, connection.info?.connect_urls?.length ?? 0);
    const config = {
      name: stream,
      subjects: [`${root}.>`],
      storage: StorageType.File,
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.New,
      max_msgs_per_subject: 1,
      max_bytes: bytesMax(),
      num_replicas: replicas || (known >= SERVERS_FOR_REPLICAS ? REPLICAS_MAX : 1),
      duplicate_window: nanos(DUPLICATES_MS),
      allow_rollup_hdrs: true,
      allow_msg_ttl: true,
      allow_direct: false, // a replica that is behind must not answer a question
    };
    try {
      await jsm.streams.add(config);
    } catch (error) {
      if (!isApiError(error, CONFIGURED_OTHERWISE)) throw error;
      const { config: present } = await jsm.streams.info(stream);
      // What nobody asked for is never lowered: a process that sees one server only must not take replicas away.
      const num_replicas = replicas || Math.max(present.num_replicas, config.num_replicas);
      await jsm.streams.update(stream, { ...config, num_replicas });
    }
  }

  /** Size of the stream as its leader sees it; `messages` counts what is gone and not forgotten yet too. */
  async size(): Promise<{ messages: number; bytes: number; bytesMax: number }> {
    const { state, config } = await this.#use('asking for the size', ({ jsm }) =>
      jsm.streams.info(this.options.stream),
    );
    return { messages: state.messages, bytes: state.bytes, bytesMax: config.max_bytes };
  }

  /** Asks the leader: what was answered before is seen. */
  async read(subject: string, limitMs?: number): Promise<StoredRecord | undefined> {
    const message = await this.#use(
      'reading',
      ({ jsm }) => jsm.streams.getMessage(this.options.stream, { last_by_subj: subject }),
      limitMs,
    );
    if (message === null) return undefined;
    const { header } = message;
    return {
      subject: message.subject,
      sequence: message.seq,
      gone: isGone(header?.get(OPERATION)),
      header: (name) => header?.get(name) ?? '',
      body: Buffer.from(message.data),
    };
  }

  /**
   * `expected`: the sequence that the subject must have, 0 for none. A write whose answer was lost is asked again under the same id:
   * the server knows it, and where it has forgotten, what is there says whose it is.
   */
  async write(
    subject: string,
    record: { header?: Record<string, string>; body?: Uint8Array; gone?: boolean },
    { expected, limitMs }: { expected?: number; limitMs?: number } = {},
  ): Promise<number> {
    const id = ulid();
    const fields = headers();
    for (const [name, value] of Object.entries(record.header ?? {})) fields.set(name, value);
    if (record.gone) fields.set(OPERATION, 'DEL');
    const body = record.body ?? new Uint8Array();
    if (body.length > this.bodyMax)
      throw new GantryError('too-large', `${body.length} bytes are more than this NATS takes (max_payload)`);
    let tries = 0;
    const once = async ({ js }: Live): Promise<number> => {
      tries++;
      const { seq } = await js.publish(subject, body, {
        msgID: id,
        headers: fields,
        ...(expected === undefined ? {} : { expect: { lastSubjectSequence: expected } }),
        ...(record.gone ? { ttl: GONE_FOR } : {}),
      });
      return seq;
    };
    return this.#use(
      'writing',
      async (live) => {
        try {
          return await once(live);
        } catch (error) {
          if (!isWrongSequence(error) || tries === 1) throw error;
          const present = await this.read(subject);
          if (present?.header(MESSAGE_ID) !== id) throw error;
          return present.sequence;
        }
      },
      limitMs,
    );
  }

  remove(subject: string, expected: number, limitMs?: number): Promise<number> {
    return this.write(subject, { gone: true }, { expected, limitMs });
  }

  /**
   * Every record below `filter`, as new as the leader's at the time of asking: the consumer may live on a replica that is a moment
   * behind, so it is read until the leader's last one came by.
   */
  async list(filter: string, { bodies }: { bodies: boolean }): Promise<StoredRecord[]> {
    return this.#use('listing', async (live) => {
      const found = new Map<string, StoredRecord>();
      const last = async () =>
        (await live.jsm.streams.getMessage(this.options.stream, { last_by_subj: filter }))?.seq ?? 0;
      let target = await last();
      if (target === 0) return [];
      let newest = 0;
      const reading = await this.#consume(live, filter, bodies);
      // The last one may be forgotten (its time is over) while a replica has yet to see it: then the leader names an older one.
      let enough = false;
      const look = setInterval(async () => {
        target = await last().catch(() => target);
        if (newest < target) return;
        enough = true;
        reading.stop();
      }, LOOK_MS);
      try {
        for await (const { record, pending } of reading.records()) {
          found.set(record.subject, record);
          newest = Math.max(newest, record.sequence);
          if (pending === 0 && newest >= target) break;
        }
      } catch (error) {
        if (!enough) throw error;
      } finally {
        clearInterval(look);
        await reading.close();
      }
      return [...found.values()].filter((record) => !record.gone);
    });
  }

  async #consume(live: Live, filter: string, bodies: boolean) {
    const { stream } = this.options;
    const info = await live.jsm.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.All,
      filter_subject: filter,
      headers_only: !bodies,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: nanos(30_000),
    });
    const consumer = await live.js.consumers.get(stream, info.name);
    const messages = await consumer.consume({ max_messages: BATCH, expires: 10_000, idle_heartbeat: HEARTBEAT_MS });
    const watched = (async () => {
      for await (const status of messages.status())
        if (['heartbeats_missed', 'consumer_not_found', 'consumer_deleted', 'stream_not_found'].includes(status.type))
          messages.stop(toError(new Error(status.type), 'following'));
    })();
    watched.catch(() => undefined); // the messages' own end says why
    async function* records(): AsyncGenerator<{ record: StoredRecord; pending: number }> {
      let next = 1;
      for await (const message of messages) {
        // Nothing is acknowledged, so what is lost on the way would never be sent again: a gap is told.
        if (message.info.deliverySequence !== next++) throw new GantryError('unavailable', 'records were missed');
        yield { record: recordOf(message), pending: message.info.pending };
      }
      throw new GantryError('unavailable', 'NATS stopped telling');
    }
    return {
      pending: info.num_pending,
      records,
      stop: (error?: Error) => messages.stop(error),
      async close() {
        messages.stop();
        await consumer.delete().catch(() => undefined); // it ends by itself when nobody asks
      },
    };
  }

  /** Tells what is there and what changes, for ever: from the beginning again after any doubt. Returns what ends it. */
  watch(filter: string, watcher: Watcher, log: (error: unknown) => void): () => Promise<void> {
    const stopped = new AbortController();
    let stop: ((error?: Error) => void) | undefined;
    const restart = () => stop?.();
    const follow = async (live: Live) => {
      const reading = await this.#consume(live, filter, false);
      stop = reading.stop;
      const resync = setTimeout(restart, RESYNC_MS);
      try {
        watcher.begin();
        let caughtUp = reading.pending === 0;
        if (caughtUp) watcher.caughtUp();
        if (stopped.signal.aborted) return;
        for await (const { record, pending } of reading.records()) {
          watcher.record(record);
          if (pending === 0 && !caughtUp) {
            caughtUp = true;
            watcher.caughtUp();
          }
        }
      } finally {
        stop = undefined;
        clearTimeout(resync);
        await reading.close();
      }
    };
    const running = (async () => {
      while (!stopped.signal.aborted) {
        try {
          const live = await this.link.whenUp(HEARTBEAT_MS, stopped.signal);
          await this.#use('making the stream', async () => undefined);
          await follow(live);
        } catch (error) {
          if (stopped.signal.aborted) break;
          if (this.link.connected) log(error);
          await pause(WATCH_RETRY_MS, stopped.signal);
        }
      }
    })();
    this.link.on('down', restart);
    return async () => {
      stopped.abort();
      this.link.off('down', restart);
      stop?.();
      await running;
    };
  }
}

const isGone = (operation: string | undefined): boolean => operation === 'DEL' || operation === 'PURGE';

function recordOf(message: JsMsg): StoredRecord {
  return {
    subject: message.subject,
    sequence: message.seq,
    // A server that forgets a record by its age says so with a marker of its own.
    gone: isGone(message.headers?.get(OPERATION)) || (message.headers?.has('Nats-Marker-Reason') ?? false),
    header: (name) => message.headers?.get(name) ?? '',
    body: Buffer.from(message.data),
  };
}

/** Ends early when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  });
}
