import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { youngLanes } from '#platform/young-lanes.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import { DataService } from '#proto/storage/v1/storage.ts';

/** How far behind the index may be before a read by UID answers with what it has. */
const CURRENT_MS = 5_000;

/**
 * Reads by UID show what was acknowledged, whichever process took it: they wait until the index has what the log holds. A log or an index
 * that cannot say so in time delays them and no more; what they then need of it fails by itself, with its own words.
 */
export function createCurrent(context: Context) {
  const index = context.client(IndexService);
  const storage = context.client(DataService);
  /** `byUid`: it is asked of studies by their UIDs, and no search needs to find what is new. */
  return async function current(call: Call, byUid: boolean): Promise<void> {
    const end = Date.now() + CURRENT_MS;
    const bounded = { ...call, deadline: Math.min(call.deadline ?? end, end) };
    try {
      const { positions } = await storage.heads(bounded, { since: youngLanes() });
      await index.await(bounded, { positions, limitMs: Math.max(0, end - Date.now()), byUid });
    } catch (error) {
      if (call.signal.aborted || !(error instanceof GantryError) || !LATE.has(error.code)) throw error;
    }
  };
}
const LATE: ReadonlySet<string> = new Set(['unavailable', 'deadline-exceeded', 'no-permit', 'cancelled']);
