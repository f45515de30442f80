import type { Subscription } from '@nats-io/transport-node';
import type { Logger } from 'pino';
import type { Wake } from '../../ports.ts';
import { localWake } from '../local/wake.ts';
import type { NatsLink } from './link.ts';

/**
 * Wakes that may be under way to a server that does not read: beyond it they are dropped until it answers. 10,000 are a few seconds of
 * a busy archive and 2 MB, and the followers' own polls find what a lost wake would have told.
 */
export const WAKES_UNDER_WAY_MAX = 10_000;
const FLUSH_EACH = 500;

/**
 * Core NATS, at most once. Subscribers in this process are woken without it (the connection has no echo), so one process that is cut off
 * still follows itself.
 */
export function natsWake(link: NatsLink, log: Logger): Wake & { dropped(): number; close(): void } {
  const local = localWake(log);
  const root = `${link.options.prefix}.wake`;
  const remote = new Map<string, { count: number; subscription?: Subscription }>();
  let underWay = 0;
  let flushing = false;
  let dropped = 0;

  const subscribe = (subject: string) => {
    const entry = remote.get(subject);
    const { connection } = link;
    if (!entry || !connection || entry.subscription?.isClosed() === false) return;
    entry.subscription = connection.subscribe(`${root}.${subject}`, {
      callback(error, message) {
        const unpacked = error ? undefined : unpack(Buffer.from(message.data));
        if (unpacked) local.publish(subject, unpacked.tenant, unpacked.payload);
      },
    });
  };
  // The library renews subscriptions of a connection that comes back, but a connection may also be a new one.
  const resubscribe = () => {
    underWay = 0;
    for (const subject of remote.keys()) subscribe(subject);
  };
  link.on('up', resubscribe);

  const flush = async (): Promise<void> => {
    flushing = true;
    const sent = underWay;
    try {
      await link.connection?.flush();
      underWay = Math.max(0, underWay - sent);
    } catch {
      // The connection ended, and with it what was under way.
      underWay = 0;
    } finally {
      flushing = false;
    }
  };

  return {
    publish(subject, tenant, payload) {
      local.publish(subject, tenant, payload);
      const { connection } = link;
      if (!connection || underWay >= WAKES_UNDER_WAY_MAX) {
        dropped++;
        return;
      }
      try {
        connection.publish(`${root}.${subject}`, pack(tenant, payload));
        if (++underWay % FLUSH_EACH === 0 && !flushing) void flush();
      } catch {
        dropped++; // it was closed this very moment; best effort (ports.ts)
      }
    },
    subscribe(subject, listener) {
      const leave = local.subscribe(subject, listener);
      const entry = remote.get(subject) ?? { count: 0 };
      entry.count++;
      remote.set(subject, entry);
      subscribe(subject);
      let left = false;
      return () => {
        if (left) return;
        left = true;
        leave();
        if (--entry.count > 0) return;
        remote.delete(subject);
        entry.subscription?.unsubscribe();
      };
    },
    dropped: () => dropped,
    close: () => void link.off('up', resubscribe),
  };
}

function pack(tenant: string, payload: Buffer): Buffer {
  const name = Buffer.from(tenant);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(name.length);
  return Buffer.concat([length, name, payload]);
}

/** Undefined: not one of ours. */
function unpack(bytes: Buffer): { tenant: string; payload: Buffer } | undefined {
  if (bytes.length < 2) return undefined;
  const end = 2 + bytes.readUInt16BE();
  return end > bytes.length ? undefined : { tenant: bytes.toString('utf8', 2, end), payload: bytes.subarray(end) };
}
