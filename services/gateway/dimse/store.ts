import { STATUS } from '#dimse/status.ts';
import { BULK } from '#platform/routes.ts';
import { failure, type Handler, noteStored, noteWritten } from './session.ts';

const NOTHING: AsyncIterable<Buffer> = {
  [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: undefined }) }),
};

/** C-STORE (PS3.4 Annex B): the data set goes to `ingest` as it is pulled from the socket; success means durable. */
export const store: Handler = async (session, incoming) => {
  const { association, door, call, peer, stored } = session;
  const { command } = incoming;
  let study: string | undefined;
  let answer: { status: number; errorComment?: string; offendingElement?: number[] };
  try {
    const { response } = await door.context.bulk(BULK.store)(
      call,
      {
        sopClassUid: command.affectedSopClassUid ?? '',
        sopInstanceUid: command.affectedSopInstanceUid ?? '',
        transferSyntaxUid: incoming.transferSyntax,
        source: {
          door: 'DIMSE',
          callingAeTitle: association.callingAeTitle,
          calledAeTitle: association.calledAeTitle,
          address: association.peer.address,
          defaultCharset: peer?.defaultCharset ?? '',
        },
      },
      incoming.data ?? NOTHING,
    );
    answer = {
      status: response.status,
      ...(response.errorComment === '' ? {} : { errorComment: response.errorComment }),
      ...(response.offendingElements.length === 0 ? {} : { offendingElement: response.offendingElements }),
    };
    if (response.status === STATUS.SUCCESS) {
      noteWritten(session, response.position);
      study = response.studyInstanceUid;
    }
  } catch (error) {
    answer = failure(session, error);
  }
  noteStored(session, study); // before anything can fail: it is durable
  // A refusal may come before the last byte: what still arrives is read and forgotten, then answered.
  await incoming.data?.discard();
  stored.bytes += incoming.data?.bytesReceived ?? 0;
  if (answer.status === STATUS.SUCCESS) stored.instances++;
  else stored.refused++; // why: in the log of ingest, which refused it
  await association.respond(incoming, answer);
};
