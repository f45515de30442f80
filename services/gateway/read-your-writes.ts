import type { Call } from '#platform/call.ts';
import type { Context } from '#platform/module.ts';
import { Written } from '#proto/gateway/v1/gateway.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import type { Position } from '#proto/storage/v1/log.ts';

const WRITERS_MAX = 10_000; // senders remembered, the most recent ones; forgetting one costs it a wait that nobody promised it
const LANES_MAX = 16; // a sender's lanes: a handful, more after restarts
const WAIT_MS = 5000;
/** Which doors of other processes are told who wrote what: the next question may come to any of them. */
const SUBJECT = 'door.written';

/** Who wrote what last, so that a sender's own queries wait for its own instances, whichever door they come to. */
export function createReadYourWrites(context: Context) {
  const index = context.client(IndexService);
  const writers = new Map<string, Map<string, number>>();
  /** Not told yet: what was noted in one turn of the loop travels together. */
  const untold = new Map<string, { tenant: string; writer: string; position: Position }>();

  function remember(tenant: string, writer: string, position: Position): void {
    const key = `${tenant}/${writer}`;
    const lanes = writers.get(key) ?? new Map<string, number>();
    lanes.set(position.lane, Math.max(position.sequence, lanes.get(position.lane) ?? 0));
    if (lanes.size > LANES_MAX) lanes.delete(lanes.keys().next().value!);
    writers.delete(key); // to the end: the map is in order of use
    writers.set(key, lanes);
    if (writers.size > WRITERS_MAX) writers.delete(writers.keys().next().value!);
  }

  // Best effort, as every wake is: a lost one costs a sender that asks another process a row that is not there yet.
  const unsubscribe = context.wake.subscribe(SUBJECT, (tenant, payload) => {
    try {
      const { writer, position } = Written.decode(payload);
      if (position !== undefined) remember(tenant, writer, position);
    } catch {
      // Of another version: nothing is lost but the wait.
    }
  });
  function tell(): void {
    for (const { tenant, writer, position } of untold.values())
      context.wake.publish(SUBJECT, tenant, Buffer.from(Written.encode({ writer, position }).finish()));
    untold.clear();
  }

  return {
    note(tenant: string, writer: string, position: Position): void {
      remember(tenant, writer, position);
      if (untold.size === 0) setImmediate(tell);
      untold.set(`${tenant}/${writer}/${position.lane}`, { tenant, writer, position });
    },

    /** Waits until this writer's positions are folded. A lagging index delays a query by at most WAIT_MS, and says so in its lag. */
    async settle(call: Call, writer: string): Promise<void> {
      const key = `${call.tenant}/${writer}`;
      const lanes = writers.get(key);
      if (lanes === undefined) return;
      const positions = [...lanes].map(([lane, sequence]) => ({ lane, sequence }));
      const { reached } = await index.await(call, { positions, limitMs: WAIT_MS });
      // Only what was waited for is forgotten: more may have been written meanwhile.
      if (
        reached &&
        writers.get(key) === lanes &&
        positions.every(({ lane, sequence }) => lanes.get(lane) === sequence)
      )
        writers.delete(key);
    },

    stop: unsubscribe,
  };
}
export type ReadYourWrites = ReturnType<typeof createReadYourWrites>;
