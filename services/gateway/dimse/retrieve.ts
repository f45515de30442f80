import { STATUS } from '#dimse/status.ts';
import type { Incoming } from '#dimse/types.ts';
import type { Call } from '#platform/call.ts';
import type { LocateRequest } from '#proto/index/v1/index.ts';
import type { Reader } from '../read.ts';
import type { Retrievable } from './destination.ts';
import { readIdentifier, retrieveRequest } from './identifier.ts';
import { audit, failure, type Session, writerKey } from './session.ts';
import { createSubOperations, type SubOperations } from './sub-operations.ts';

/** What C-MOVE and C-GET do differently (PS3.4 §C.4.2, §C.4.3). */
export interface Retrieval {
  useCase: 'dimse.c-move' | 'dimse.c-get';
  /** The request can be refused before anything is looked for. */
  refusal?: { status: number; errorComment: string } | undefined;
  renditionPreference: readonly string[];
  detail?: Record<string, string>;
  /** One sub-operation an instance, until the caller cancels. */
  send(instances: Retrievable[], operations: SubOperations): Promise<void>;
}

/** A retrieval from its identifier to its final response, within `dimse.retrievesMax`, and in the audit trail however it ends. */
export async function retrieve(session: Session, incoming: Incoming, retrieval: Retrieval): Promise<void> {
  const giveBack = session.door.retrieves.take();
  let outcome: number = STATUS.PROCESSING_FAILURE;
  let instances: Retrievable[] = [];
  try {
    const busy = { status: STATUS.UNABLE_TO_CALCULATE_MATCHES, errorComment: 'too many retrievals at work, try again' };
    const refusal = giveBack === undefined ? busy : retrieval.refusal;
    if (refusal !== undefined) {
      await incoming.data?.discard();
      outcome = refusal.status;
      await session.association.respond(incoming, refusal);
      return;
    }
    try {
      const request = retrieveRequest(session, incoming, await readIdentifier(session, incoming));
      await session.door.written.settle(session.call, writerKey(session));
      instances = await retrievable(session.door.reader, session.call, request, retrieval.renditionPreference);
    } catch (error) {
      const answer = failure(session, error, (code) => STATUS_OF[code] ?? STATUS.UNABLE_TO_CALCULATE_MATCHES);
      outcome = answer.status;
      await session.association.respond(incoming, answer);
      return;
    }
    const operations = createSubOperations(session, incoming, instances.length);
    try {
      await retrieval.send(instances, operations);
      if (session.door.ending.aborted && !incoming.cancelSignal.aborted)
        operations.giveUp(instances, 'this side is shutting down');
      outcome = await operations.finish();
    } finally {
      operations.stop();
    }
  } finally {
    giveBack?.();
    audit(session, {
      event: 'DICOM Instances Transferred',
      action: 'R',
      outcome: outcome === STATUS.SUCCESS ? 0 : outcome === STATUS.COERCION || outcome === STATUS.CANCEL ? 4 : 8,
      useCase: retrieval.useCase,
      objects: [...new Set(instances.map((one) => one.studyInstanceUid))].map((id) => ({ type: 'study' as const, id })),
      detail: { ...retrieval.detail, instances: instances.length },
    });
  }
}

/** PS3.4 Tables C.4-2 and C.4-3. */
const STATUS_OF: Partial<Record<string, number>> = {
  'invalid-argument': STATUS.DATA_SET_MISMATCH,
  unparsable: STATUS.CANNOT_UNDERSTAND,
};

/**
 * Every instance once, with all that it is kept as. What shows goes first, since another transfer syntax of it may be another's work;
 * only a peer's own `renditionPreference` changes that.
 */
async function retrievable(
  reader: Reader,
  call: Call,
  request: Partial<LocateRequest>,
  preference: readonly string[],
): Promise<Retrievable[]> {
  const instances = new Map<string, Retrievable>();
  for (const located of await reader.locate(call, { ...request, renditions: true })) {
    const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = located;
    const key = `${studyInstanceUid}|${seriesInstanceUid}|${sopInstanceUid}`;
    const known = instances.get(key);
    if (known === undefined) instances.set(key, { studyInstanceUid, sopInstanceUid, kept: [located] });
    else if (located.rendition) known.kept.push(located);
    else known.kept.unshift(located);
  }
  const rank = (transferSyntaxUid: string): number => {
    const at = preference.indexOf(transferSyntaxUid);
    return at < 0 ? preference.length : at;
  };
  if (preference.length > 0)
    for (const { kept } of instances.values())
      kept.sort((a, b) => rank(a.transferSyntaxUid) - rank(b.transferSyntaxUid));
  return [...instances.values()];
}
