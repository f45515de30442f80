import { type Header, readHeader, UNDEFINED_LENGTH } from './element.ts';
import { DicomError } from './errors.ts';
import { isVr } from './tags.ts';
import { TransferSyntaxUid, trimUid } from './uids.ts';

/** Part 10 files (PS3.10 §7): preamble, prefix, group 0002, data set. */

export const IMPLEMENTATION_CLASS_UID = '2.25.289740612574493813905216484316508720461';
export const IMPLEMENTATION_VERSION_NAME = 'GANTRY_0.1';

/** Group 0002 may carry private information (0002,0102): this much, with all else. */
export const FILE_META_BYTES_MAX = 1024 * 1024;

export interface FileMeta {
  mediaStorageSopClassUid?: string;
  mediaStorageSopInstanceUid?: string;
  transferSyntaxUid?: string;
  implementationClassUid?: string;
  implementationVersionName?: string;
  sourceAeTitle?: string;
}

export interface Part10Prefix {
  needMoreBytes?: undefined;
  hasPreamble: boolean;
  /** A preamble and group 0002 with the three UIDs that PS3.10 §7.1 asks for: can be kept as it came. */
  complete: boolean;
  meta: FileMeta;
  dataSetOffset: number;
  transferSyntaxUid: string; // as group 0002 says, or guessed
  guessed: boolean;
}
/** Call again with at least this many bytes from the file's start. */
export interface NeedMore {
  needMoreBytes: number;
}

const FIELDS: Record<number, keyof FileMeta> = {
  2: 'mediaStorageSopClassUid',
  3: 'mediaStorageSopInstanceUid',
  16: 'transferSyntaxUid',
  18: 'implementationClassUid',
  19: 'implementationVersionName',
  22: 'sourceAeTitle',
};

/**
 * Reads what stands before the data set. Tolerated: no preamble, no group 0002 at all, a missing or wrong group length, group 0002 in
 * implicit VR or, behind a preamble, in big endian. `final`: there are no more bytes.
 */
export function readPart10Prefix(file: Uint8Array, final = false): Part10Prefix | NeedMore {
  const buffer = Buffer.isBuffer(file) ? file : Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (buffer.length < 144 && !final) return { needMoreBytes: 144 };
  const hasPreamble = buffer.length >= 132 && buffer.toString('latin1', 128, 132) === 'DICM';
  let at = hasPreamble ? 132 : buffer.toString('latin1', 0, 4) === 'DICM' ? 4 : 0;

  const bigEndian = hasPreamble && buffer.length >= 134 && buffer.readUInt16BE(132) === 0x0002;
  const group = (): number => (bigEndian ? buffer.readUInt16BE(at) : buffer.readUInt16LE(at));

  const meta: FileMeta = {};
  const header: Header = { tag: 0, vr: 'UN', length: 0, strange: false, explicit: true };
  let elements = 0;
  for (;;) {
    if (buffer.length - at < 12 && !final) return more(at + 12);
    if (buffer.length - at < 8 || group() !== 0x0002) break;
    const size = readHeader(buffer, at, buffer.length, true, bigEndian, header);
    if (size === 0) throw new DicomError('truncated', 'the file ends within group 0002');
    const end = at + size + header.length;
    if (header.length === UNDEFINED_LENGTH || end > FILE_META_BYTES_MAX) {
      throw new DicomError('bad-header', `an element of ${header.length} bytes in group 0002`, { tag: header.tag });
    }
    if (end > buffer.length) {
      if (!final) return more(end);
      throw new DicomError('truncated', 'the file ends within group 0002', { tag: header.tag });
    }
    const field = FIELDS[header.tag & 0xffff];
    if (field) meta[field] = trimUid(buffer.toString('latin1', at + size, end));
    at = end;
    elements++;
  }
  if (!hasPreamble && elements === 0 && !looksLikeDataSet(buffer, at)) {
    throw new DicomError('not-dicom', 'neither a Part 10 file nor a data set');
  }
  const stated = meta.transferSyntaxUid;
  return {
    hasPreamble,
    complete: hasPreamble && !!meta.mediaStorageSopClassUid && !!meta.mediaStorageSopInstanceUid && !!stated,
    meta,
    dataSetOffset: at,
    transferSyntaxUid: stated || guessTransferSyntax(buffer, at),
    guessed: !stated,
  };
}

const more = (bytes: number): NeedMore => ({ needMoreBytes: Math.max(bytes, 144) });

function guessTransferSyntax(buffer: Buffer, at: number): string {
  if (buffer.length - at < 8 || !isVr(buffer.toString('latin1', at + 4, at + 6))) return TransferSyntaxUid.implicitLe;
  // (0008) in big endian reads as (0800), which is no group.
  return buffer.readUInt16LE(at) === 0x0800 ? TransferSyntaxUid.explicitBe : TransferSyntaxUid.explicitLe;
}

/** Without preamble and group 0002: a data set begins with group 0008, rarely another low one, and a short first value. */
function looksLikeDataSet(buffer: Buffer, at: number): boolean {
  if (buffer.length - at < 8) return false;
  const group = Math.min(buffer.readUInt16LE(at), buffer.readUInt16BE(at));
  if (group < 0x0004 || group > 0x0020) return false;
  return isVr(buffer.toString('latin1', at + 4, at + 6)) || buffer.readUInt32LE(at + 4) <= 0x10000;
}

export interface Part10Writing {
  sopClassUid: string;
  sopInstanceUid: string;
  transferSyntaxUid: string;
  sourceAeTitle?: string;
}

/** Preamble, prefix and group 0002: the same for the same input. Received UIDs are opaque, so any Latin-1 goes. */
export function writePart10Prefix(writing: Part10Writing): Buffer {
  const elements: Buffer[] = [
    longElement(0x0001, 'OB', Buffer.from([0, 1])), // File Meta Information Version
    shortElement(0x0002, 'UI', writing.sopClassUid, '\0'),
    shortElement(0x0003, 'UI', writing.sopInstanceUid, '\0'),
    shortElement(0x0010, 'UI', writing.transferSyntaxUid, '\0'),
    shortElement(0x0012, 'UI', IMPLEMENTATION_CLASS_UID, '\0'),
    shortElement(0x0013, 'SH', IMPLEMENTATION_VERSION_NAME, ' '),
  ];
  if (writing.sourceAeTitle) elements.push(shortElement(0x0016, 'AE', writing.sourceAeTitle.slice(0, 16), ' '));
  const length = Buffer.alloc(12);
  length.writeUInt16LE(0x0002, 0);
  length.write('UL', 4, 'latin1');
  length.writeUInt16LE(4, 6);
  length.writeUInt32LE(
    elements.reduce((sum, element) => sum + element.length, 0),
    8,
  );
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM', 'latin1'), length, ...elements]);
}

function shortElement(element: number, vr: string, value: string, pad: string): Buffer {
  const bytes = Buffer.from(value.length % 2 ? value + pad : value, 'latin1');
  const header = Buffer.alloc(8);
  header.writeUInt16LE(0x0002, 0);
  header.writeUInt16LE(element, 2);
  header.write(vr, 4, 'latin1');
  header.writeUInt16LE(bytes.length, 6);
  return Buffer.concat([header, bytes]);
}

function longElement(element: number, vr: string, bytes: Buffer): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16LE(0x0002, 0);
  header.writeUInt16LE(element, 2);
  header.write(vr, 4, 'latin1');
  header.writeUInt32LE(bytes.length, 8);
  return Buffer.concat([header, bytes]);
}
