import type { DataSet } from '#dicom/dataset.ts';
import { Part10Digest } from '#dicom/digest.ts';
import { Tag } from '#dicom/tags.ts';
import { isAcceptableUid } from '#dicom/uids.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { nEventReport } from '#dimse/scu.ts';
import { STATUS, statusKind } from '#dimse/status.ts';
import type { Association, Incoming } from '#dimse/types.ts';
import { type Call, systemCall } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Job } from '#platform/ports.ts';
import type { CommitmentRow } from '#proto/gateway/v1/gateway.ts';
import { IndexService, type Located } from '#proto/index/v1/index.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN } from '../representation.ts';
import { dial } from './destination.ts';
import { readIdentifier } from './identifier.ts';
import { peerOf } from './policy.ts';
import { STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE } from './services.ts';
import { audit, type Door, failure, type Session } from './session.ts';

const QUEUE = 'commitment.report';
const ATTEMPTS_MAX = 60; // with the last wait repeated, about two days: longer than a modality is switched off for a weekend night
const BACKOFF_MS = [1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000];
const FOLD_WAIT_MS = 60_000;
const DUPLICATE_TRANSACTION_UID = 0x0131; // PS3.7 §C.5.27

interface Reference {
  sopClassUid: string;
  sopInstanceUid: string;
}
interface Payload {
  transactionUid: string;
  aeTitle: string;
  references: Reference[];
}

/** Storage Commitment Push Model (PS3.4 Annex J): the N-ACTION is queued durably, the report says what was read and found whole. */
export function createCommitments(door: Door) {
  const { context } = door;
  const index = context.client(IndexService);
  const storage = context.client(DataService);
  /** Associations that asked for their report on the same one. */
  const asking = new Map<string, { association: Association; contextId: number }>();

  async function handle(session: Session, incoming: Incoming): Promise<void> {
    const transaction = { uid: '' };
    let status: number = STATUS.SUCCESS;
    let references = 0;
    try {
      const payload = parse(session, incoming, await readIdentifier(session, incoming));
      transaction.uid = payload.transactionUid;
      references = payload.references.length;
      const same = session.peer?.commitment === 'same';
      if (!same && !session.peer?.host) {
        throw new GantryError('failed-precondition', 'no address configured to report to');
      }
      await once(session.call, payload);
      if (same) remember(payload, session.association, incoming.contextId);
      try {
        await context.jobs.add({
          queue: QUEUE,
          key: keyOf(payload),
          tenant: session.call.tenant,
          payload: Buffer.from(JSON.stringify(payload)),
        });
      } catch (error) {
        await context.kv.delete(session.call.tenant, `commitment/${keyOf(payload)}`);
        throw error;
      }
      // The answer goes first, the report after it (PS3.4 §J.3.2): the job waits for this.
      await session.association.respond(incoming, { status: STATUS.SUCCESS });
    } catch (error) {
      const answer = failure(session, error, (code) => STATUS_OF[code] ?? STATUS.PROCESSING_FAILURE);
      status = answer.status;
      await session.association.respond(incoming, answer);
    }
    audit(session, {
      event: 'Application Activity',
      action: 'E',
      outcome: status === STATUS.SUCCESS ? 0 : 4,
      useCase: 'dimse.n-action.storage-commitment',
      objects: [{ type: 'system', id: transaction.uid }],
      detail: { references },
    });
  }

  /** A Transaction UID again is refused (0131), across restarts too. */
  async function once(call: Call, payload: Payload): Promise<void> {
    try {
      await context.kv.put(call.tenant, `commitment/${keyOf(payload)}`, Buffer.from(new Date().toISOString()), 0);
    } catch (error) {
      if (error instanceof GantryError && error.code === 'conflict')
        throw new GantryError('already-exists', 'this Transaction UID was used before');
      throw error;
    }
  }

  function remember(payload: Payload, association: Association, contextId: number): void {
    const key = keyOf(payload);
    asking.set(key, { association, contextId });
    void association.closed.then(() => asking.delete(key));
  }

  function parse(session: Session, incoming: Incoming, identifier: DataSet): Payload {
    if (incoming.command.actionTypeId !== 1)
      throw new GantryError('unimplemented', 'the only action is 1, request storage commitment');
    if (incoming.command.requestedSopInstanceUid !== STORAGE_COMMITMENT_INSTANCE)
      throw new GantryError('not-found', 'the well-known instance is 1.2.840.10008.1.20.1.1');
    const transactionUid = identifier.string(Tag.TransactionUID) ?? '';
    if (!isAcceptableUid(transactionUid))
      throw new GantryError('invalid-argument', 'Transaction UID is missing or none', {
        offendingElements: [Tag.TransactionUID],
      });
    const references = identifier.items(Tag.ReferencedSOPSequence).map((item) => ({
      sopClassUid: item.string(Tag.ReferencedSOPClassUID) ?? '',
      sopInstanceUid: item.string(Tag.ReferencedSOPInstanceUID) ?? '',
    }));
    if (references.length === 0)
      throw new GantryError('invalid-argument', 'Referenced SOP Sequence is empty', {
        offendingElements: [Tag.ReferencedSOPSequence],
      });
    const max = context.settings.number('dimse.commitmentReferencesMax');
    if (references.length > max) throw new GantryError('too-large', `more than ${max} instances in one request`);
    if (references.some((one) => one.sopInstanceUid === ''))
      throw new GantryError('invalid-argument', 'a reference has no SOP Instance UID', {
        offendingElements: [Tag.ReferencedSOPInstanceUID],
      });
    return { transactionUid, aeTitle: session.association.callingAeTitle, references };
  }

  /** Folded up to the log's heads of now, then each instance's bytes read and compared with their digest. */
  async function examine(
    call: Call,
    payload: Payload,
  ): Promise<{ held: Reference[]; failed: (Reference & { reason: number })[] }> {
    const { positions } = await storage.heads(call, {});
    const { reached } = await index.await(call, { positions, limitMs: FOLD_WAIT_MS });
    if (!reached) throw new GantryError('unavailable', 'the index is behind the log');
    const held: Reference[] = [];
    const failed: (Reference & { reason: number })[] = [];
    for (const reference of payload.references) {
      const found = await door.reader.locate(call, { sopInstanceUids: [reference.sopInstanceUid] });
      const fit = found.filter((one) => reference.sopClassUid === '' || one.sopClassUid === reference.sopClassUid);
      if (found.length === 0) failed.push({ ...reference, reason: STATUS.NO_SUCH_SOP_INSTANCE });
      else if (fit.length === 0) failed.push({ ...reference, reason: STATUS.CLASS_INSTANCE_CONFLICT });
      else if (await whole(call, fit[0]!)) held.push(reference);
      else failed.push({ ...reference, reason: STATUS.PROCESSING_FAILURE });
    }
    return { held, failed };
  }

  async function whole(call: Call, located: Located): Promise<boolean> {
    const digest = new Part10Digest(located.transferSyntaxUid, located.dataSetOffset);
    try {
      for await (const chunk of door.reader.read(call, located)) digest.update(chunk);
    } catch (error) {
      if (error instanceof GantryError && (error.code === 'damaged' || error.code === 'not-found')) return false;
      throw error; // it could not be told now: the job tries again
    }
    if (digest.finish().digest.equals(located.digest)) return true;
    context.log.error(
      { sopInstanceUid: located.sopInstanceUid, place: located.place?.object },
      'stored bytes do not match their digest',
    );
    return false;
  }

  async function report(job: Job): Promise<void> {
    const payload = JSON.parse(job.payload.toString('utf8')) as Payload;
    const call = systemCall(job.tenant, `commitment-${payload.transactionUid}`, job.signal);
    const { held, failed } = await examine(call, payload);
    const event = {
      sopClassUid: STORAGE_COMMITMENT,
      sopInstanceUid: STORAGE_COMMITMENT_INSTANCE,
      eventTypeId: failed.length === 0 ? 1 : 2, // PS3.4 §J.3.3.1
    };
    const body = (transferSyntaxUid: string) =>
      encodeDataSet(eventDataSet(payload, held, failed, context.settings.string('dimse.aeTitle')), {
        transferSyntaxUid,
      });
    const waiting = asking.get(keyOf(payload));
    if (waiting !== undefined && !waiting.association.signal.aborted) {
      const { association, contextId } = waiting;
      const data = body(association.contexts.get(contextId)!.transferSyntax);
      const { status } = await nEventReport(association, { ...event, data }, { contextId });
      if (statusKind(status) !== 'failure') {
        asking.delete(keyOf(payload));
        return;
      }
    }
    const peer = peerOf(context.settings, payload.aeTitle);
    if (!peer?.host) throw new GantryError('failed-precondition', `no address is configured for ${payload.aeTitle}`);
    // We are the SCP of a service whose SCU listens: role selection turns the roles round (PS3.4 §J.3.3).
    const association = await dial(
      peer,
      context.settings.string('dimse.aeTitle'),
      [
        {
          abstractSyntax: STORAGE_COMMITMENT,
          transferSyntaxes: [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN],
        },
      ],
      job.signal,
      [{ sopClassUid: STORAGE_COMMITMENT, scu: false, scp: true }],
    );
    try {
      const accepted = association.findContext(STORAGE_COMMITMENT);
      if (accepted === undefined)
        throw new GantryError('unavailable', `${payload.aeTitle} takes no storage commitment reports`);
      const { status } = await nEventReport(association, { ...event, data: body(accepted.transferSyntax) });
      if (statusKind(status) === 'failure')
        throw new GantryError(
          'unavailable',
          `${payload.aeTitle} answered the report with ${status.toString(16).padStart(4, '0')}`,
        );
      await association.release();
    } finally {
      association.abort(); // harmless when it was released
    }
  }

  return {
    handle,
    work: () => context.jobs.work(QUEUE, { concurrency: 2, attemptsMax: ATTEMPTS_MAX, backoffMs: BACKOFF_MS }, report),
    async list(tenant: string): Promise<CommitmentRow[]> {
      const rows = (await context.jobs.list(QUEUE)).filter((row) => row.tenant === tenant);
      return rows.map((row) => {
        const payload = JSON.parse(row.payload.toString('utf8')) as Payload;
        return {
          transactionUid: payload.transactionUid,
          aeTitle: payload.aeTitle,
          state: row.state,
          references: payload.references.length,
          attempts: row.attempts,
          nextAttempt: new Date(row.notBefore).toISOString(),
          lastError: row.lastError,
        };
      });
    },
  };
}

export type Commitments = ReturnType<typeof createCommitments>;

/** PS3.7 §10.1.4.1.10: what an N-ACTION answers. */
const STATUS_OF: Partial<Record<string, number>> = {
  'invalid-argument': STATUS.INVALID_ARGUMENT_VALUE,
  'already-exists': DUPLICATE_TRANSACTION_UID,
  'too-large': STATUS.RESOURCE_LIMITATION,
  unimplemented: STATUS.NO_SUCH_ACTION_TYPE,
  'not-found': STATUS.NO_SUCH_SOP_INSTANCE,
  'failed-precondition': STATUS.PROCESSING_FAILURE,
};

const keyOf = (payload: Payload): string => `${payload.aeTitle}/${payload.transactionUid}`;

function eventDataSet(
  payload: Payload,
  held: Reference[],
  failed: (Reference & { reason: number })[],
  aeTitle: string,
) {
  const item = (reference: Reference) => ({
    '00081150': { vr: 'UI', Value: [reference.sopClassUid] },
    '00081155': { vr: 'UI', Value: [reference.sopInstanceUid] },
  });
  return {
    '00080054': { vr: 'AE', Value: [aeTitle] },
    '00081195': { vr: 'UI', Value: [payload.transactionUid] },
    ...(held.length > 0 ? { '00081199': { vr: 'SQ', Value: held.map(item) } } : {}),
    ...(failed.length > 0
      ? {
          '00081198': {
            vr: 'SQ',
            Value: failed.map((one) => ({ ...item(one), '00081197': { vr: 'US', Value: [one.reason] } })),
          },
        }
      : {}),
  };
}
