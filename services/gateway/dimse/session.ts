import { ulid } from 'ulid';
import { AssociationError } from '#dimse/errors.ts';
import type { AssociateRq } from '#dimse/pdu.ts';
import { rejectWords } from '#dimse/reasons.ts';
import type { Association, Decision, Incoming } from '#dimse/types.ts';
import type { Call } from '#platform/call.ts';
import { ERRORS, GantryError, toGantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { isOwnAddress } from '#platform/net.ts';
import type { Peer } from '#platform/peers.ts';
import type { AuditEvent } from '#platform/ports.ts';
import type { Position } from '#proto/storage/v1/log.ts';
import type { Reader } from '../read.ts';
import type { ReadYourWrites } from '../read-your-writes.ts';
import type { Retrieves } from './retrieves.ts';

/** The door: what every association shares. */
export interface Door {
  context: Context;
  reader: Reader;
  written: ReadYourWrites;
  retrieves: Retrieves;
  /** Aborted when the time to drain is nearly over: whoever sends much stops, and says how far it came. */
  ending: AbortSignal;
  /** Port that the door really listens on. */
  port: () => number;
  /** An address of ours at which we reach ourselves. */
  ownHost: string;
}

/** One association being served. */
export interface Session {
  door: Door;
  association: Association;
  call: Call;
  /** Undefined: a caller that is not configured but served. */
  peer: Peer | undefined;
  since: string;
  /** Counted for the log line and the audit record at the end. */
  stored: { instances: number; bytes: number; refused: number };
  /** What was stored and refused since the last audit record of it. */
  unaudited: { instances: number; refused: number; studies: Set<string>; sinceMs: number };
}

export type Handler = (session: Session, incoming: Incoming) => Promise<void>;

export const writerKey = (session: Session): string =>
  `${session.association.callingAeTitle}@${session.association.peer.address}`;

export function noteWritten(session: Session, position: Position | undefined): void {
  if (position !== undefined) session.door.written.note(session.call.tenant, writerKey(session), position);
}

/** Somebody on our own machine who calls himself as we do: we ourselves, moving to ourselves (policy.ts). */
export const isOurselves = (ourAeTitle: string, callingAeTitle: string, address: string): boolean =>
  callingAeTitle === ourAeTitle && isOwnAddress(address);

/** A failure as this service's response carries it; the reason without patient data, at most 64 characters (PS3.7 Annex C.4.2). */
export function failure(
  session: Session,
  raw: unknown,
  statusOf: (code: keyof typeof ERRORS) => number = (code) => ERRORS[code].dimse,
) {
  const error = told(session, raw);
  const row = ERRORS[error.code];
  if (row.level === 'error' || row.level === 'warn')
    session.door.context.log[row.level]({ associationId: session.call.requestId, err: error }, 'operation failed');
  return {
    status: statusOf(error.code),
    // What nobody foresaw may say anything.
    errorComment: error.code === 'internal' ? 'an unexpected failure' : error.message.slice(0, 64),
    ...(error.offendingElements.length > 0 ? { offendingElement: error.offendingElements } : {}),
  };
}

/** The upper layer's own words, in ours. An operation whose association ended under it has not failed: nobody waits for its answer. */
function told(session: Session, raw: unknown): GantryError {
  if (raw instanceof GantryError) return raw;
  if (session.association.signal.aborted) return new GantryError('cancelled', 'the association ended', { cause: raw });
  if (raw instanceof AssociationError && raw.code === 'too-large')
    return new GantryError('too-large', 'the identifier is longer than dimse.identifierMax', { cause: raw });
  return toGantryError(raw);
}

/** Modalities hold associations for days, and processes are killed: what was stored is recorded this often, not only at the end. */
const STORED_RECORD_INSTANCES = 500;
const STORED_RECORD_MS = 60_000;

/** Counts one C-STORE for the audit trail (PS3.15 §A.5.3.7), and records what has gathered when it is time. */
export function noteStored(session: Session, studyInstanceUid: string | undefined): void {
  const { unaudited } = session;
  if (unaudited.instances + unaudited.refused === 0) unaudited.sinceMs = Date.now();
  if (studyInstanceUid === undefined) unaudited.refused++;
  else {
    unaudited.instances++;
    unaudited.studies.add(studyInstanceUid);
  }
  const due = unaudited.instances + unaudited.refused >= STORED_RECORD_INSTANCES;
  if (due || Date.now() - unaudited.sinceMs >= STORED_RECORD_MS) auditStored(session);
}

export function auditStored(session: Session): void {
  const { instances, refused, studies } = session.unaudited;
  if (instances + refused === 0) return;
  audit(session, {
    event: 'DICOM Instances Transferred',
    action: 'C',
    outcome: refused === 0 ? 0 : 4,
    useCase: 'dimse.c-store',
    objects: [...studies].map((id) => ({ type: 'study' as const, id })),
    detail: { instances, refused },
  });
  session.unaudited = { instances: 0, refused: 0, studies: new Set(), sinceMs: 0 };
}

export function audit(session: Session, event: Omit<AuditEvent, 'source'>): void {
  session.door.context.audit.record(session.call, {
    ...event,
    source: { aeTitle: session.association.callingAeTitle, address: session.association.peer.address },
  });
}

/** Who may not come in (PS3.15 §A.5.3.11): for good it is an alert; for now, it is our own limit. */
export function auditRejected(
  context: Context,
  rq: Pick<AssociateRq, 'callingAeTitle' | 'calledAeTitle'>,
  address: string,
  { result, source, reason }: Extract<Decision, { accept: false }>,
): void {
  const [aeTitle, called] = [rq.callingAeTitle.trim(), rq.calledAeTitle.trim()];
  const principal = { id: aeTitle, kind: 'ae', roles: [], tenant: 'main' }; // as it says: nobody was authenticated
  context.audit.record(
    { tenant: 'main', principal, requestId: ulid(), signal: NEVER },
    {
      event: result === REJECTED_PERMANENT ? 'Security Alert' : 'Application Activity',
      action: 'E',
      outcome: 4,
      useCase: 'dimse.association-rejected',
      objects: [{ type: 'system', id: called }],
      source: { aeTitle, address },
      detail: { reject: rejectWords(result, source, reason) },
    },
  );
}
const REJECTED_PERMANENT = 1; // PS3.8 Table 9-21
const NEVER = new AbortController().signal;
