import type { Logger } from 'pino';
import type { Wake } from '../../ports.ts';

/** Wake in one process. Delivery is never inside `publish`: a publisher must not run, or fail by, its subscribers. */
export function localWake(log: Logger): Wake {
  const listeners = new Map<string, Set<(tenant: string, payload: Buffer) => void>>();
  return {
    publish(subject, tenant, payload) {
      if (!listeners.get(subject)?.size) return;
      setImmediate(() => {
        for (const listener of [...(listeners.get(subject) ?? [])]) {
          try {
            listener(tenant, payload);
          } catch (error) {
            log.error({ err: error, subject }, 'a listener of a wake failed');
          }
        }
      });
    },
    subscribe(subject, listener) {
      // Wrapped, so that one function subscribed twice is two subscriptions.
      const own = (tenant: string, payload: Buffer) => listener(tenant, payload);
      let set = listeners.get(subject);
      if (!set) listeners.set(subject, (set = new Set()));
      set.add(own);
      return () => void listeners.get(subject)?.delete(own);
    },
  };
}
