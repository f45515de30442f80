// Instances that nobody has ever sent: UIDs and patient of each run are its own, so that an archive may hold anything already.
import { randomBytes, randomInt } from 'node:crypto';
import type { JsonDataSet } from '#dicom/json.ts';
import { readPart10Prefix, writePart10Prefix } from '#dicom/part10.ts';
import { mintUid } from '#dicom/uids.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { type TestFile, testFiles } from '../files.ts';
import { REFUSALS } from '../refused.ts';

export const EXPLICIT = '1.2.840.10008.1.2.1';
export const IMPLICIT = '1.2.840.10008.1.2';
export const DEFLATED = '1.2.840.10008.1.2.1.99';
export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const MR = '1.2.840.10008.5.1.4.1.1.4';

/** Above storage.smallLimit (4 MiB by default): it becomes an object of its own. */
export const LARGE_BYTES = 5 * 2 ** 20;

export interface Sent {
  /** Of an instance that was made here. */
  patient?: Patient;
  study: string;
  series: string;
  sop: string;
  sopClass: string;
  transferSyntax: string;
  /** What C-STORE carries. */
  dataSet: Buffer;
  /** What STOW-RS carries. */
  part10: Buffer;
}

export interface Patient {
  id: string;
  name: string;
}
export const newPatient = (): Patient => {
  const mark = randomBytes(5).toString('hex').toUpperCase();
  return { id: `SCN-${mark}`, name: `Scenario^${mark}` };
};

export interface Making {
  /** One more of the same patient, study and series. */
  like?: Sent;
  patient?: Patient;
  study?: string;
  series?: string;
  sop?: string;
  sopClass?: string;
  pixelBytes?: number;
  /** Several make a multi-frame instance; pixelBytes is what each takes. */
  frames?: number;
  attributes?: JsonDataSet;
}

/** Pixels are random: no two instances hold the same bytes, and none compresses away. */
export function make(making: Making = {}): Sent {
  const { sopClass = CT, pixelBytes = 512, frames = 1, like } = making;
  const { patient = like?.patient ?? newPatient(), sop = mintUid() } = making;
  const { study = like?.study ?? mintUid(), series = like?.series ?? mintUid() } = making;
  const rows = pixelBytes < 2 ** 20 ? 16 : 1024;
  const dataSet = encodeDataSet(
    {
      '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
      '00080016': { vr: 'UI', Value: [sopClass] },
      '00080018': { vr: 'UI', Value: [sop] },
      '00080020': { vr: 'DA', Value: ['20240229'] },
      '00080030': { vr: 'TM', Value: ['101112'] },
      '00080050': { vr: 'SH', Value: ['A1'] },
      '00080060': { vr: 'CS', Value: [sopClass === MR ? 'MR' : 'CT'] },
      '00100010': { vr: 'PN', Value: [{ Alphabetic: patient.name }] },
      '00100020': { vr: 'LO', Value: [patient.id] },
      '0020000D': { vr: 'UI', Value: [study] },
      '0020000E': { vr: 'UI', Value: [series] },
      '00200011': { vr: 'IS', Value: [1] },
      '00200013': { vr: 'IS', Value: [1] },
      '00280002': { vr: 'US', Value: [1] },
      '00280004': { vr: 'CS', Value: ['MONOCHROME2'] },
      '00280008': { vr: 'IS', Value: [frames] },
      '00280010': { vr: 'US', Value: [rows] },
      '00280011': { vr: 'US', Value: [pixelBytes / rows] },
      '00280100': { vr: 'US', Value: [8] },
      '00280101': { vr: 'US', Value: [8] },
      '00280102': { vr: 'US', Value: [7] },
      '00280103': { vr: 'US', Value: [0] },
      ...making.attributes,
      '7FE00010': { vr: 'OB', InlineBinary: randomBytes(pixelBytes * frames).toString('base64') },
    },
    { transferSyntaxUid: EXPLICIT },
  );
  return withMeta({ patient, study, series, sop, sopClass, transferSyntax: EXPLICIT, dataSet });
}

const withMeta = (made: Omit<Sent, 'part10'>): Sent => ({
  ...made,
  part10: Buffer.concat([
    writePart10Prefix({
      sopClassUid: made.sopClass,
      sopInstanceUid: made.sop,
      transferSyntaxUid: made.transferSyntax,
    }),
    made.dataSet,
  ]),
});

/** A series, of a study of its own unless the making names one. */
export function makeSeries(count: number, making: Making = {}): Sent[] {
  const { like } = making;
  const same = {
    patient: like?.patient ?? newPatient(),
    study: like?.study ?? mintUid(),
    series: mintUid(),
    ...making,
  };
  return Array.from({ length: count }, (_, n) =>
    make({ ...same, attributes: { ...making.attributes, '00200013': { vr: 'IS', Value: [n + 1] } } }),
  );
}

const REFUSED = new Set(REFUSALS.flatMap(({ files }) => files));

/** Files that scanners and toolkits wrote, one of each transfer syntax, as instances of nobody: fresh UIDs of the same length. */
export async function realFiles(): Promise<Sent[]> {
  const { files } = await testFiles();
  const chosen = new Map<string, TestFile>();
  for (const file of files) {
    if (file.row.class !== 'storable' || !file.hasMeta || file.row.size > 2e6 || REFUSED.has(file.row.name)) continue;
    if (file.transferSyntaxUid === DEFLATED || chosen.has(file.transferSyntaxUid)) continue;
    // In fewer digits than these no UID is anybody's own.
    if ([file.studyInstanceUid, file.seriesInstanceUid, file.sopInstanceUid].some((uid) => uid.length < 30)) continue;
    chosen.set(file.transferSyntaxUid, file);
  }
  if (chosen.size < 3) throw new Error(`only ${chosen.size} real files will do`);
  return [...chosen.values()].map(renamed);
}

function renamed(file: TestFile): Sent {
  const bytes = Buffer.from(file.bytes);
  // The longest first: a study's UID may begin those below it.
  const names = [file.sopInstanceUid, file.seriesInstanceUid, file.studyInstanceUid].sort(
    (a, b) => b.length - a.length,
  );
  const fresh = new Map<string, string>();
  for (const uid of names) {
    if (!fresh.has(uid)) fresh.set(uid, uidOfLength(uid.length));
    for (let at = bytes.indexOf(uid, 0, 'latin1'); at >= 0; at = bytes.indexOf(uid, at + 1, 'latin1'))
      bytes.write(fresh.get(uid)!, at, 'latin1');
  }
  const prefix = readPart10Prefix(bytes, true);
  if (prefix.needMoreBytes !== undefined) throw new Error(`${file.row.name} lost its header`);
  return {
    study: fresh.get(file.studyInstanceUid)!,
    series: fresh.get(file.seriesInstanceUid)!,
    sop: fresh.get(file.sopInstanceUid)!,
    sopClass: file.sopClassUid,
    transferSyntax: file.transferSyntaxUid,
    dataSet: bytes.subarray(prefix.dataSetOffset),
    part10: bytes,
  };
}

/** PS3.5 §B.2: 2.25 and a number of at most 128 bits; what is longer goes on in an arc below it. */
const uidOfLength = (length: number): string => {
  const digits = (count: number) =>
    Array.from({ length: count }, (_, n) => (n === 0 ? randomInt(1, 10) : randomInt(10))).join('');
  return length <= 43 ? `2.25.${digits(length - 5)}` : `2.25.${digits(20)}.${digits(length - 26)}`;
};

/** Of a Part 10 file. */
export function dataSetOf(part10: Buffer): Buffer {
  const prefix = readPart10Prefix(part10, true);
  if (prefix.needMoreBytes !== undefined) throw new Error('no Part 10 file');
  return part10.subarray(prefix.dataSetOffset);
}
