import { writePart10Prefix } from '#dicom/part10.ts';
import { canReencode, reencode } from '#dicom/reencode.ts';
import { encodingOf } from '#dicom/uids.ts';
import type { Call } from '#platform/call.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from './read.ts';

export const IMPLICIT_VR_LITTLE_ENDIAN = '1.2.840.10008.1.2';
export const EXPLICIT_VR_LITTLE_ENDIAN = '1.2.840.10008.1.2.1';

/** As an instance goes out: its stored bytes, or re-encoded. Codec transcoding comes with `render`. */
export type Representation = { transferSyntaxUid: string; asStored: boolean };

/** Whether pixels of this syntax are compressed: then only `render` could change it. */
export const isEncapsulated = (transferSyntaxUid: string): boolean => encodingOf(transferSyntaxUid) === 'encapsulated';

/** How an instance can be given in the syntax asked for ('*': as stored), or undefined. */
export function represent(located: Located, asked: string): Representation | undefined {
  const stored = located.transferSyntaxUid;
  if (asked === '*' || asked === stored) return { transferSyntaxUid: stored, asStored: true };
  return canReencode(stored, asked) ? { transferSyntaxUid: asked, asStored: false } : undefined;
}

/** The data set (no group 0002) in the given representation. */
export function dataSetBytes(reader: Reader, call: Call, located: Located, as: Representation): AsyncIterable<Buffer> {
  const stored = reader.read(call, located, { start: located.dataSetOffset, end: reader.fileLength(located) });
  return as.asStored ? stored : reencode(stored, located.transferSyntaxUid, as.transferSyntaxUid);
}

/** The Part 10 file in the given representation: the kept file itself where nothing changes. */
export async function* part10Bytes(
  reader: Reader,
  call: Call,
  located: Located,
  as: Representation,
): AsyncGenerator<Buffer> {
  if (as.asStored) {
    yield* reader.read(call, located);
    return;
  }
  yield writePart10Prefix({
    sopClassUid: located.sopClassUid,
    sopInstanceUid: located.sopInstanceUid,
    transferSyntaxUid: as.transferSyntaxUid,
  });
  yield* dataSetBytes(reader, call, located, as);
}
