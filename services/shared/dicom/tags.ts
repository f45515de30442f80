import { ELEMENTS } from './dictionary.generated.ts';

/** PS3.5 §6.2: every VR, the class of its value, the bytes that swap with the byte order, and how explicit VR writes its length. */
export const VRS = {
  AE: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  AS: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  AT: { kind: 'number', swap: 2, long: false, pad: 0 },
  CS: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  DA: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  DS: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  DT: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  FL: { kind: 'number', swap: 4, long: false, pad: 0 },
  FD: { kind: 'number', swap: 8, long: false, pad: 0 },
  IS: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  LO: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  LT: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  OB: { kind: 'binary', swap: 1, long: true, pad: 0 },
  OD: { kind: 'binary', swap: 8, long: true, pad: 0 },
  OF: { kind: 'binary', swap: 4, long: true, pad: 0 },
  OL: { kind: 'binary', swap: 4, long: true, pad: 0 },
  OV: { kind: 'binary', swap: 8, long: true, pad: 0 },
  OW: { kind: 'binary', swap: 2, long: true, pad: 0 },
  PN: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  SH: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  SL: { kind: 'number', swap: 4, long: false, pad: 0 },
  SQ: { kind: 'sequence', swap: 1, long: true, pad: 0 },
  SS: { kind: 'number', swap: 2, long: false, pad: 0 },
  ST: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  SV: { kind: 'number', swap: 8, long: true, pad: 0 },
  TM: { kind: 'text', swap: 1, long: false, pad: 0x20 },
  UC: { kind: 'text', swap: 1, long: true, pad: 0x20 },
  UI: { kind: 'text', swap: 1, long: false, pad: 0 },
  UL: { kind: 'number', swap: 4, long: false, pad: 0 },
  UN: { kind: 'binary', swap: 1, long: true, pad: 0 },
  UR: { kind: 'text', swap: 1, long: true, pad: 0x20 },
  US: { kind: 'number', swap: 2, long: false, pad: 0 },
  UT: { kind: 'text', swap: 1, long: true, pad: 0x20 },
  UV: { kind: 'number', swap: 8, long: true, pad: 0 },
} as const satisfies Record<
  string,
  { kind: 'text' | 'number' | 'binary' | 'sequence'; swap: 1 | 2 | 4 | 8; long: boolean; pad: number }
>;

export type VR = keyof typeof VRS;

export const isVr = (s: string): s is VR => Object.hasOwn(VRS, s);

/** The tags that code names. Any other: `tagOf(keyword)`. */
export const Tag = {
  FileMetaInformationGroupLength: 0x00020000,
  MediaStorageSOPClassUID: 0x00020002,
  MediaStorageSOPInstanceUID: 0x00020003,
  TransferSyntaxUID: 0x00020010,
  SpecificCharacterSet: 0x00080005,
  InstanceCreationDate: 0x00080012,
  InstanceCreationTime: 0x00080013,
  SOPClassUID: 0x00080016,
  SOPInstanceUID: 0x00080018,
  StudyDate: 0x00080020,
  SeriesDate: 0x00080021,
  AcquisitionDate: 0x00080022,
  ContentDate: 0x00080023,
  AcquisitionDateTime: 0x0008002a,
  StudyTime: 0x00080030,
  SeriesTime: 0x00080031,
  AcquisitionTime: 0x00080032,
  ContentTime: 0x00080033,
  AccessionNumber: 0x00080050,
  IssuerOfAccessionNumberSequence: 0x00080051,
  QueryRetrieveLevel: 0x00080052,
  RetrieveAETitle: 0x00080054,
  InstanceAvailability: 0x00080056,
  FailedSOPInstanceUIDList: 0x00080058,
  Modality: 0x00080060,
  ModalitiesInStudy: 0x00080061,
  SOPClassesInStudy: 0x00080062,
  Manufacturer: 0x00080070,
  InstitutionName: 0x00080080,
  ReferringPhysicianName: 0x00080090,
  TimezoneOffsetFromUTC: 0x00080201,
  StationName: 0x00081010,
  StudyDescription: 0x00081030,
  SeriesDescription: 0x0008103e,
  NameOfPhysiciansReadingStudy: 0x00081060,
  OperatorsName: 0x00081070,
  ReferencedSOPClassUID: 0x00081150,
  ReferencedSOPInstanceUID: 0x00081155,
  RetrieveURL: 0x00081190,
  TransactionUID: 0x00081195,
  WarningReason: 0x00081196,
  FailureReason: 0x00081197,
  FailedSOPSequence: 0x00081198,
  ReferencedSOPSequence: 0x00081199,
  PatientName: 0x00100010,
  PatientID: 0x00100020,
  IssuerOfPatientID: 0x00100021,
  PatientBirthDate: 0x00100030,
  PatientSex: 0x00100040,
  OtherPatientIDs: 0x00101000,
  PatientAge: 0x00101010,
  PatientComments: 0x00104000,
  BodyPartExamined: 0x00180015,
  StudyInstanceUID: 0x0020000d,
  SeriesInstanceUID: 0x0020000e,
  StudyID: 0x00200010,
  SeriesNumber: 0x00200011,
  AcquisitionNumber: 0x00200012,
  InstanceNumber: 0x00200013,
  FrameOfReferenceUID: 0x00200052,
  Laterality: 0x00200060,
  NumberOfPatientRelatedStudies: 0x00201200,
  NumberOfPatientRelatedSeries: 0x00201202,
  NumberOfPatientRelatedInstances: 0x00201204,
  NumberOfStudyRelatedSeries: 0x00201206,
  NumberOfStudyRelatedInstances: 0x00201208,
  NumberOfSeriesRelatedInstances: 0x00201209,
  SamplesPerPixel: 0x00280002,
  PhotometricInterpretation: 0x00280004,
  NumberOfFrames: 0x00280008,
  Rows: 0x00280010,
  Columns: 0x00280011,
  BitsAllocated: 0x00280100,
  BitsStored: 0x00280101,
  PixelRepresentation: 0x00280103,
  LUTDescriptor: 0x00283002,
  LUTData: 0x00283006,
  WaveformBitsAllocated: 0x54001004,
  PerformedProcedureStepStartDate: 0x00400244,
  PerformedProcedureStepStartTime: 0x00400245,
  RequestAttributesSequence: 0x00400275,
  ScheduledProcedureStepSequence: 0x00400100,
  ScheduledProcedureStepID: 0x00400009,
  RequestedProcedureID: 0x00401001,
  DirectoryRecordSequence: 0x00041220,
  FloatPixelData: 0x7fe00008,
  DoubleFloatPixelData: 0x7fe00009,
  PixelData: 0x7fe00010,
  ExtendedOffsetTable: 0x7fe00001,
  ExtendedOffsetTableLengths: 0x7fe00002,
  DataSetTrailingPadding: 0xfffcfffc,
  Item: 0xfffee000,
  ItemDelimitationItem: 0xfffee00d,
  SequenceDelimitationItem: 0xfffee0dd,
} as const;

export interface DictionaryEntry {
  tag: number; // of a repeater: with its x digits 0
  vr: string; // one VR, or alternatives: US|SS
  vm: string;
  keyword: string;
  retired: boolean;
}

const byTag = new Map<number, DictionaryEntry>();
const byKeyword = new Map<string, DictionaryEntry>();
/** Repeating groups and elements (PS3.6 writes them 60xx3000): by mask, and then as in `byTag`. */
const repeaters: { mask: number; entries: Map<number, DictionaryEntry> }[] = [];

for (const line of ELEMENTS.split('\n')) {
  const [digits, vr, vm, keyword, retired] = line.split(' ') as [string, string, string, string, string?];
  const tag = Number.parseInt(digits.replaceAll('x', '0'), 16);
  const entry = { tag, vr, vm, keyword, retired: retired === 'R' };
  byKeyword.set(keyword, entry);
  if (!digits.includes('x')) {
    byTag.set(tag, entry);
    continue;
  }
  const mask = Number.parseInt(digits.replace(/[^x]/g, 'F').replaceAll('x', '0'), 16);
  let repeater = repeaters.find((one) => one.mask === mask);
  if (!repeater) repeaters.push((repeater = { mask, entries: new Map() }));
  repeater.entries.set(tag, entry);
}

export function dictionaryEntry(tag: number): DictionaryEntry | undefined {
  const entry = byTag.get(tag);
  if (entry || isPrivate(tag)) return entry;
  for (const { mask, entries } of repeaters) {
    const repeated = entries.get((tag & mask) >>> 0);
    if (repeated) return repeated;
  }
  return undefined;
}

export const tagOf = (keyword: string): number | undefined => byKeyword.get(keyword)?.tag;
export const keywordOf = (tag: number): string | undefined => dictionaryEntry(tag)?.keyword;

/** Odd groups are private (PS3.5 §7.8). */
export const isPrivate = (tag: number): boolean => ((tag >>> 16) & 1) === 1;
export const isGroupLength = (tag: number): boolean => (tag & 0xffff) === 0;
/** (gggg,0010-00FF) reserves a block of private elements (PS3.5 §7.8.1). */
export const isPrivateCreator = (tag: number): boolean =>
  isPrivate(tag) && (tag & 0xffff) >= 0x10 && (tag & 0xffff) <= 0xff;
/** The creator element that reserves a private element's block: (0029,1010) → (0029,0010). */
export const privateCreatorTag = (tag: number): number => ((tag & 0xffff0000) | ((tag >>> 8) & 0xff)) >>> 0;

/** What decides a VR of which PS3.6 leaves the choice (PS3.5 Annex A, PS3.3 C.7.6.3.1). */
export interface VrContext {
  pixelRepresentation?: number | undefined; // 1: signed
  waveformBitsAllocated?: number | undefined;
  lutEntries?: number | undefined; // first value of LUT Descriptor
  encapsulated?: boolean | undefined;
}

/** The VR of an element that does not say it. Unknown and private: UN. */
export function vrOf(tag: number, context: VrContext = {}): VR {
  const entry = byTag.get(tag);
  if (entry) return entry.vr.length === 2 ? (entry.vr as VR) : chooseVr(tag, entry.vr, context);
  if (isGroupLength(tag)) return 'UL';
  if (isPrivate(tag)) return isPrivateCreator(tag) ? 'LO' : 'UN';
  const repeated = dictionaryEntry(tag);
  if (!repeated) return 'UN';
  return repeated.vr.length === 2 ? (repeated.vr as VR) : chooseVr(repeated.tag, repeated.vr, context);
}

function chooseVr(tag: number, vr: string, context: VrContext): VR {
  switch (vr) {
    case 'US|SS':
      return context.pixelRepresentation === 1 ? 'SS' : 'US';
    case 'US|OW': // LUT Data: US for one entry (PS3.3 C.11.1.1), else the bytes are the same either way
      return context.lutEntries === 1 ? 'US' : 'OW';
    case 'US|SS|OW':
      return 'OW';
    case 'OB|OW':
      // PS3.5 §A.4: encapsulated is OB. Else OW, as Implicit VR has it (§A.1): in little endian the bytes are the same.
      if (tag === Tag.PixelData) return context.encapsulated ? 'OB' : 'OW';
      // Waveform (group 5400): OB when 8 bits are allocated. Overlay, curve and audio data, air counts: OW (PS3.5 §A.1).
      return tag >>> 16 === 0x5400 && context.waveformBitsAllocated === 8 ? 'OB' : 'OW';
    default:
      return 'UN'; // FFFE,xxxx: delimiters have no VR
  }
}

const HEX: string[] = Array.from({ length: 256 }, (_, n) => n.toString(16).toUpperCase().padStart(2, '0'));
/** 8 hex digits, upper case: the name of an attribute in DICOM JSON (PS3.18 §F.2.2). */
export const hexOf = (tag: number): string =>
  HEX[tag >>> 24]! + HEX[(tag >>> 16) & 0xff]! + HEX[(tag >>> 8) & 0xff]! + HEX[tag & 0xff]!;

/** `00100010` or `PatientName` (PS3.18 §8.3.4: an attribute ID). Undefined when it is neither. */
export function parseTag(id: string): number | undefined {
  if (id.length === 8 && /^[0-9A-Fa-f]{8}$/.test(id)) return Number.parseInt(id, 16);
  return tagOf(id);
}

/** PS3.18 §8.3.4.1: attributeID in dots, hex or keywords. Undefined when one is unknown; at most 16 levels. */
export function parseAttributePath(path: string): number[] | undefined {
  if (path.length > 16 * 80) return undefined;
  const tags: number[] = [];
  for (const id of path.split('.')) {
    const tag = parseTag(id);
    if (tag === undefined || tags.length === 16) return undefined;
    tags.push(tag);
  }
  return tags;
}
