import type { Subscription } from '@nats-io/transport-node';
import type { Logger } from 'pino';
import { ulid } from 'ulid';
import { GantryError } from '../../errors.ts';
import type { Lease } from '../../ports.ts';
import { localLease } from '../local/lease.ts';
import { token } from './names.ts';
import { pause, type Records } from './records.ts';

const HOLDER = 'Gantry-Holder';
const RENEWALS = 4;
/** Of the lease: so long before another may have it the holder is told, for clocks that run at different speeds and work that must end. */
const MARGIN = 0.2;
const LOOKS = 5;
const AFTER_MINE_MS = 30;

/**
 * One record a name. Its holder writes it anew before its time is over; whoever has seen it unchanged for the whole time, by a clock of
 * his own, may take it. No two clocks are compared: the holder counts from before it wrote, the others from after they read, so the
 * holder's time is always over first.
 */
export function natsLease(records: Records, leaseMs: () => number, log: Logger): Lease & { close(): void } {
  const { link, options } = records;
  const turns = localLease();
  const waiters = new Set<() => void>();
  const freed = `${link.options.prefix}.freed`;
  let subscription: Subscription | undefined;
  const listen = () => {
    if (subscription?.isClosed() === false) return;
    subscription = link.connection?.subscribe(freed, {
      callback: () => {
        for (const wake of waiters) wake();
      },
    });
  };
  link.on('up', listen);
  listen();

  /** Ends at the next sign that a lease is free, or after a while. */
  const untilFreed = async (ms: number, signal: AbortSignal): Promise<void> => {
    const woken = new AbortController();
    const wake = () => woken.abort();
    waiters.add(wake);
    await pause(ms, AbortSignal.any([signal, woken.signal]));
    waiters.delete(wake);
  };

  /** Resolves with the sequence and when it was asked for. */
  async function acquire(subject: string, holder: string, signal: AbortSignal) {
    let seen = { sequence: -1, since: 0 };
    for (;;) {
      signal.throwIfAborted();
      const ms = leaseMs();
      try {
        const record = await records.read(subject, ms);
        const now = performance.now();
        // A claim of ours whose answer was lost is written anew, so that its time is known.
        const free = !record || record.gone || record.header(HOLDER) === holder;
        if (record && record.sequence !== seen.sequence) seen = { sequence: record.sequence, since: now };
        if (free || now - seen.since >= ms) {
          signal.throwIfAborted();
          const asked = performance.now();
          const expected = record?.sequence ?? 0;
          const sequence = await records.write(subject, { header: { [HOLDER]: holder } }, { expected, limitMs: ms });
          return { sequence, asked };
        }
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof GantryError) || !['unavailable', 'conflict'].includes(error.code)) throw error;
        // NATS is gone, or somebody was faster: waited for, like any other holder.
      }
      await untilFreed(ms / LOOKS, signal);
    }
  }

  async function run(
    subject: string,
    { sequence, asked }: { sequence: number; asked: number },
    holder: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const lost = new AbortController();
    const over = new AbortController();
    let end: NodeJS.Timeout | undefined;
    const lose = (why: string) => {
      if (over.signal.aborted || lost.signal.aborted) return;
      log.warn('a lease was lost while its work ran: the work is told to end');
      lost.abort(new GantryError('unavailable', why));
    };
    const until = (from: number) => {
      clearTimeout(end);
      const left = from + leaseMs() * (1 - MARGIN) - performance.now();
      end = setTimeout(() => lose('the lease could not be renewed in time'), Math.max(0, left));
    };
    until(asked);
    const renewing = (async () => {
      const done = AbortSignal.any([over.signal, lost.signal]);
      for (;;) {
        await pause(leaseMs() / RENEWALS, done);
        if (done.aborted) return;
        const from = performance.now();
        try {
          const limitMs = leaseMs() / RENEWALS;
          sequence = await records.write(subject, { header: { [HOLDER]: holder } }, { expected: sequence, limitMs });
          until(from);
        } catch (error) {
          if (!(error instanceof GantryError) || error.code !== 'conflict') continue; // the timer runs on
          const present = await records.read(subject, leaseMs() / RENEWALS).catch(() => undefined);
          // A renewal whose answer was lost did happen; its time counts from the next one.
          if (present?.header(HOLDER) === holder) sequence = present.sequence;
          else if (present) lose('the lease was taken by another process');
        }
      }
    })();
    try {
      await work(AbortSignal.any([signal, lost.signal]));
    } finally {
      over.abort();
      clearTimeout(end);
      await renewing;
      await giveBack(subject, sequence);
    }
  }

  async function giveBack(subject: string, sequence: number): Promise<void> {
    try {
      await records.remove(subject, sequence, leaseMs());
      link.connection?.publish(freed);
    } catch {
      // It is another's already, or NATS is gone: then its time runs out.
    }
  }

  return {
    hold: (name, signal, work) =>
      // In this process those who wait stand in line; only the first of them competes with other processes.
      turns.hold(name, signal, async () => {
        const subject = `${options.root}.${token(name)}`;
        const holder = ulid();
        await run(subject, await acquire(subject, holder, signal), holder, signal, work);
        // Other processes heard that it is free later than the next in our own line would ask.
        await pause(AFTER_MINE_MS, signal);
      }),
    close() {
      link.off('up', listen);
      subscription?.unsubscribe();
    },
  };
}
