import { DicomError } from './errors.ts';
import { Tag, type VR, VRS } from './tags.ts';

/** Element, item and delimiter headers in little endian (PS3.5 §7.1, §7.5). */

/** A header in little endian. A short VR that cannot state its length becomes UN (PS3.5 §6.2.2 Note 1). */
export function elementHeader(tag: number, vr: VR, length: number, explicit: boolean): Buffer {
  if (length > 0xffffffff) throw new DicomError('bad-model', 'a value longer than an element can be', { tag });
  const written = !VRS[vr].long && length > 0xffff ? 'UN' : vr;
  const header = Buffer.alloc(explicit && VRS[written].long ? 12 : 8);
  header.writeUInt16LE(tag >>> 16, 0);
  header.writeUInt16LE(tag & 0xffff, 2);
  if (!explicit) header.writeUInt32LE(length, 4);
  else {
    header.write(written, 4, 'latin1');
    if (VRS[written].long) header.writeUInt32LE(length, 8);
    else header.writeUInt16LE(length, 6);
  }
  return header;
}

export function itemHeader(length: number): Buffer {
  const header = delimiter(Tag.Item);
  header.writeUInt32LE(length, 4);
  return header;
}

export function delimiter(tag: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16LE(tag >>> 16, 0);
  header.writeUInt16LE(tag & 0xffff, 2);
  return header;
}
