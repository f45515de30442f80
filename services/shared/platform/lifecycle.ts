import type { Logger } from 'pino';
import { GantryError } from './errors.ts';
import type { Context, Module, Running } from './module.ts';
import type { Services } from './rpc.ts';

/** What every module shares; `log` and `readiness` are made for each. */
export type Shared = Omit<
  Context,
  'log' | 'client' | 'everywhere' | 'bulk' | 'serve' | 'serveBulk' | 'ready' | 'readiness' | 'health'
> & { log: Logger; services: Services };

export interface Check {
  module: string;
  check: () => { ready: boolean; detail: string };
}

export interface Started {
  /** The context of the process itself, as a module would see it. */
  context: Context;
  /** Not ready any more; nothing new; what is in flight may finish until the signal aborts. */
  drain(signal: AbortSignal): Promise<void>;
  /** Modules in reverse order. Says which did not stop properly. */
  stop(): Promise<void>;
}

/** A check that fails says as much: /readyz is asked most when something is wrong. */
function ask({ module, check }: Check): { module: string; ready: boolean; detail: string } {
  try {
    return { module, ...check() };
  } catch {
    return { module, ready: false, detail: 'its own check failed' };
  }
}

/** Doors to other processes. */
export interface Opened {
  /** Nothing new that bytes travel with; other processes take it. */
  drainBulk(signal: AbortSignal): Promise<void>;
  drainGrpc(signal: AbortSignal): Promise<void>;
}

/**
 * `opened` runs when all modules have started and before the process is ready: the doors between processes. `first` runs before any does:
 * what is asked while they start.
 */
export async function startAll(
  modules: readonly Module[],
  shared: Shared,
  opened: (context: Context) => Promise<Opened | undefined> = async () => undefined,
  ownChecks: readonly Check[] = [],
  first: (context: Context) => Promise<void> = async () => undefined,
): Promise<Started> {
  const { services, log } = shared;
  const checks: Check[] = [...ownChecks];
  const running: { name: string; running: Running }[] = [];
  let internal: Opened | undefined;
  let state: 'starting' | 'ready' | 'draining' = 'starting';

  const contextOf = (name: string): Context => ({
    ...shared,
    log: name === '' ? log : log.child({ module: name }),
    client: (service) => services.client(service),
    everywhere: (service) => services.everywhere(service),
    bulk: (route) => services.bulk(route),
    serve: (service, handlers) => services.serve(service, handlers),
    serveBulk: (route, handler) => services.serveBulk(route, handler),
    ready: () => state === 'ready',
    readiness: (check) => void checks.push({ module: name, check }),
    health: () => [{ module: 'process', ready: state === 'ready', detail: state }, ...checks.map(ask)],
  });

  const stop = async () => {
    state = 'draining';
    const failures: unknown[] = [];
    while (running.length > 0) {
      const { name, running: one } = running.pop()!;
      try {
        await one.stop();
      } catch (error) {
        log.error({ err: error, module: name }, 'a module did not stop properly');
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'not every module stopped properly');
  };

  try {
    await first(contextOf(''));
    for (const module of modules) {
      const began = performance.now();
      running.push({ name: module.name, running: await module.start(contextOf(module.name)) });
      log.debug({ module: module.name, milliseconds: Math.round(performance.now() - began) }, 'started');
    }
    services.seal();
    internal = await opened(contextOf(''));
  } catch (error) {
    await stop().catch(() => undefined); // each failure was logged; the one that counts is why the start failed
    throw error;
  }
  state = 'ready';

  return {
    context: contextOf(''),
    stop,
    async drain(signal) {
      state = 'draining';
      // All at once: associations and requests hang together, and each has the same time.
      const bytes = internal?.drainBulk(signal);
      await Promise.all(
        running.map(async ({ name, running: one }) => {
          try {
            await bounded(one.drain?.(signal), signal);
          } catch (error) {
            log.warn({ err: error, module: name }, 'a module did not finish what was in flight');
          }
        }),
      );
      await bytes;
      // Last: while associations go on, others may ask about them.
      await internal?.drainGrpc(signal);
    },
  };
}

function bounded(work: Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  if (!work) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const late = () => reject(new GantryError('deadline-exceeded', 'the time to drain is over'));
    if (signal.aborted) late();
    signal.addEventListener('abort', late, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', late));
  });
}
