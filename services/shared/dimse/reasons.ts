/** Why an association is refused (PS3.8 Table 9-21) or aborted (Table 9-26). */
import type { CloseReason } from './errors.ts';

/** result: 1 permanent, 2 transient; source: 1 service user, 2 provider (ACSE), 3 provider (presentation). */
export const REJECT = {
  noReason: { accept: false, result: 1, source: 1, reason: 1 },
  applicationContext: { accept: false, result: 1, source: 1, reason: 2 },
  callingAeTitle: { accept: false, result: 1, source: 1, reason: 3 },
  calledAeTitle: { accept: false, result: 1, source: 1, reason: 7 },
  /** PS3.7 §D.3.3.7 leaves the reason of a refused user identity open: no reason given, from the service user. */
  userIdentity: { accept: false, result: 1, source: 1, reason: 1 },
  protocolVersion: { accept: false, result: 1, source: 2, reason: 2 },
  temporaryCongestion: { accept: false, result: 2, source: 3, reason: 1 },
  localLimitExceeded: { accept: false, result: 2, source: 3, reason: 2 },
} as const;

const REJECT_WORDS: Record<string, string> = {
  '1/1': 'no reason given',
  '1/2': 'application context name not supported',
  '1/3': 'calling AE title not recognized',
  '1/7': 'called AE title not recognized',
  '2/1': 'no reason given (ACSE)',
  '2/2': 'protocol version not supported',
  '3/1': 'temporary congestion',
  '3/2': 'local limit exceeded',
};

export function rejectWords(result: number, source: number, reason: number): string {
  const words = REJECT_WORDS[`${source}/${reason}`] ?? 'reserved reason';
  return `${result === 2 ? 'rejected for now' : 'rejected'}: ${words} (${result}/${source}/${reason})`;
}

export function rejected({ result, source, reason }: { result: number; source: number; reason: number }): CloseReason {
  return { kind: 'rejected', detail: rejectWords(result, source, reason), result, source, reason };
}

/** Reasons of an A-ABORT whose source is the service provider (2); with source 0 (user) the reason has no meaning. */
export const ABORT = {
  notSpecified: 0,
  unrecognizedPdu: 1,
  unexpectedPdu: 2,
  unrecognizedParameter: 4,
  unexpectedParameter: 5,
  invalidParameterValue: 6,
} as const;

export const ABORT_SOURCE = { user: 0, provider: 2 } as const;

const ABORT_WORDS = [
  'reason not specified',
  'unrecognized PDU',
  'unexpected PDU',
  'reserved reason',
  'unrecognized PDU parameter',
  'unexpected PDU parameter',
  'invalid PDU parameter value',
];

export function abortWords(source: number, reason: number): string {
  if (source === ABORT_SOURCE.user) return 'aborted by its user';
  return `aborted by its provider: ${ABORT_WORDS[reason] ?? 'reserved reason'}`;
}
