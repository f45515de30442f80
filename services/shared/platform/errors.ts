/**
 * The closed list of what can go wrong, one row a code: what each door answers, whether the sender may try again, and how loudly
 * it is logged. A broken invariant is no error of this list: assert, and crash.
 */
interface ErrorRow {
  grpc: number; // google.rpc.Code
  http: number;
  dimse: number; // PS3.7 Annex C, PS3.4 Table B.2-1: what a C-STORE-RSP (or another service's) carries
  stow: number; // FailureReason (0008,1197), PS3.18 Table I.2-2
  retry: boolean; // the same request may succeed later
  level: 'debug' | 'info' | 'warn' | 'error';
}

export const ERRORS = {
  'invalid-argument': { grpc: 3, http: 400, dimse: 0xa900, stow: 0xa900, retry: false, level: 'info' },
  'identifier-mismatch': { grpc: 3, http: 409, dimse: 0xa900, stow: 0xa900, retry: false, level: 'info' },
  'missing-identifier': { grpc: 3, http: 409, dimse: 0xa900, stow: 0xa900, retry: false, level: 'info' },
  unparsable: { grpc: 3, http: 409, dimse: 0xc000, stow: 0xc000, retry: false, level: 'info' },
  'unsupported-class': { grpc: 3, http: 409, dimse: 0x0122, stow: 0x0122, retry: false, level: 'info' },
  'unsupported-transfer-syntax': { grpc: 3, http: 409, dimse: 0x0122, stow: 0xc122, retry: false, level: 'info' },
  'too-large': { grpc: 8, http: 413, dimse: 0xa700, stow: 0xa700, retry: false, level: 'info' },
  'too-broad': { grpc: 8, http: 413, dimse: 0xa700, stow: 0xa700, retry: false, level: 'info' },
  'unsupported-media-type': { grpc: 3, http: 415, dimse: 0x0122, stow: 0x0122, retry: false, level: 'info' },
  'not-acceptable': { grpc: 3, http: 406, dimse: 0x0122, stow: 0x0122, retry: false, level: 'info' },
  'not-found': { grpc: 5, http: 404, dimse: 0x0112, stow: 0x0112, retry: false, level: 'info' },
  'method-not-allowed': { grpc: 12, http: 405, dimse: 0x0122, stow: 0x0122, retry: false, level: 'info' },
  'already-exists': { grpc: 6, http: 409, dimse: 0x0111, stow: 0x0111, retry: false, level: 'info' },
  conflict: { grpc: 10, http: 409, dimse: 0x0110, stow: 0x0110, retry: true, level: 'info' },
  'failed-precondition': { grpc: 9, http: 409, dimse: 0x0110, stow: 0x0110, retry: false, level: 'info' },
  unauthenticated: { grpc: 16, http: 401, dimse: 0x0124, stow: 0x0124, retry: false, level: 'warn' },
  'permission-denied': { grpc: 7, http: 403, dimse: 0x0124, stow: 0x0124, retry: false, level: 'warn' },
  'no-permit': { grpc: 8, http: 503, dimse: 0xa700, stow: 0xa700, retry: true, level: 'warn' },
  'no-space': { grpc: 8, http: 507, dimse: 0xa700, stow: 0xa700, retry: true, level: 'error' },
  unavailable: { grpc: 14, http: 503, dimse: 0xa700, stow: 0xa700, retry: true, level: 'warn' },
  'deadline-exceeded': { grpc: 4, http: 504, dimse: 0x0110, stow: 0x0110, retry: true, level: 'warn' },
  cancelled: { grpc: 1, http: 499, dimse: 0xfe00, stow: 0x0110, retry: true, level: 'debug' },
  unimplemented: { grpc: 12, http: 501, dimse: 0x0122, stow: 0x0122, retry: false, level: 'info' },
  damaged: { grpc: 15, http: 500, dimse: 0x0110, stow: 0x0110, retry: false, level: 'error' },
  internal: { grpc: 13, http: 500, dimse: 0x0110, stow: 0x0110, retry: false, level: 'error' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** Messages say what was being done, with UIDs and sizes at the most: never patient data. */
export class GantryError extends Error {
  readonly code: ErrorCode;
  /** DICOM tags at fault (Offending Element (0000,0901)). */
  readonly offendingElements: number[];

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; offendingElements?: number[] } = {}) {
    super(message, { cause: options.cause });
    this.name = 'GantryError';
    this.code = code;
    this.offendingElements = options.offendingElements ?? [];
  }
}

/** What an unknown failure becomes where it is answered. */
export function toGantryError(error: unknown): GantryError {
  if (error instanceof GantryError) return error;
  if (error instanceof Error && error.name === 'AbortError')
    return new GantryError('cancelled', 'cancelled', { cause: error });
  if (error instanceof Error && error.name === 'TimeoutError')
    return new GantryError('deadline-exceeded', 'the time limit was reached', { cause: error });
  return new GantryError('internal', 'an unexpected failure', { cause: error });
}
