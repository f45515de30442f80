import type { ErrorCode } from '#platform/errors.ts';
import { GantryError } from '#platform/errors.ts';

/** Why a data set cannot be read or written: a closed list, one row a reason. */
export const DICOM_REASONS = {
  truncated: 'unparsable', // the bytes end within a header or a value
  'length-overrun': 'unparsable', // a length reaches beyond what encloses it
  'bad-header': 'unparsable', // no element header can be read here
  'bad-delimiter': 'unparsable', // an item or delimiter that belongs to nothing
  'is-part10': 'unparsable', // a Part 10 file where a data set was expected
  deflate: 'unparsable', // the deflate stream is broken
  'not-dicom': 'unparsable', // neither Part 10 nor a data set
  'too-deep': 'unparsable', // nobody has such data sets; A700 would have it sent again and again
  'too-many-elements': 'too-large',
  'too-many-fragments': 'too-large',
  'header-too-large': 'too-large',
  'inflates-too-far': 'too-large',
  'bad-head': 'damaged', // a stored Head that cannot be decoded
  'unsupported-transfer-syntax': 'unsupported-transfer-syntax',
  'no-frames': 'not-found', // no pixel data, or the frame does not exist
  'unclear-frames': 'not-acceptable', // the places of the frames cannot be told
  'bad-value': 'invalid-argument',
  'bad-model': 'invalid-argument', // not a DICOM JSON model object
  'not-encodable': 'invalid-argument', // the character set cannot carry the text
} as const satisfies Record<string, ErrorCode>;

export type DicomReason = keyof typeof DICOM_REASONS;

/** Messages carry tags, offsets and lengths, never values: they end up in logs and answers. */
export class DicomError extends GantryError {
  readonly reason: DicomReason;

  constructor(reason: DicomReason, message: string, options: { cause?: unknown; tag?: number } = {}) {
    super(DICOM_REASONS[reason], message, {
      cause: options.cause,
      offendingElements: options.tag === undefined ? [] : [options.tag],
    });
    this.name = 'DicomError';
    this.reason = reason;
  }
}
