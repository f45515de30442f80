import { Part10Digest } from '#dicom/digest.ts';
import { encodeHead } from '#dicom/head.ts';
import { writePart10Prefix } from '#dicom/part10.ts';
import { skim } from '#dicom/skim.ts';
import { encodeDataSet } from '#dicom/write.ts';
import type { Call } from '#platform/call.ts';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import type { Instance } from '#proto/storage/v1/log.ts';
import type { AppendInstanceResponse } from '#proto/storage/v1/storage.ts';

const EXPLICIT_LE = '1.2.840.10008.1.2.1';
const CT = '1.2.840.10008.5.1.4.1.1.2';

export interface Made {
  study: string;
  series: string;
  sop: string;
  number?: number;
  patientId?: string;
  patientName?: string;
  accession?: string;
  modality?: string;
  /** Another picture, another version. */
  pixel?: number;
  more?: Record<string, { vr: string; Value?: unknown[] }>;
}

/** A small CT instance with pixels, as a file and as its log entry. */
export function makeInstance(made: Made): { instance: Instance; file: Buffer } {
  const element = (vr: string, ...values: (string | number)[]) => ({ vr, Value: values });
  const dataSet = encodeDataSet(
    {
      '00080005': element('CS', 'ISO_IR 192'),
      '00080016': element('UI', CT),
      '00080018': element('UI', made.sop),
      '00080020': element('DA', '20260102'),
      '00080030': element('TM', '101500'),
      '00080050': element('SH', made.accession ?? 'ACC1'),
      '00080060': element('CS', made.modality ?? 'CT'),
      '00080070': element('LO', 'Maker'),
      '00080090': { vr: 'PN', Value: [{ Alphabetic: 'Ref^Physician' }] },
      '00081030': element('LO', 'Thorax'),
      '0008103E': element('LO', 'Axial'),
      '00100010': { vr: 'PN', Value: [{ Alphabetic: made.patientName ?? 'Doe^Jane' }] },
      '00100020': element('LO', made.patientId ?? 'P1'),
      '00100030': element('DA', '19700101'),
      '00100040': element('CS', 'F'),
      '0020000D': element('UI', made.study),
      '0020000E': element('UI', made.series),
      '00200010': element('SH', '1'),
      '00200011': element('IS', 1),
      '00200013': element('IS', made.number ?? 1),
      '00200032': element('DS', -120.5, -120.5, (made.number ?? 1) * 1.25),
      '00280002': element('US', 1),
      '00280004': element('CS', 'MONOCHROME2'),
      '00280010': element('US', 32),
      '00280011': element('US', 32),
      '00280100': element('US', 16),
      '00280101': element('US', 12),
      '00280102': element('US', 11),
      '00280103': element('US', 0),
      '7FE00010': { vr: 'OW', InlineBinary: Buffer.alloc(2048, made.pixel ?? 0).toString('base64') },
      ...(made.more ?? {}),
    } as never,
    { transferSyntaxUid: EXPLICIT_LE },
  );
  const prefix = writePart10Prefix({ sopClassUid: CT, sopInstanceUid: made.sop, transferSyntaxUid: EXPLICIT_LE });
  const file = Buffer.concat([prefix, dataSet]);
  const { version, digest } = new Part10Digest(EXPLICIT_LE, prefix.length).update(file).finish();
  const instance: Instance = {
    studyInstanceUid: made.study,
    seriesInstanceUid: made.series,
    sopInstanceUid: made.sop,
    sopClassUid: CT,
    transferSyntaxUid: EXPLICIT_LE,
    version,
    digest,
    place: { object: '', offset: 0, length: file.length, encoding: 0 },
    dataSetOffset: prefix.length,
    head: encodeHead(skim(dataSet, EXPLICIT_LE)),
    source: { door: 'DIMSE', callingAeTitle: 'CT1', calledAeTitle: 'GANTRY', address: '127.0.0.1', defaultCharset: '' },
  };
  return { instance, file };
}

export async function storeInstance(context: Context, call: Call, made: Made): Promise<AppendInstanceResponse> {
  const { instance, file } = makeInstance(made);
  return (await context.bulk(BULK.appendInstance)(call, { instance }, [file])).response;
}

export async function collect<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const row of rows) all.push(row);
  return all;
}
