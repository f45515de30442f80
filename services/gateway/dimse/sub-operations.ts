import { encodeDataSet } from '#dicom/write.ts';
import { STATUS } from '#dimse/status.ts';
import type { Incoming } from '#dimse/types.ts';
import type { Retrievable, SubOperation } from './destination.ts';
import type { Session } from './session.ts';

const COUNTER_MAX = 0xffff; // the counters are US: a study of more instances shows its last 65,535
const FAILED_LIST_MAX = 10_000; // UIDs in one final response: some 600 kB

/**
 * The counters of a C-MOVE or C-GET, and its responses (PS3.4 §C.4.2.1.6 to .8): Remaining only while pending, a pending response after
 * each sub-operation and at least every `dimse.pendingMs`, the failed UIDs in the final one.
 */
export function createSubOperations(session: Session, incoming: Incoming, total: number) {
  let remaining = total;
  let completed = 0;
  let failed = 0;
  let warning = 0;
  const failedUids: string[] = [];
  let sending: Promise<void> = Promise.resolve();
  let waiting = 0; // pending responses that the caller has not taken yet
  const clamp = (n: number): number => Math.min(n, COUNTER_MAX);
  const counters = () => ({
    completedSubOperations: clamp(completed),
    failedSubOperations: clamp(failed),
    warningSubOperations: clamp(warning),
  });

  const pending = (): Promise<void> => {
    timer.refresh();
    waiting++;
    sending = session.association
      .respond(incoming, { status: STATUS.PENDING, remainingSubOperations: clamp(remaining), ...counters() })
      .finally(() => waiting--);
    return sending;
  };
  // A slow destination: the caller hears of us all the same. A lost association ends the operation by its signal, not here.
  // While one waits behind a large instance on the same association (C-GET), another would say nothing new.
  const timer = setInterval(
    () => void (waiting === 0 && pending().catch(() => clearInterval(timer))),
    session.door.context.settings.number('dimse.pendingMs'),
  );

  return {
    async done(instance: Retrievable, result: SubOperation): Promise<void> {
      remaining--;
      if (result.outcome === 'completed') completed++;
      else if (result.outcome === 'warning') warning++;
      else {
        failed++;
        if (failedUids.length < FAILED_LIST_MAX) failedUids.push(instance.sopInstanceUid);
        session.door.context.log.info(
          { associationId: session.call.requestId, sopInstanceUid: instance.sopInstanceUid, reason: result.reason },
          'sub-operation failed',
        );
      }
      if (remaining > 0) await pending();
    },

    /** What was not begun has failed, by name: the caller may ask for it again, of another process. */
    giveUp(instances: readonly Retrievable[], reason: string): void {
      const left = instances.slice(instances.length - remaining);
      if (left.length === 0) return;
      failed += left.length;
      remaining = 0;
      for (const { sopInstanceUid } of left.slice(0, FAILED_LIST_MAX - failedUids.length))
        failedUids.push(sopInstanceUid);
      session.door.context.log.info(
        { associationId: session.call.requestId, instances: left.length, reason },
        'sub-operations were given up',
      );
    },

    /** The final response. What is left was cancelled: nothing else ends an operation early. */
    async finish(): Promise<number> {
      clearInterval(timer);
      await sending.catch(() => undefined); // the association's end was told elsewhere
      const cancelled = remaining > 0;
      const final = cancelled
        ? STATUS.CANCEL
        : failed === 0 && warning === 0
          ? STATUS.SUCCESS
          : completed + warning === 0
            ? STATUS.UNABLE_TO_PERFORM_SUBOPERATIONS
            : STATUS.COERCION;
      const identifier =
        failedUids.length === 0
          ? undefined
          : encodeDataSet(
              { '00080058': { vr: 'UI', Value: failedUids } },
              { transferSyntaxUid: incoming.transferSyntax },
            );
      await session.association.respond(
        incoming,
        {
          status: final,
          ...(cancelled ? { remainingSubOperations: clamp(remaining) } : {}),
          ...counters(),
        },
        identifier,
      );
      return final;
    },
    stop: () => clearInterval(timer),
  };
}

export type SubOperations = ReturnType<typeof createSubOperations>;
