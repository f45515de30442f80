import { STATUS } from '#dimse/status.ts';
import type { Incoming } from '#dimse/types.ts';
import type { Located } from '#proto/index/v1/index.ts';
import { chooseContext, sendOne } from './destination.ts';
import { readIdentifier, retrieveRequest } from './identifier.ts';
import { audit, failure, type Handler, type Session, writerKey } from './session.ts';
import { createSubOperations } from './sub-operations.ts';

/** C-GET (PS3.4 §C.4.3): sub-operations on the same association, on contexts where the caller is SCP by role selection. */
export const get: Handler = async (session, incoming) => {
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
  try {
    const request = retrieveRequest(session, incoming, await readIdentifier(session, incoming));
    await session.door.written.settle(session.call, writerKey(session));
    instances = await session.door.reader.locate(session.call, request);
    outcome = await getAll(session, incoming, instances);
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
    useCase: 'dimse.c-get',
    objects: [...new Set(instances.map((one) => one.studyInstanceUid))].map((id) => ({ type: 'study' as const, id })),
    detail: { instances: instances.length },
  });
};

async function getAll(session: Session, incoming: Incoming, instances: Located[]): Promise<number> {
  const { association, door, call } = session;
  const operations = createSubOperations(session, incoming, instances.length);
  try {
    for (const instance of instances) {
      if (incoming.cancelSignal.aborted) return await operations.finish(STATUS.CANCEL);
      const chosen = chooseContext(association.contexts.values(), instance, (context) => context.requestorScp);
      await operations.done(
        instance,
        await sendOne(association, door.reader, call, instance, chosen, {
          responseTimeoutMs: session.peer?.responseTimeoutMs,
        }),
      );
    }
    return await operations.finish();
  } finally {
    operations.stop();
  }
}
