// CT instances by the number: one template of a run, patched in place, so that making them costs the sender nothing.
import { randomFillSync } from 'node:crypto';
import type { JsonValue } from '#dicom/json.ts';
import { writePart10Prefix } from '#dicom/part10.ts';
import { encodeDataSet } from '#dicom/write.ts';

export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const EXPLICIT = '1.2.840.10008.1.2.1';

export interface Shape {
  /** Makes every UID of this run its own: 0…8999. */
  run: number;
  instancesPerStudy: number;
  /** 512 × 512 × 2 bytes a frame; 0: a header with 8 × 8 pixels. */
  frames: number;
}
export interface Made {
  study: string;
  series: string;
  instance: string;
  /** The data set in pieces; the first is new for each instance, the pixels are shared. */
  pieces: Buffer[];
  bytes: number;
}

const FRAME = 512 * 512 * 2;
const ROOT = '1.2.826.0.1.3680043.10.999';
const digits = (n: number): string => String(10_000_000 + n);

/** All names have the same length, whatever the number, so that they can be patched. */
export function namesOf({ run, instancesPerStudy }: Shape, n: number): Record<'study' | 'series' | 'instance', string> {
  const study = `${ROOT}.${1000 + run}.${digits(Math.floor(n / instancesPerStudy))}`;
  return { study, series: `${study}.1`, instance: `${study}.1.${digits(n)}` };
}

export function maker(shape: Shape): (n: number) => Made {
  const side = shape.frames === 0 ? 8 : 512;
  const length = shape.frames === 0 ? side * side * 2 : shape.frames * FRAME;
  const frame = randomFillSync(Buffer.allocUnsafe(Math.min(length, FRAME)));
  const pixels = Array.from({ length: Math.max(1, shape.frames) }, () => frame);
  const first = namesOf(shape, 0);
  const text = (vr: string, ...Value: JsonValue[]) => ({ vr, Value });
  const head = encodeDataSet(
    {
      '00080005': text('CS', 'ISO_IR 100'),
      '00080008': text('CS', 'ORIGINAL', 'PRIMARY', 'AXIAL'),
      '00080016': text('UI', CT),
      '00080018': text('UI', first.instance),
      '00080020': text('DA', '20260102'),
      '00080021': text('DA', '20260102'),
      '00080022': text('DA', '20260102'),
      '00080030': text('TM', '101112'),
      '00080031': text('TM', '101113'),
      '00080050': text('SH', 'A10000000'),
      '00080060': text('CS', 'CT'),
      '00080070': text('LO', 'Bench Works'),
      '00080080': text('LO', 'Hospital of Measures'),
      '00080090': text('PN', { Alphabetic: 'Doe^Refers' }),
      '00081030': text('LO', 'Chest without contrast'),
      '0008103E': text('LO', 'Axial 1.0 mm'),
      '00081090': text('LO', 'Scanner 1'),
      '00100010': text('PN', { Alphabetic: 'Bench^P10000000' }),
      '00100020': text('LO', 'P10000000'),
      '00100030': text('DA', '19700101'),
      '00100040': text('CS', 'O'),
      '00180050': text('DS', 1),
      '00180060': text('DS', 120),
      '00181151': text('IS', 200),
      '00185100': text('CS', 'HFS'),
      '0020000D': text('UI', first.study),
      '0020000E': text('UI', first.series),
      '00200010': text('SH', '1'),
      '00200011': text('IS', 1),
      '00200013': text('IS', 10_000_000),
      '00200032': text('DS', -250, -250, 100),
      '00200037': text('DS', 1, 0, 0, 0, 1, 0),
      '00200052': text('UI', `${ROOT}.1`),
      '00280002': text('US', 1),
      '00280004': text('CS', 'MONOCHROME2'),
      ...(shape.frames > 1 ? { '00280008': text('IS', shape.frames) } : {}),
      '00280010': text('US', side),
      '00280011': text('US', side),
      '00280030': text('DS', 0.97, 0.97),
      '00280100': text('US', 16),
      '00280101': text('US', 12),
      '00280102': text('US', 11),
      '00280103': text('US', 0),
      '00281050': text('DS', 40),
      '00281051': text('DS', 400),
      '00281052': text('DS', -1024),
      '00281053': text('DS', 1),
    },
    { transferSyntaxUid: EXPLICIT },
  );
  const pixelData = Buffer.from([0xe0, 0x7f, 0x10, 0x00, 0x4f, 0x57, 0, 0, 0, 0, 0, 0]);
  pixelData.writeUInt32LE(length, 8);
  const template = Buffer.concat([head, pixelData]);
  const at = (what: string, from = 0) => template.indexOf(what, from, 'latin1');
  const instanceAt = at(first.instance);
  const studyAt = at(first.study, instanceAt + first.instance.length);
  const seriesAt = at(first.series, studyAt + first.study.length);
  const [accessionAt, nameAt] = [at('A10000000'), at('P10000000')];
  const patientAt = at('P10000000', nameAt + 9);
  const numberAt = at('10000000', seriesAt + first.series.length);
  return (n) => {
    const { study, series, instance } = namesOf(shape, n);
    const piece = Buffer.from(template);
    const studyNumber = digits(Math.floor(n / shape.instancesPerStudy));
    piece.write(instance, instanceAt, 'latin1');
    piece.write(study, studyAt, 'latin1');
    piece.write(series, seriesAt, 'latin1');
    piece.write(studyNumber, accessionAt + 1, 'latin1');
    piece.write(studyNumber, nameAt + 1, 'latin1');
    piece.write(studyNumber, patientAt + 1, 'latin1');
    piece.write(digits(n), numberAt, 'latin1');
    return { study, series, instance, pieces: [piece, ...pixels], bytes: piece.length + length };
  };
}

export const part10 = (made: Made): Buffer[] => [
  writePart10Prefix({ sopClassUid: CT, sopInstanceUid: made.instance, transferSyntaxUid: EXPLICIT }),
  ...made.pieces,
];
