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
  async function wait(call: Call, byUid: boolean): Promise<void> {
    const end = Date.now() + CURRENT_MS;
    const bounded = { ...call, deadline: Math.min(call.deadline ?? end, end) };
    try {
      const { positions } = await storage.heads(bounded, { since: youngLanes() });
      await index.await(bounded, { positions, limitMs: Math.max(0, end - Date.now()), byUid });
    } catch (error) {
      if (call.signal.aborted || !(error instanceof GantryError) || !LATE.has(error.code)) throw error;
    }
  }

  /**
   * The answer to a question that is asked once everything is there. `byUid`: it names studies by their UIDs, and no search needs to find
   * what is new. `isWhole`: of an answer to a question for instances, that it has them all; then nothing is waited for.
   */
  return async function current<Answer>(
    call: Call,
    ask: () => Promise<Answer>,
    { byUid, isWhole }: { byUid: boolean; isWhole: ((answer: Answer) => boolean) | undefined },
  ): Promise<Answer> {
    if (isWhole !== undefined) {
      const answer = await ask();
      if (isWhole(answer)) return answer;
    }
    await wait(call, byUid);
    return ask();
  };
}
const LATE: ReadonlySet<string> = new Set(['unavailable', 'deadline-exceeded', 'no-permit', 'cancelled']);
