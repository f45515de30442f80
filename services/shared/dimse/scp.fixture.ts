/** Test support: an acceptor that takes everything, and remembers how its associations ended. */
import { after } from 'node:test';
import { listen } from './acceptor.ts';
import { COMMAND } from './command.ts';
import type { CloseReason } from './errors.ts';
import { negotiate } from './negotiate.ts';
import { CT, EXPLICIT, FIND, GET, IMPLICIT, VERIFICATION } from './parrot.fixture.ts';
import type { Acceptor, Association, ConnectOptions, ListenOptions } from './types.ts';

const started: Acceptor[] = [];
// A test that fails half-way must not keep the process alive.
after(() => Promise.all(started.map((acceptor) => acceptor.close(0))));

export interface TestScp {
  acceptor: Acceptor;
  port: number;
  /** The next association that ended, in order. */
  nextClosed(): Promise<CloseReason>;
  errors: unknown[];
}

/** Answers every request with success, after reading its data set. */
export async function answerAll(association: Association): Promise<void> {
  for await (const message of association.messages()) {
    await message.data?.discard();
    await association.respond(message, { status: 0 });
  }
}

export async function startScp(
  serve: (association: Association) => Promise<void> = answerAll,
  options: Partial<ListenOptions> = {},
): Promise<TestScp> {
  const closed: CloseReason[] = [];
  const waiters: (() => void)[] = [];
  const errors: unknown[] = [];
  const acceptor = await listen({
    host: '127.0.0.1',
    port: 0,
    onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true, role: (role) => role }),
    onAssociation: serve,
    onClosed: (_, reason) => {
      closed.push(reason);
      for (const waiter of waiters.splice(0)) waiter();
    },
    onError: (error) => errors.push(error),
    ...options,
  });
  started.push(acceptor);
  return {
    acceptor,
    port: acceptor.port,
    errors,
    nextClosed: async () => {
      while (closed.length === 0) await new Promise<void>((resolve) => waiters.push(resolve));
      return closed.shift()!;
    },
  };
}

export const CONTEXTS = [VERIFICATION, CT, FIND, GET].map((abstractSyntax) => ({
  abstractSyntax,
  transferSyntaxes: [EXPLICIT, IMPLICIT],
}));

export function toScp(port: number, changes: Partial<ConnectOptions> = {}): ConnectOptions {
  return { host: '127.0.0.1', port, callingAeTitle: 'SCU', calledAeTitle: 'SCP', contexts: CONTEXTS, ...changes };
}

/** A data set of `length` bytes that no shift or loss leaves equal. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + (at >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

export const STORE = {
  commandField: COMMAND.C_STORE_RQ,
  affectedSopClassUid: CT,
  affectedSopInstanceUid: '1.2.3',
  priority: 0,
};
