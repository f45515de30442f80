import { randomUUID } from 'node:crypto';
import { SOP_CLASSES, TRANSFER_SYNTAXES } from './uids.generated.ts';

/** How the data set's bytes are to be read (PS3.5 Annex A). `encapsulated`: Explicit VR LE with encapsulated pixel data. */
export type Encoding = 'implicit' | 'explicit' | 'bigEndian' | 'deflated' | 'encapsulated';

export interface TransferSyntax {
  uid: string;
  keyword: string;
  name: string;
  encoding: Encoding;
  retired: boolean;
  video: boolean; // MPEG-2, MPEG-4, HEVC: one stream, no frames to cut
  /** May carry a stored data set. Not: XML, RFC 2557, JPIP (pixels elsewhere), SMPTE ST 2110 streams. */
  storable: boolean;
}

export const TransferSyntaxUid = {
  implicitLe: '1.2.840.10008.1.2',
  explicitLe: '1.2.840.10008.1.2.1',
  encapsulatedUncompressed: '1.2.840.10008.1.2.1.98',
  deflatedLe: '1.2.840.10008.1.2.1.99',
  explicitBe: '1.2.840.10008.1.2.2',
} as const;

const ENCODINGS: Record<string, Encoding> = {
  [TransferSyntaxUid.implicitLe]: 'implicit',
  [TransferSyntaxUid.explicitLe]: 'explicit',
  [TransferSyntaxUid.deflatedLe]: 'deflated',
  [TransferSyntaxUid.explicitBe]: 'bigEndian',
  '1.2.840.10008.1.2.4.94': 'explicit', // JPIP Referenced: no pixel data inside (PS3.5 §A.6)
  '1.2.840.10008.1.2.4.95': 'deflated',
  '1.2.840.10008.1.2.4.204': 'explicit',
  '1.2.840.10008.1.2.4.205': 'deflated',
  '1.2.840.10008.1.20': 'implicit', // Papyrus 3
  '1.2.840.10008.1.2.6.1': 'explicit',
  '1.2.840.10008.1.2.6.2': 'explicit',
  '1.2.840.10008.1.2.7.1': 'explicit',
  '1.2.840.10008.1.2.7.2': 'explicit',
  '1.2.840.10008.1.2.7.3': 'explicit',
};
const NOT_STORABLE = /^1\.2\.840\.10008\.1\.2\.(6\.[12]|7\.[123])$/;

const transferSyntaxes = new Map<string, TransferSyntax>();
for (const line of TRANSFER_SYNTAXES.split('\n')) {
  const [uid, retired, keyword, name] = line.split('\t') as [string, string, string, string];
  transferSyntaxes.set(uid, {
    uid,
    keyword,
    name,
    encoding: ENCODINGS[uid] ?? 'encapsulated',
    retired: retired === 'R',
    video: /MPEG|HEVC/.test(name),
    storable: !NOT_STORABLE.test(uid),
  });
}
// In the field since the 1990s: the data set is Implicit VR Little Endian, only its pixels are big endian.
transferSyntaxes.set('1.2.840.113619.5.2', {
  uid: '1.2.840.113619.5.2',
  keyword: 'GEPrivateImplicitVRBigEndian',
  name: 'GE Private Implicit VR Big Endian',
  encoding: 'implicit',
  retired: true,
  video: false,
  storable: true,
});

export const transferSyntaxOf = (uid: string): TransferSyntax | undefined => transferSyntaxes.get(uid);
export const allTransferSyntaxes = (): TransferSyntax[] => [...transferSyntaxes.values()];

/** Of a syntax that we do not know, Explicit VR LE with encapsulated pixel data: every one since 1996 is. */
export const encodingOf = (uid: string): Encoding => transferSyntaxes.get(uid)?.encoding ?? 'encapsulated';

export type SopClassKind =
  | 'storage'
  | 'nonPatientObject' // PS3.4 Annex GG: no patient, no study
  | 'inventory' // PS3.4 Annex KK
  | 'directory' // DICOMDIR: of media, never of the network
  | 'query' // C-FIND, C-MOVE, C-GET
  | 'worklist'
  | 'verification'
  | 'commitment'
  | 'service'; // every other: print, MPPS, UPS, notification, real-time …

export interface SopClass {
  uid: string;
  keyword: string;
  name: string;
  kind: SopClassKind;
  retired: boolean;
}

/** PS3.4 Table GG.3-1. */
const NON_PATIENT = new Set([
  '1.2.840.10008.5.1.4.38.1',
  '1.2.840.10008.5.1.4.39.1',
  '1.2.840.10008.5.1.4.43.1',
  '1.2.840.10008.5.1.4.44.1',
  '1.2.840.10008.5.1.4.45.1',
  '1.2.840.10008.5.1.4.1.1.200.1',
  '1.2.840.10008.5.1.4.1.1.200.3',
  '1.2.840.10008.5.1.4.1.1.200.7',
]);
const INVENTORY = '1.2.840.10008.5.1.4.1.1.201.1';

function kindOf(uid: string, name: string): SopClassKind {
  if (uid === '1.2.840.10008.1.1') return 'verification';
  if (uid === '1.2.840.10008.1.3.10') return 'directory';
  if (uid.startsWith('1.2.840.10008.1.20.')) return 'commitment';
  if (NON_PATIENT.has(uid)) return 'nonPatientObject';
  if (uid === INVENTORY) return 'inventory';
  if (/Worklist Information Model/.test(name)) return 'worklist';
  if (/ - (FIND|MOVE|GET)$/.test(name) || /^Repository Query$/.test(name)) return 'query';
  // The storage arc, retired nameless ones included, and what is called storage elsewhere (RT Beams Delivery Instruction …).
  if (/Storage\b/.test(name)) return 'storage';
  if (uid.startsWith('1.2.840.10008.5.1.4.1.1.') && !uid.startsWith(`${INVENTORY.slice(0, -1)}`)) return 'storage';
  return 'service';
}

const sopClasses = new Map<string, SopClass>();
for (const line of SOP_CLASSES.split('\n')) {
  const [uid, retired, keyword, name] = line.split('\t') as [string, string, string, string];
  sopClasses.set(uid, { uid, keyword, name: name || uid, kind: kindOf(uid, name), retired: retired === 'R' });
}

export const sopClassOf = (uid: string): SopClass | undefined => sopClasses.get(uid);
export const allSopClasses = (): SopClass[] => [...sopClasses.values()];

/** By default every abstract syntax that is not a known non-storage class: current, retired, private, and those of tomorrow. */
export function isStorageClass(uid: string): boolean {
  const known = sopClasses.get(uid);
  return known === undefined || known.kind === 'storage';
}

/** PS3.5 §B.2: 2.25. and a UUID as a decimal. */
export const mintUid = (): string => `2.25.${BigInt(`0x${randomUUID().replaceAll('-', '')}`)}`;

/** Padding of UI is NUL; spaces occur (conformance.md). */
export const trimUid = (uid: string): string => uid.replace(/[\0 ]+$/, '').replace(/^[\0 ]+/, '');

/**
 * A received UID is opaque: 1 to 64 printable characters once its padding is off. Leading zeros, letters and inner spaces are in the
 * field; a backslash separates values and cannot be. `.` and `..` are refused: every URL library takes them for steps in a path, so an
 * address of the one instance would name the whole study.
 */
export const isAcceptableUid = (uid: string): boolean =>
  /^[\x20-\x5b\x5d-\x7e]{1,64}$/.test(uid) && trimUid(uid) === uid && !/^\.{1,2}$/.test(uid);
