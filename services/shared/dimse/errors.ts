/** How an association ends, and the one error of this library. Details never hold attribute values of a data set. */

export type CloseKind =
  | 'released' // A-RELEASE, either side
  | 'rejected' // A-ASSOCIATE-RJ, either side
  | 'aborted-by-peer' // A-ABORT received
  | 'aborted' // we sent A-ABORT (or just closed, before there was an association)
  | 'timeout' // one of our deadlines passed (`limit` names it); the peer got an A-ABORT
  | 'protocol-error' // the peer broke PS3.7 or PS3.8; it got an A-ABORT
  | 'connection-lost'; // TCP closed or failed without release

export interface CloseReason {
  kind: CloseKind;
  detail: string; // what happened, in words, free of patient data
  limit?: string; // the name of the limit (limits.ts) that was reached
  result?: number; // A-ASSOCIATE-RJ
  source?: number; // A-ASSOCIATE-RJ, A-ABORT
  reason?: number;
}

export type AssociationErrorCode =
  | CloseKind
  | 'connect-failed' // no TCP or TLS connection
  | 'no-context' // no accepted presentation context fits
  | 'too-large' // a data set is longer than the caller wanted
  | 'cancelled'; // the caller's signal

export class AssociationError extends Error {
  readonly code: AssociationErrorCode;
  readonly closeReason?: CloseReason;

  constructor(
    code: AssociationErrorCode,
    message: string,
    options: { cause?: unknown; closeReason?: CloseReason } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'AssociationError';
    this.code = code;
    this.closeReason = options.closeReason;
  }
}

export function closedError(reason: CloseReason): AssociationError {
  return new AssociationError(reason.kind, `association ended: ${reason.detail}`, { closeReason: reason });
}
