import { STATUS } from '#dimse/status.ts';
import type { Association, Incoming } from '#dimse/types.ts';
import {
  batches,
  chooseContext,
  contextsFor,
  dial,
  type Retrievable,
  type SubOperation,
  sendOne,
} from './destination.ts';
import { peerOf } from './policy.ts';
import { retrieve } from './retrieve.ts';
import type { Handler, Session } from './session.ts';
import type { SubOperations } from './sub-operations.ts';

type Destination = NonNullable<ReturnType<typeof destinationOf>>;

/** Associations in a row that broke before an instance got through: then the destination is given up. */
const BARREN_MAX = 2;

/** C-MOVE (PS3.4 §C.4.2): to configured peers, and to ourselves. */
export const move: Handler = (session, incoming) => {
  const title = incoming.command.moveDestination ?? '';
  const destination = destinationOf(session, title);
  const errorComment = 'the move destination is no configured peer with a host';
  return retrieve(session, incoming, {
    useCase: 'dimse.c-move',
    refusal: destination === undefined ? { status: STATUS.MOVE_DESTINATION_UNKNOWN, errorComment } : undefined,
    renditionPreference: destination?.renditionPreference ?? [],
    detail: { destination: title },
    async send(instances, operations) {
      for (const batch of batches(instances, destination!.transferSyntaxes)) {
        if (incoming.cancelSignal.aborted || session.door.ending.aborted) return;
        await moveBatch(session, incoming, destination!, batch, operations);
      }
    },
  });
};

function destinationOf(session: Session, aeTitle: string) {
  const { settings } = session.door.context;
  const peer = peerOf(settings, aeTitle);
  if (peer !== undefined && peer.host !== '') return peer;
  if (aeTitle !== settings.string('dimse.aeTitle')) return undefined;
  // To ourselves, by an address that we listen on.
  return {
    aeTitle,
    host: session.door.ownHost,
    port: session.door.port(),
    transferSyntaxes: [],
    renditionPreference: [],
    pduLengthMax: 0,
    connectTimeoutMs: 10_000,
    responseTimeoutMs: 60_000,
  };
}

/**
 * One association's worth. An association that breaks costs the instance it broke over, and the next one goes on a new association;
 * a destination that cannot be reached, or breaks time and again, costs all that are left, each by name.
 */
async function moveBatch(
  session: Session,
  incoming: Incoming,
  destination: Destination,
  batch: Retrievable[],
  operations: SubOperations,
): Promise<void> {
  const { door, call } = session;
  const { settings } = door.context;
  const kept = batch.flatMap((instance) => instance.kept);
  const contexts = contextsFor(kept, destination.transferSyntaxes);
  let association: Association | undefined;
  let barren = 0;
  let givenUp = contexts.length === 0 ? "none of the peer's configured transfer syntaxes fits" : undefined;

  const sendTo = async (instance: Retrievable): Promise<SubOperation> => {
    if (givenUp !== undefined) return { outcome: 'failed', reason: givenUp };
    if (association === undefined || association.signal.aborted) {
      try {
        association = await dial(settings, destination, contexts, call.signal);
      } catch (error) {
        givenUp = `no association with the destination: ${words(error)}`;
        return { outcome: 'failed', reason: givenUp };
      }
    }
    try {
      const chosen = chooseContext(association.contexts.values(), instance);
      const result = await sendOne(association, door.reader, call, chosen, {
        moveOriginatorAeTitle: session.association.callingAeTitle,
        moveOriginatorMessageId: incoming.command.messageId,
        responseTimeoutMs: destination.responseTimeoutMs,
      });
      barren = 0;
      return result;
    } catch (error) {
      const reason = `the association with the destination broke: ${words(error)}`;
      association.abort();
      if (++barren >= BARREN_MAX) givenUp = reason;
      return { outcome: 'failed', reason };
    }
  };

  try {
    for (const instance of batch) {
      if (incoming.cancelSignal.aborted || door.ending.aborted) break;
      await operations.done(instance, await sendTo(instance));
    }
    await association?.release();
  } finally {
    association?.abort(); // harmless when it was released; needed when the caller is gone
  }
}

const words = (error: unknown): string => (error instanceof Error ? error.message : 'failed');
