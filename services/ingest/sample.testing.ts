/** For tests: data sets in Explicit VR Little Endian, written by hand so that they owe nothing to the code under test. */
export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const EXPLICIT = '1.2.840.10008.1.2.1';

export function element(tag: number, vr: string, value: string | Buffer, pad = vr === 'UI' ? '\0' : ' '): Buffer {
  let bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  if (bytes.length % 2) bytes = Buffer.concat([bytes, Buffer.from(pad)]);
  const long = ['OB', 'OW', 'UN', 'SQ', 'UT'].includes(vr);
  const header = Buffer.alloc(long ? 12 : 8);
  header.writeUInt16LE(tag >>> 16, 0);
  header.writeUInt16LE(tag & 0xffff, 2);
  header.write(vr, 4, 'latin1');
  if (long) header.writeUInt32LE(bytes.length, 8);
  else header.writeUInt16LE(bytes.length, 6);
  return Buffer.concat([header, bytes]);
}

export interface Sample {
  sopClassUid?: string | undefined;
  sopInstanceUid?: string | undefined;
  studyInstanceUid?: string | undefined;
  seriesInstanceUid?: string | undefined;
  pixelBytes?: number;
  after?: Buffer;
}

/** undefined: left out. */
export function dataSet(sample: Sample = {}): Buffer {
  const of = {
    sopClassUid: CT,
    sopInstanceUid: '1.2.3.4',
    studyInstanceUid: '1.2.3',
    seriesInstanceUid: '1.2.3.1',
    ...sample,
  };
  const uid = (tag: number, value: string | undefined) => (value === undefined ? [] : [element(tag, 'UI', value)]);
  return Buffer.concat([
    ...uid(0x00080016, of.sopClassUid),
    ...uid(0x00080018, of.sopInstanceUid),
    element(0x00100010, 'PN', 'SECRET^PATIENT'),
    element(0x00100020, 'LO', 'SECRETID'),
    ...uid(0x0020000d, of.studyInstanceUid),
    ...uid(0x0020000e, of.seriesInstanceUid),
    element(0x7fe00010, 'OW', pixels(of.pixelBytes ?? 1000)),
    of.after ?? Buffer.alloc(0),
  ]);
}

/** Not all alike, so that a chunk lost or doubled shows. */
export function pixels(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE((i * 2654435761) >>> 0, i);
  return bytes;
}

/** Preamble and file meta of another implementation than ours. */
export function part10(
  data: Buffer,
  of: { sopClassUid?: string; sopInstanceUid?: string; transferSyntaxUid?: string } = {},
): Buffer {
  const meta = Buffer.concat([
    element(0x00020001, 'OB', Buffer.from([0, 1])),
    element(0x00020002, 'UI', of.sopClassUid ?? CT),
    element(0x00020003, 'UI', of.sopInstanceUid ?? '1.2.3.4'),
    element(0x00020010, 'UI', of.transferSyntaxUid ?? EXPLICIT),
    element(0x00020012, 'UI', '1.2.826.0.1.3680043.9'),
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(meta.length);
  return Buffer.concat([Buffer.alloc(128, 0x61), Buffer.from('DICM'), element(0x00020000, 'UL', length), meta, data]);
}

export async function* chunked(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
