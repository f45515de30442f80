import { setTimeout as pause } from 'node:timers/promises';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import type { Position } from '#proto/storage/v1/log.ts';
import type { Archive } from '../ports.ts';

/** An index that is this far behind is being built, or its lane has stopped: the next run of the keeper asks again. */
const FOLDED_WITHIN_MS = 60_000;
/** Below the default limit of a call (platform.rpcTimeoutMs) and what the index waits at most (index.awaitMaxMs). */
const ASK_MS = 10_000;
const ASK_AGAIN_MS = 100;

export async function isFolded(context: Context, call: Call, positions: Position[]): Promise<boolean> {
  const index = context.client(IndexService);
  const giveUpAt = performance.now() + FOLDED_WITHIN_MS;
  while (performance.now() < giveUpAt && !call.signal.aborted) {
    if ((await index.await(call, { positions, limitMs: ASK_MS })).reached) return true;
    await pause(ASK_AGAIN_MS);
  }
  return false;
}

export async function needFolded(context: Context, call: Call, positions: Position[]): Promise<void> {
  if (!(await isFolded(context, call, positions)))
    throw new GantryError('unavailable', 'the index has not folded the log that far: nothing is packed or removed');
}

/**
 * What the keeper asks of the index holds only if the index knows the whole log: an entry that it has not folded may rest on the bytes
 * that it calls free, and an earlier `dropped` that it has not folded would let it name the last copy as spare.
 */
export async function needWholeLog(context: Context, archive: Archive, call: Call): Promise<void> {
  const { unreadableLane } = archive.log.incomplete(call.tenant);
  if (unreadableLane !== undefined)
    throw new GantryError('unavailable', `lane ${unreadableLane} cannot be read: nothing is packed or removed`);
  await needFolded(context, call, await archive.log.heads(call.tenant));
}
