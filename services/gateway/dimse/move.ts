import { STATUS } from '#dimse/status.ts';
import type { Association, Incoming } from '#dimse/types.ts';
import { GantryError } from '#platform/errors.ts';
import type { Located } from '#proto/index/v1/index.ts';
import { batches, chooseContext, contextsFor, dial, sendOne } from './destination.ts';
import { readIdentifier, retrieveRequest } from './identifier.ts';
import { peerOf } from './policy.ts';
import { audit, failure, type Handler, type Session, writerKey } from './session.ts';
import { createSubOperations } from './sub-operations.ts';

type Destination = NonNullable<ReturnType<typeof destinationOf>>;

/** C-MOVE (PS3.4 §C.4.2): to configured peers, and to ourselves. */
export const move: Handler = async (session, incoming) => {
  const place = session.door.retrieves.take();
  if (place === undefined) {
    await incoming.data?.discard();
    return session.association.respond(incoming, {
      status: STATUS.UNABLE_TO_CALCULATE_MATCHES,
      errorComment: 'too many retrievals at work, try again',
    });
  }
  let instances: Located[] = [];
  let outcome: number;
  const destinationTitle = incoming.command.moveDestination ?? '';
  try {
    const identifier = await readIdentifier(session, incoming);
    const destination = destinationOf(session, destinationTitle);
    if (destination === undefined) {
      outcome = STATUS.MOVE_DESTINATION_UNKNOWN;
      await session.association.respond(incoming, {
        status: outcome,
        errorComment: 'the move destination is no configured peer with a host',
      });
    } else {
      const request = retrieveRequest(session, incoming, identifier);
      await session.door.written.settle(session.call, writerKey(session));
      instances = await session.door.reader.locate(session.call, request);
      outcome = await moveTo(session, incoming, destination, instances);
    }
  } catch (error) {
    const answer = failure(session, error, (code) =>
      code === 'invalid-argument'
        ? STATUS.DATA_SET_MISMATCH
        : code === 'unparsable'
          ? STATUS.CANNOT_UNDERSTAND
          : STATUS.UNABLE_TO_CALCULATE_MATCHES,
    );
    outcome = answer.status;
    await session.association.respond(incoming, answer);
  } finally {
    place();
  }
  audit(session, {
    event: 'DICOM Instances Transferred',
    action: 'R',
    outcome: outcome === STATUS.SUCCESS ? 0 : outcome === STATUS.COERCION || outcome === STATUS.CANCEL ? 4 : 8,
    useCase: 'dimse.c-move',
    objects: [...new Set(instances.map((one) => one.studyInstanceUid))].map((id) => ({ type: 'study' as const, id })),
    detail: { destination: destinationTitle, instances: instances.length },
  });
};

function destinationOf(session: Session, aeTitle: string) {
  const { settings } = session.door.context;
  const peer = peerOf(settings, aeTitle);
  if (peer !== undefined && peer.host !== '') return peer;
  if (aeTitle !== settings.string('dimse.aeTitle')) return undefined;
  // To ourselves, by the address that this association came to.
  return {
    aeTitle,
    host: session.door.ownHost,
    port: session.door.port(),
    transferSyntaxes: [],
    connectTimeoutMs: 10_000,
    responseTimeoutMs: 60_000,
  };
}

async function moveTo(
  session: Session,
  incoming: Incoming,
  destination: Destination,
  instances: Located[],
): Promise<number> {
  const operations = createSubOperations(session, incoming, instances.length);
  try {
    for (const batch of batches(instances, destination.transferSyntaxes)) {
      if (incoming.cancelSignal.aborted) break;
      await moveBatch(session, incoming, destination, batch, operations);
    }
    return await operations.finish(incoming.cancelSignal.aborted ? STATUS.CANCEL : undefined);
  } finally {
    operations.stop();
  }
}

/** One association's worth. What cannot be sent because the association failed is a failed sub-operation, each by name. */
async function moveBatch(
  session: Session,
  incoming: Incoming,
  destination: Destination,
  batch: Located[],
  operations: ReturnType<typeof createSubOperations>,
): Promise<void> {
  const { door, call } = session;
  let association: Association | undefined;
  let broken: string | undefined;
  try {
    for (const instance of batch) {
      if (incoming.cancelSignal.aborted) break;
      if (broken === undefined && association === undefined) {
        try {
          association = await dial(
            destination,
            door.context.settings.string('dimse.aeTitle'),
            contextsFor(batch, destination.transferSyntaxes),
            call.signal,
          );
        } catch (error) {
          broken = `no association with the destination: ${error instanceof Error ? error.message : 'failed'}`;
        }
      }
      if (broken !== undefined || association === undefined) {
        await operations.done(instance, { outcome: 'failed', reason: broken });
        continue;
      }
      try {
        const chosen = chooseContext(association.contexts.values(), instance, () => true);
        const result = await sendOne(association, door.reader, call, instance, chosen, {
          moveOriginatorAeTitle: session.association.callingAeTitle,
          moveOriginatorMessageId: incoming.command.messageId,
          responseTimeoutMs: destination.responseTimeoutMs,
        });
        await operations.done(instance, result);
      } catch (error) {
        if (session.association.signal.aborted)
          throw new GantryError('cancelled', 'the association of the C-MOVE ended', { cause: error });
        broken = `the association with the destination broke: ${error instanceof Error ? error.message : 'failed'}`;
        await operations.done(instance, { outcome: 'failed', reason: broken });
      }
    }
    if (broken === undefined) await association?.release();
  } finally {
    association?.abort(); // harmless when it was released
  }
}
