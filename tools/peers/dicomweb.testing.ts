// Instances as small as they can be, and STOW-RS and multipart as small as they can be read.
import { writePart10Prefix } from '#dicom/part10.ts';
import { mintUid } from '#dicom/uids.ts';
import { encodeDataSet } from '#dicom/write.ts';
import type { GantryServer } from './server.ts';
import { stowRequest } from './stow-request.ts';

export const SC = '1.2.840.10008.5.1.4.1.1.7';
export const EXPLICIT = '1.2.840.10008.1.2.1';
export const IMPLICIT = '1.2.840.10008.1.2';
export const JPEG = '1.2.840.10008.1.2.4.50';
export const VIDEO = '1.2.840.10008.1.2.4.102';

export interface Made {
  study: string;
  series: string;
  instance: string;
  bytes: Buffer;
}

export function make(
  options: {
    study?: string;
    series?: string;
    transferSyntaxUid?: string;
    name?: string;
    extra?: Record<string, { vr: string; Value?: unknown[]; InlineBinary?: string }>;
  } = {},
): Made {
  const { study = mintUid(), series = mintUid(), transferSyntaxUid = EXPLICIT, name = 'Curie^Marie' } = options;
  const instance = mintUid();
  const compressed = transferSyntaxUid === JPEG || transferSyntaxUid === VIDEO;
  const dataSet = encodeDataSet(
    {
      '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
      '00080016': { vr: 'UI', Value: [SC] },
      '00080018': { vr: 'UI', Value: [instance] },
      '00080060': { vr: 'CS', Value: ['OT'] },
      '00100010': { vr: 'PN', Value: [{ Alphabetic: name }] },
      '00100020': { vr: 'LO', Value: ['P-1'] },
      '0020000D': { vr: 'UI', Value: [study] },
      '0020000E': { vr: 'UI', Value: [series] },
      '00280002': { vr: 'US', Value: [1] },
      '00280008': { vr: 'IS', Value: [2] },
      '00280010': { vr: 'US', Value: [4] },
      '00280011': { vr: 'US', Value: [4] },
      '00280100': { vr: 'US', Value: [8] },
      '00280101': { vr: 'US', Value: [8] },
      '00280102': { vr: 'US', Value: [7] },
      '00280103': { vr: 'US', Value: [0] },
      '00280004': { vr: 'CS', Value: ['MONOCHROME2'] },
      ...options.extra,
      ...(compressed
        ? {}
        : {
            '7FE00010': {
              vr: 'OB',
              InlineBinary: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64'),
            },
          }),
    } as never,
    { transferSyntaxUid: compressed ? EXPLICIT : transferSyntaxUid },
  );
  // One fragment a frame, after an empty offset table (PS3.5 §A.4).
  const item = (bytes: Buffer) => Buffer.concat([Buffer.from([0xfe, 0xff, 0x00, 0xe0]), u32(bytes.length), bytes]);
  const pixels = compressed
    ? [
        Buffer.from([0xe0, 0x7f, 0x10, 0x00, 0x4f, 0x42, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        item(Buffer.alloc(0)),
        item(Buffer.from('ffd8first!ffd9')),
        item(Buffer.from('ffd8second-ffd9!')),
        Buffer.from([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]),
      ]
    : [];
  const bytes = Buffer.concat([
    writePart10Prefix({ sopClassUid: SC, sopInstanceUid: instance, transferSyntaxUid }),
    dataSet,
    ...pixels,
  ]);
  return { study, series, instance, bytes };
}
const u32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
};

export async function stow(
  server: GantryServer,
  parts: Buffer[],
  path = '/studies',
  headers: Record<string, string> = {},
): Promise<{ status: number; json: Record<string, { Value?: Record<string, { Value?: unknown[] }>[] }> }> {
  const request = stowRequest(parts);
  const answer = await fetch(`${server.dicomWeb}${path}`, { ...request, headers: { ...request.headers, ...headers } });
  const text = await answer.text();
  return { status: answer.status, json: text === '' ? {} : JSON.parse(text) };
}

export const pathOf = (made: Made): string => `/studies/${made.study}/series/${made.series}/instances/${made.instance}`;

/** The parts of a multipart/related body. */
export function partsOf(contentType: string, body: Buffer): { headers: string; bytes: Buffer }[] {
  const boundary = /boundary="?([^";]+)"?/.exec(contentType)![1]!;
  const parts: { headers: string; bytes: Buffer }[] = [];
  let at = body.indexOf(`--${boundary}`);
  for (;;) {
    const start = at + boundary.length + 2;
    if (body.toString('latin1', start, start + 2) === '--') return parts;
    const end = body.indexOf(`\r\n--${boundary}`, start);
    const head = body.indexOf('\r\n\r\n', start);
    parts.push({ headers: body.toString('latin1', start + 2, head), bytes: body.subarray(head + 4, end) });
    at = end + 2;
  }
}
