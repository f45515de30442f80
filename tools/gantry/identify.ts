// What a sender must know of a file before it can offer it: class, instance, transfer syntax, and where the data set begins.
import { DataSet } from '#dicom/dataset.ts';
import { type Header, readHeader, UNDEFINED_LENGTH } from '#dicom/element.ts';
import { DicomError } from '#dicom/errors.ts';
import { type Part10Prefix, readPart10Prefix } from '#dicom/part10.ts';
import { Skimmer } from '#dicom/skim.ts';
import { Tag } from '#dicom/tags.ts';
import { encodingOf, trimUid } from '#dicom/uids.ts';

/** Group 0002 and the identifiers of nearly every file lie within this. */
export const HEAD_BYTES = 64 * 1024;
export const DICOMDIR_CLASS = '1.2.840.10008.1.3.10';

export interface Identity {
  sopClassUid: string;
  sopInstanceUid: string;
  transferSyntaxUid: string;
  dataSetOffset: number;
}

/** Nothing: this is no DICOM. */
export function prefixOf(head: Buffer, whole: boolean): Part10Prefix | undefined {
  try {
    const prefix = readPart10Prefix(head, whole);
    if (prefix.needMoreBytes === undefined) return prefix;
    return readPart10Prefix(head, true) as Part10Prefix; // group 0002 of more than 64 KiB: what there is of it has the UIDs
  } catch (error) {
    if (error instanceof DicomError) return error.reason === 'not-dicom' ? undefined : broken(head);
    throw error;
  }
}

/** A file that begins as DICOM and goes on wrong: the server says what is wrong with it. */
function broken(head: Buffer): Part10Prefix | undefined {
  if (head.toString('latin1', 128, 132) !== 'DICM') return undefined;
  const transferSyntaxUid = '1.2.840.10008.1.2.1';
  return { hasPreamble: true, complete: false, meta: {}, dataSetOffset: 132, transferSyntaxUid, guessed: true };
}

/** The UIDs of the data set; undefined: no DICOM, or one without class and instance. */
export async function identify(
  head: Buffer,
  rest: () => AsyncIterable<Buffer>,
  whole: boolean,
): Promise<Identity | 'no-dicom' | 'no-uids'> {
  const prefix = prefixOf(head, whole);
  if (prefix === undefined) return 'no-dicom';
  const { dataSetOffset, transferSyntaxUid } = prefix;
  if (trimUid(prefix.meta.mediaStorageSopClassUid ?? '') === DICOMDIR_CLASS)
    return { sopClassUid: DICOMDIR_CLASS, sopInstanceUid: '', transferSyntaxUid, dataSetOffset };
  const found =
    walk(head, dataSetOffset, transferSyntaxUid) ?? (await skimmed(rest(), dataSetOffset, transferSyntaxUid));
  if (found === undefined) return 'no-uids';
  return { ...found, transferSyntaxUid, dataSetOffset };
}

/** The plain case: group 0008 up to the SOP Instance UID, without a sequence of undefined length before it. */
function walk(head: Buffer, from: number, syntax: string): { sopClassUid: string; sopInstanceUid: string } | undefined {
  const encoding = encodingOf(syntax);
  if (encoding === 'deflated') return undefined;
  const explicit = encoding !== 'implicit';
  const header: Header = { tag: 0, vr: 'UN', length: 0, strange: false, explicit };
  let sopClassUid = '';
  for (let at = from; at < head.length; ) {
    const size = readHeader(head, at, head.length, explicit, encoding === 'bigEndian', header);
    if (size === 0 || header.tag > Tag.SOPInstanceUID || header.length === UNDEFINED_LENGTH) return undefined;
    const end = at + size + header.length;
    if (end > head.length) return undefined;
    const value = trimUid(head.toString('latin1', at + size, end));
    if (header.tag === Tag.SOPClassUID) sopClassUid = value;
    if (header.tag === Tag.SOPInstanceUID)
      return sopClassUid === '' || value === '' ? undefined : { sopClassUid, sopInstanceUid: value };
    at = end;
  }
  return undefined;
}

/** The archive's own parser over the whole file, in bounded memory. */
async function skimmed(
  file: AsyncIterable<Buffer>,
  dataSetOffset: number,
  transferSyntaxUid: string,
): Promise<{ sopClassUid: string; sopInstanceUid: string } | undefined> {
  const skimmer = new Skimmer({ transferSyntaxUid, acceptTruncatedPixelData: true });
  let skip = dataSetOffset;
  try {
    for await (const chunk of file) {
      if (skip >= chunk.length) skip -= chunk.length;
      else {
        skimmer.write(skip === 0 ? chunk : chunk.subarray(skip));
        skip = 0;
      }
    }
    const header = new DataSet(skimmer.end());
    const sopClassUid = header.string(Tag.SOPClassUID);
    const sopInstanceUid = header.string(Tag.SOPInstanceUID);
    return sopClassUid === undefined || sopInstanceUid === undefined ? undefined : { sopClassUid, sopInstanceUid };
  } catch (error) {
    if (error instanceof DicomError) return undefined; // it cannot be offered without its UIDs
    throw error;
  }
}
