// Instances that can be made again from their number: what was acknowledged is compared without being kept.
import { createHash } from 'node:crypto';
import { writePart10Prefix } from '#dicom/part10.ts';
import { encodeDataSet } from '#dicom/write.ts';

export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const EXPLICIT = '1.2.840.10008.1.2.1';

export interface MadeInstance {
  study: string;
  series: string;
  instance: string;
  dataSet: Buffer;
}

/** Mostly small, some of the size of a CT slice, a few above storage.smallLimit. */
function sizeOf(seed: number, n: number): number {
  const roll = createHash('sha256').update(`${seed}/${n}`).digest();
  const kind = roll[0]!;
  const within = roll.readUInt32LE(1) / 2 ** 32;
  if (kind < 4) return 4 * 2 ** 20 + Math.floor(within * 2 ** 20);
  if (kind < 80) return 100_000 + Math.floor(within * 500_000);
  return 500 + Math.floor(within * 20_000);
}

/** Instance `n` of a run: ten to a study, one series. */
export function makeInstance(seed: number, n: number, sizeMax = Number.POSITIVE_INFINITY): MadeInstance {
  const study = `2.25.${seed}000${Math.floor(n / 10)}1`;
  const series = `${study}.1`;
  const instance = `${series}.${n + 1}`;
  const bytes = Math.min(sizeOf(seed, n), sizeMax) & ~1;
  const rows = 2;
  const pixels = Buffer.alloc(bytes, createHash('sha256').update(`${seed}:${n}`).digest());
  const head = encodeDataSet(
    {
      '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
      '00080016': { vr: 'UI', Value: [CT] },
      '00080018': { vr: 'UI', Value: [instance] },
      '00080020': { vr: 'DA', Value: ['20260101'] },
      '00080060': { vr: 'CS', Value: ['CT'] },
      '00100010': { vr: 'PN', Value: [{ Alphabetic: `Chaos^${Math.floor(n / 10)}` }] },
      '00100020': { vr: 'LO', Value: [`C${seed}-${Math.floor(n / 100)}`] },
      '0020000D': { vr: 'UI', Value: [study] },
      '0020000E': { vr: 'UI', Value: [series] },
      '00200013': { vr: 'IS', Value: [(n % 10) + 1] },
      '00280010': { vr: 'US', Value: [rows] },
      '00280011': { vr: 'US', Value: [64] },
    },
    { transferSyntaxUid: EXPLICIT },
  );
  const header = Buffer.from([0xe0, 0x7f, 0x10, 0x00, 0x4f, 0x42, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(bytes, 8);
  return { study, series, instance, dataSet: Buffer.concat([head, header, pixels]) };
}

/** The instance as a file. */
export const part10Of = ({ instance, dataSet }: Pick<MadeInstance, 'instance' | 'dataSet'>): Buffer =>
  Buffer.concat([
    writePart10Prefix({ sopClassUid: CT, sopInstanceUid: instance, transferSyntaxUid: EXPLICIT }),
    dataSet,
  ]);
