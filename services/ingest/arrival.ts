import { type Header, readHeader, UNDEFINED_LENGTH } from '#dicom/element.ts';
import { type Part10Prefix, readPart10Prefix, writePart10Prefix } from '#dicom/part10.ts';
import { Tag } from '#dicom/tags.ts';
import { encodingOf, trimUid } from '#dicom/uids.ts';
import type { StoreRequest } from '#proto/ingest/v1/ingest.ts';
import type { Gathered } from './gathered.ts';
import type { Pull } from './pull.ts';
import type { Identifiers, Stated } from './validate.ts';

/** What arrived, split where the data set begins. */
export interface Opened {
  /** What the sender said beside the data set; undefined: nothing. */
  stated: Stated | undefined;
  transferSyntaxUid: string;
  /** The first bytes of the data set, pulled already. */
  dataSet: Buffer;
  /** For the decision between small and large. */
  prefixLength: number;
  /** Preamble, DICM and file meta, as received or written by us. `identifiers` are absent while the data set is still coming. */
  prefix(gathered: Gathered, identifiers?: Identifiers): Buffer;
}

const NOTHING = Buffer.alloc(0);
/** A preamble and a file meta of ours are never longer: five UIDs. */
const OWN_PREFIX_BYTES = 640;

/** C-STORE (PS3.7 §9.1.1) carries no group 0002: we write it, from the command set. */
export function fromDataSet(request: StoreRequest): Opened {
  const stated: Stated = {
    by: 'command set',
    sopClassUid: trimUid(request.sopClassUid),
    sopInstanceUid: trimUid(request.sopInstanceUid),
    transferSyntaxUid: trimUid(request.transferSyntaxUid),
  };
  return {
    stated,
    transferSyntaxUid: stated.transferSyntaxUid,
    dataSet: NOTHING,
    prefixLength: OWN_PREFIX_BYTES,
    prefix: () => writePart10Prefix({ ...stated, sourceAeTitle: request.source?.callingAeTitle }),
  };
}

/** A Part 10 file (PS3.10 §7), or a data set in a file: which transfer syntax it is in is then told from its first element. */
export async function fromPart10(pull: Pull): Promise<Opened> {
  let bytes: Buffer = NOTHING;
  for (let wanted = 1; ; ) {
    const joined = await pullAtLeast(pull, bytes, wanted);
    bytes = joined.bytes;
    const found = readPart10Prefix(bytes, joined.ended);
    if (found.needMoreBytes === undefined) return openedFile(found, bytes);
    // At least doubled: a file meta in one-byte chunks must not cost the square of its length.
    wanted = Math.max(found.needMoreBytes, 2 * bytes.length);
  }
}

async function pullAtLeast(pull: Pull, first: Buffer, length: number): Promise<{ bytes: Buffer; ended: boolean }> {
  const pieces = first.length > 0 ? [first] : [];
  let have = first.length;
  let ended = false;
  while (have < length) {
    const { done, value } = await pull.next();
    if ((ended = done === true)) break;
    pieces.push(value);
    have += value.length;
  }
  return { bytes: pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces), ended };
}

function openedFile(found: Part10Prefix, bytes: Buffer): Opened {
  const { meta, transferSyntaxUid, dataSetOffset } = found;
  const received = bytes.subarray(0, dataSetOffset);
  const anything =
    dataSetOffset > 0 && (meta.mediaStorageSopInstanceUid || meta.mediaStorageSopClassUid || meta.transferSyntaxUid);
  const stated: Stated | undefined = anything
    ? {
        by: 'file meta',
        sopClassUid: meta.mediaStorageSopClassUid ?? '',
        sopInstanceUid: meta.mediaStorageSopInstanceUid ?? '',
        transferSyntaxUid,
      }
    : undefined;
  return {
    stated,
    transferSyntaxUid,
    dataSet: bytes.subarray(dataSetOffset),
    prefixLength: found.complete ? received.length : OWN_PREFIX_BYTES,
    prefix(gathered, identifiers) {
      if (found.complete) return received;
      const named = identifiers ?? firstIdentifiers(gathered, transferSyntaxUid);
      return writePart10Prefix({
        sopClassUid: named.sopClassUid || (stated?.sopClassUid ?? ''),
        sopInstanceUid: named.sopInstanceUid || (stated?.sopInstanceUid ?? ''),
        transferSyntaxUid,
      });
    },
  };
}

/**
 * The two UIDs of a file meta that has to be written before the data set is all here: they stand among the first elements
 * (PS3.5 §7.1: ascending tags). What is not found stays empty, and is refused or agreed upon at the end like any other.
 */
function firstIdentifiers(
  gathered: Gathered,
  transferSyntaxUid: string,
): { sopClassUid: string; sopInstanceUid: string } {
  const uids = { sopClassUid: '', sopInstanceUid: '' };
  const encoding = encodingOf(transferSyntaxUid);
  if (encoding === 'deflated') return uids;
  const buffer = Buffer.concat(gathered.buffers.slice(0, 16)).subarray(0, FIRST_ELEMENTS_BYTES);
  const header: Header = { tag: 0, vr: 'UN', length: 0, strange: false, explicit: true };
  for (let at = 0; ; ) {
    const size = readHeader(buffer, at, buffer.length, encoding !== 'implicit', encoding === 'bigEndian', header);
    const end = at + size + header.length;
    if (size === 0 || header.length === UNDEFINED_LENGTH || header.tag > Tag.SOPInstanceUID || end > buffer.length)
      return uids;
    if (header.tag === Tag.SOPClassUID) uids.sopClassUid = trimUid(buffer.toString('latin1', at + size, end));
    if (header.tag === Tag.SOPInstanceUID) uids.sopInstanceUid = trimUid(buffer.toString('latin1', at + size, end));
    at = end;
  }
}
const FIRST_ELEMENTS_BYTES = 64 * 1024;
