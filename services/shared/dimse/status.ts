/** Statuses of PS3.7 Annex C and of the service classes of PS3.4 that we speak. */

export const STATUS = {
  SUCCESS: 0x0000,
  // PS3.7 Annex C
  ATTRIBUTE_LIST_ERROR: 0x0107,
  PROCESSING_FAILURE: 0x0110,
  DUPLICATE_SOP_INSTANCE: 0x0111,
  NO_SUCH_SOP_INSTANCE: 0x0112,
  NO_SUCH_EVENT_TYPE: 0x0113,
  NO_SUCH_ARGUMENT: 0x0114,
  INVALID_ARGUMENT_VALUE: 0x0115,
  ATTRIBUTE_VALUE_OUT_OF_RANGE: 0x0116,
  INVALID_SOP_INSTANCE: 0x0117,
  NO_SUCH_SOP_CLASS: 0x0118,
  CLASS_INSTANCE_CONFLICT: 0x0119,
  MISSING_ATTRIBUTE: 0x0120,
  MISSING_ATTRIBUTE_VALUE: 0x0121,
  SOP_CLASS_NOT_SUPPORTED: 0x0122,
  NO_SUCH_ACTION_TYPE: 0x0123,
  NOT_AUTHORIZED: 0x0124,
  DUPLICATE_INVOCATION: 0x0210,
  UNRECOGNIZED_OPERATION: 0x0211,
  MISTYPED_ARGUMENT: 0x0212,
  RESOURCE_LIMITATION: 0x0213,
  // PS3.4: storage (Table B.2-1), query/retrieve (C.4.1-1, C.4.2-1, C.4.3-1)
  OUT_OF_RESOURCES: 0xa700,
  UNABLE_TO_CALCULATE_MATCHES: 0xa701,
  UNABLE_TO_PERFORM_SUBOPERATIONS: 0xa702,
  MOVE_DESTINATION_UNKNOWN: 0xa801,
  DATA_SET_MISMATCH: 0xa900, // also: identifier does not match SOP class
  CANNOT_UNDERSTAND: 0xc000, // also: unable to process
  COERCION: 0xb000, // also: sub-operations complete, one or more failures or warnings
  ELEMENTS_DISCARDED: 0xb006,
  DATA_SET_MISMATCH_WARNING: 0xb007,
  CANCEL: 0xfe00,
  PENDING: 0xff00,
  PENDING_WARNING: 0xff01, // optional keys were not supported
} as const;

export type StatusKind = 'success' | 'pending' | 'cancel' | 'warning' | 'failure';

/** [from, to, kind]: PS3.7 Table C-1 classes, the first row that fits. What no row names is a failure. */
const KINDS: readonly (readonly [number, number, StatusKind])[] = [
  [0x0000, 0x0000, 'success'],
  [0x0001, 0x0001, 'warning'], // requested optional attributes are not supported
  [0x0107, 0x0107, 'warning'], // attribute list error
  [0x0116, 0x0116, 'warning'], // attribute value out of range
  [0xb000, 0xbfff, 'warning'],
  [0xff00, 0xff01, 'pending'],
  [0xfe00, 0xfe00, 'cancel'],
];

export function statusKind(status: number | undefined): StatusKind {
  if (status === undefined) return 'failure'; // a response without Status says nothing good
  for (const [from, to, kind] of KINDS) if (status >= from && status <= to) return kind;
  return 'failure';
}

/** A failed C-STORE sub-operation with 0111 has done its duty: the instance is there. It counts as a warning. */
export function storeKind(status: number | undefined): 'success' | 'warning' | 'failure' {
  if (status === STATUS.DUPLICATE_SOP_INSTANCE) return 'warning';
  const kind = statusKind(status);
  return kind === 'success' || kind === 'warning' ? kind : 'failure';
}
