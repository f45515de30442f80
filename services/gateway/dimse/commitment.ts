import { deflateSync, inflateSync } from 'node:zlib';
import type { DataSet } from '#dicom/dataset.ts';
import { Part10Digest } from '#dicom/digest.ts';
import { Tag } from '#dicom/tags.ts';
import { isAcceptableUid, isStorageClass } from '#dicom/uids.ts';
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
const FOLD_WAIT_MS = 20_000; // below platform.rpcTimeoutMs; an index that is behind for longer costs an attempt
const DUPLICATE_TRANSACTION_UID = 0x0131; // PS3.3 §C.14.1.1; PS3.7 has no status of its own for it
/** A Transaction UID is known again for so long. UIDs are unique anyway: this finds senders that repeat themselves, not those that forge. */
const REMEMBER_MS = 30 * 24 * 3_600_000;
const SWEEP_MS = 3_600_000;
/**
 * Until the N-ACTION-RSP is out, and should it never get out: in a cluster any process may be given the job, and no report may overtake
 * the answer. Afterwards the job is brought forward.
 */
const HOLD_MS = 10_000;
/** The report on the same association can only be sent by the process that has it: the others leave it alone for so long. */
const HOLD_SAME_MS = 60_000;
/** References looked up at once. */
const LOOKUP_MAX = 256;

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
  /** Requests whose N-ACTION-RSP is not out yet: no report may overtake it. */
  const answering = new Map<string, PromiseWithResolvers<void>>();
  let swept = 0;

  async function handle(session: Session, incoming: Incoming): Promise<void> {
    const transaction = { uid: '' };
    let status: number = STATUS.SUCCESS;
    let references = 0;
    let queued: string | undefined;
    let asked: { payload: Payload; same: boolean } | undefined;
    try {
      const payload = parse(session, incoming, await readIdentifier(session, incoming));
      transaction.uid = payload.transactionUid;
      references = payload.references.length;
      const same = session.peer?.commitment === 'same';
      if (!same && !session.peer?.host) {
        throw new GantryError('failed-precondition', 'no address configured to report to');
      }
      await queue(session.call, payload, same ? HOLD_SAME_MS : HOLD_MS);
      queued = keyOf(payload);
      if (same) remember(queued, session.association, incoming.contextId);
      // The answer goes first, the report after it: its job waits for `answering`.
      await session.association.respond(incoming, { status: STATUS.SUCCESS });
      asked = { payload, same };
    } catch (error) {
      const answer = failure(session, error, (code) => STATUS_OF[code] ?? STATUS.PROCESSING_FAILURE);
      status = answer.status;
      if (queued === undefined) await session.association.respond(incoming, answer);
    } finally {
      if (queued !== undefined) answered(queued);
    }
    if (asked !== undefined) void begin(session, asked.payload, asked.same);
    audit(session, {
      event: 'Application Activity',
      action: 'E',
      outcome: status === STATUS.SUCCESS ? 0 : 4,
      useCase: 'dimse.n-action.storage-commitment',
      objects: [{ type: 'system', id: transaction.uid }],
      detail: { references },
    });
  }

  /**
   * A Transaction UID again is refused (0131), across restarts too: what is asked for is noted before it is queued. A note without a
   * job, whose report never went out, is of a process that died between the two: then nobody was answered, and it is asked anew.
   */
  async function queue(call: Call, payload: Payload, holdMs: number): Promise<void> {
    const again = new GantryError('already-exists', 'this Transaction UID was used before');
    const key = keyOf(payload);
    if (answering.has(key)) throw again;
    answering.set(key, Promise.withResolvers());
    try {
      const note = await context.kv.get(call.tenant, noteOf(key));
      if (note !== undefined) {
        const known =
          note.value.toString().startsWith(REPORTED) || (await context.jobs.list(QUEUE)).some(isJob(call, key));
        if (known) throw again;
      }
      await context.kv.put(call.tenant, noteOf(key), Buffer.from(`asked ${new Date().toISOString()}`));
      const notBefore = Date.now() + holdMs;
      await context.jobs.add({ queue: QUEUE, key, tenant: call.tenant, payload: packed(payload), notBefore });
    } catch (error) {
      answered(key);
      throw error;
    }
  }

  /** The answer is out. Should this fail, the job has its time. */
  async function begin({ call, association }: Session, payload: Payload, same: boolean): Promise<void> {
    const job = { queue: QUEUE, key: keyOf(payload), tenant: call.tenant, payload: packed(payload) };
    try {
      if (same) {
        try {
          await report({ ...job, attempt: 1, signal: association.signal });
          await context.jobs.remove(job.tenant, QUEUE, job.key);
          return;
        } catch (error) {
          context.log.warn({ err: error, requestId: call.requestId }, 'a commitment report must be tried again');
        }
      }
      await context.jobs.add({ ...job, notBefore: Date.now() });
    } catch (error) {
      context.log.warn({ err: error, requestId: call.requestId }, 'a commitment report waits for its time');
    }
  }

  function answered(key: string): void {
    answering.get(key)?.resolve();
    answering.delete(key);
  }

  /** The queue forgets what is done; the note stays for a while. One that cannot be written costs no report. */
  async function reported(call: Call, key: string): Promise<void> {
    try {
      await context.kv.put(call.tenant, noteOf(key), Buffer.from(`${REPORTED} ${new Date().toISOString()}`));
      if (Date.now() - swept < SWEEP_MS) return;
      swept = Date.now();
      for (const old of await context.kv.list(call.tenant, NOTES)) {
        const at = Date.parse((await context.kv.get(call.tenant, old.key))?.value.toString().split(' ')[1] ?? '');
        if (!(Date.now() - at < REMEMBER_MS)) await context.kv.delete(call.tenant, old.key);
      }
    } catch (error) {
      context.log.warn({ err: error, requestId: call.requestId }, 'a reported transaction could not be remembered');
    }
  }

  function remember(key: string, association: Association, contextId: number): void {
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
    for (let at = 0; at < payload.references.length; at += LOOKUP_MAX) {
      const references = payload.references.slice(at, at + LOOKUP_MAX);
      const sopInstanceUids = [...new Set(references.map((one) => one.sopInstanceUid))];
      const found = Map.groupBy(await door.reader.locate(call, { sopInstanceUids }), (one) => one.sopInstanceUid);
      for (const reference of references) {
        const reason = await reasonOf(call, reference, found.get(reference.sopInstanceUid) ?? []);
        if (reason === undefined) held.push(reference);
        else failed.push({ ...reference, reason });
      }
    }
    return { held, failed };
  }

  /** Why it is not held (PS3.3 §C.14.1.1); undefined: every instance of that UID, in whatever study, was read and is whole. */
  async function reasonOf(
    call: Call,
    { sopClassUid }: Reference,
    found: readonly Located[],
  ): Promise<number | undefined> {
    if (found.length === 0)
      return sopClassUid === '' || isStorageClass(sopClassUid)
        ? STATUS.NO_SUCH_SOP_INSTANCE
        : STATUS.SOP_CLASS_NOT_SUPPORTED;
    const fit = found.filter((one) => sopClassUid === '' || one.sopClassUid === sopClassUid);
    if (fit.length === 0) return STATUS.CLASS_INSTANCE_CONFLICT;
    for (const located of fit) if (!(await whole(call, located))) return STATUS.PROCESSING_FAILURE;
    return undefined;
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
    const payload = unpacked(job.payload);
    await answering.get(job.key)?.promise;
    const call = systemCall(job.tenant, `commitment-${payload.transactionUid}`, job.signal);
    const { held, failed } = await examine(call, payload);
    const told = (outcome: 0 | 4) =>
      context.audit.record(call, {
        event: 'Application Activity',
        action: 'E',
        outcome,
        useCase: 'dimse.n-event-report.storage-commitment',
        objects: [
          { type: 'system', id: payload.transactionUid },
          { type: 'system', id: payload.aeTitle },
        ],
        detail: { held: held.length, failed: failed.length, attempt: job.attempt },
      });
    try {
      await tell(job, call, payload, held, failed);
    } catch (error) {
      told(4); // it is tried again, or given up after as many records
      throw error;
    }
    told(0);
  }

  /** What holds and what does not, to whoever asked: on the association that asked, or on one of our own. */
  async function tell(
    job: Job,
    call: Call,
    payload: Payload,
    held: Reference[],
    failed: (Reference & { reason: number })[],
  ): Promise<void> {
    const event = {
      sopClassUid: STORAGE_COMMITMENT,
      sopInstanceUid: STORAGE_COMMITMENT_INSTANCE,
      eventTypeId: failed.length === 0 ? 1 : 2, // PS3.4 §J.3.3.1
    };
    const body = (transferSyntaxUid: string) =>
      encodeDataSet(eventDataSet(payload, held, failed, context.settings.string('dimse.aeTitle')), {
        transferSyntaxUid,
      });
    const waiting = asking.get(job.key);
    if (waiting !== undefined && !waiting.association.signal.aborted) {
      const { association, contextId } = waiting;
      const data = body(association.contexts.get(contextId)!.transferSyntax);
      const { status } = await nEventReport(association, { ...event, data }, { contextId });
      if (statusKind(status) !== 'failure') {
        asking.delete(job.key);
        return reported(call, job.key);
      }
    }
    const peer = peerOf(context.settings, payload.aeTitle);
    if (!peer?.host) throw new GantryError('failed-precondition', `no address is configured for ${payload.aeTitle}`);
    // We are the SCP of a service whose SCU listens: role selection turns the roles round (PS3.4 §J.3.3).
    const association = await dial(
      context.settings,
      peer,
      [
        {
          abstractSyntax: STORAGE_COMMITMENT,
          transferSyntaxes: [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN],
        },
      ],
      job.signal,
      [{ sopClassUid: STORAGE_COMMITMENT, scu: false, scp: true }],
    );
    // A peer that is slow to answer must not hold up the end of this process: the job is kept.
    const stopping = () => association.abort('this side is shutting down');
    job.signal.addEventListener('abort', stopping, { once: true });
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
      await reported(call, job.key);
      await association.release();
    } finally {
      job.signal.removeEventListener('abort', stopping);
      association.abort(); // harmless when it was released
    }
  }

  return {
    handle,
    work: () => context.jobs.work(QUEUE, { concurrency: 2, attemptsMax: ATTEMPTS_MAX, backoffMs: BACKOFF_MS }, report),
    async list(tenant: string): Promise<CommitmentRow[]> {
      const rows = (await context.jobs.list(QUEUE)).filter((row) => row.tenant === tenant);
      return rows.map((row) => {
        const payload = unpacked(row.payload);
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

const NOTES = 'commitment/';
const REPORTED = 'reported';
const noteOf = (key: string): string => `${NOTES}${key}`;
const isJob = (call: Call, key: string) => (job: { tenant: string; key: string }) =>
  job.tenant === call.tenant && job.key === key;

/** 20,000 references are 2.6 MB of JSON, and UIDs that are mostly alike: a tenth of it fits a job's payload. */
const packed = (payload: Payload): Buffer => deflateSync(JSON.stringify(payload));
const unpacked = (bytes: Buffer): Payload => JSON.parse(inflateSync(bytes).toString('utf8')) as Payload;

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
