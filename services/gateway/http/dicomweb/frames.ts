import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { framePlaces } from '#dicom/frames.ts';
import { decodeHead, type Head } from '#dicom/head.ts';
import { encodingOf } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { Settings } from '#platform/module.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN } from '../../representation.ts';
import { covers, type MediaRange } from '../accept.ts';
import { byteSwapped, pixelGeometry, shifted } from './pixels.ts';
import { notFound, type Part, sendParts, sendRanged } from './respond.ts';
import { etagOf, levelOf, locateRequest, rangesOf } from './retrieve.ts';
import { createValueReader } from './value-bytes.ts';

const OCTETS = 'application/octet-stream';

/** PS3.18 Table 8.7.3-5: the media type of a compressed frame. */
export const MEDIA_TYPES: Record<string, string> = {
  '1.2.840.10008.1.2.4.50': 'image/jpeg',
  '1.2.840.10008.1.2.4.51': 'image/jpeg',
  '1.2.840.10008.1.2.4.57': 'image/jpeg',
  '1.2.840.10008.1.2.4.70': 'image/jpeg',
  '1.2.840.10008.1.2.5': 'image/dicom-rle',
  '1.2.840.10008.1.2.4.80': 'image/jls',
  '1.2.840.10008.1.2.4.81': 'image/jls',
  '1.2.840.10008.1.2.4.90': 'image/jp2',
  '1.2.840.10008.1.2.4.91': 'image/jp2',
  '1.2.840.10008.1.2.4.92': 'image/jpx',
  '1.2.840.10008.1.2.4.93': 'image/jpx',
  '1.2.840.10008.1.2.4.110': 'image/jxl',
  '1.2.840.10008.1.2.4.111': 'image/jxl',
  '1.2.840.10008.1.2.4.112': 'image/jxl',
  '1.2.840.10008.1.2.4.201': 'image/jphc',
  '1.2.840.10008.1.2.4.202': 'image/jphc',
  '1.2.840.10008.1.2.4.203': 'image/jphc',
  '1.2.840.10008.1.2.4.100': 'video/mpeg',
  '1.2.840.10008.1.2.4.101': 'video/mpeg',
  '1.2.840.10008.1.2.4.102': 'video/mp4',
  '1.2.840.10008.1.2.4.103': 'video/mp4',
  '1.2.840.10008.1.2.4.104': 'video/mp4',
  '1.2.840.10008.1.2.4.105': 'video/mp4',
  '1.2.840.10008.1.2.4.106': 'video/mp4',
  '1.2.840.10008.1.2.4.107': 'video/H265',
  '1.2.840.10008.1.2.4.108': 'video/H265',
};

/** Names that the standard has given up, and clients still send (PS3.18 2016 and before). */
const FORMER_TYPES: Record<string, string> = {
  'image/x-dicom-rle': 'image/dicom-rle',
  'image/dicom+rle': 'image/dicom-rle',
  'image/x-jls': 'image/jls',
  'image/dicom+jpeg-ls': 'image/jls',
  'image/dicom+jpeg': 'image/jpeg',
  'image/dicom+jp2': 'image/jp2',
  'image/dicom+jpx': 'image/jpx',
  'image/j2c': 'image/jp2',
  'video/mpeg2': 'video/mpeg',
};

/** The frame numbers of a path: `1,2,3`, counted from one. However large, a number is a frame that is not there: 404, and not 400. */
export function parseFrameList(text: string, framesMax: number): number[] {
  const numbers = text.split(',').map((one) => (/^\d+$/.test(one.trim()) ? Number(one) : 0));
  if (numbers.some((number) => number < 1))
    throw new GantryError('invalid-argument', 'frames are numbers from 1, separated by commas');
  if (numbers.length > framesMax)
    throw new GantryError('invalid-argument', `more than http.framesMax (${framesMax}) frames in one request`);
  return numbers;
}

/** How pixels go out: which media type, and in which syntax. */
export function choosePixelType(
  stored: string,
  ranges: readonly MediaRange[],
): { type: string; range: MediaRange; native: boolean } {
  const native = encodingOf(stored) !== 'encapsulated';
  const compressed = MEDIA_TYPES[stored];
  for (const said of ranges) {
    const range = { ...said, type: FORMER_TYPES[said.type] ?? said.type };
    const asked = range.transferSyntax;
    if (native) {
      // Pixels of every native syntax are the same little endian octets (PS3.18 §8.7.3.3.2).
      if (
        covers(range, OCTETS) &&
        (asked === undefined || asked === '*' || asked === EXPLICIT_VR_LITTLE_ENDIAN || asked === stored)
      )
        return { type: OCTETS, range, native };
      continue;
    }
    const asStored = asked === '*' || asked === stored || (asked === undefined && range.type !== OCTETS); // which by itself means Explicit VR Little Endian; a wildcard takes it with any parameter
    if (!asStored) continue;
    if (compressed !== undefined && covers(range, compressed)) return { type: compressed, range, native };
    if (covers(range, OCTETS)) return { type: OCTETS, range, native };
  }
  throw new GantryError(
    'not-acceptable',
    `these frames are kept in transfer syntax ${stored}${compressed ? ` (${compressed})` : ''}: ask for transfer-syntax=*; this release does not decode or render`,
  );
}

/** The one instance of a path, with its head. */
export async function locateWithHead(
  reader: Reader,
  request: FastifyRequest,
): Promise<{ located: Located; head: Head }> {
  const [located] = await reader.locate(request.call, { ...locateRequest(levelOf(request)), withHead: true });
  if (located === undefined) throw notFound('this instance');
  return { located, head: decodeHead(located.head) };
}

/** WADO-RS frames (PS3.18 §10.4.1.1.6): ranges of the kept bytes, never decoded. */
export function frameRoutes(app: FastifyInstance, reader: Reader, settings: Settings): void {
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const numbers = parseFrameList((request.params as { frames: string }).frames, settings.number('http.framesMax'));
    const { located, head } = await locateWithHead(reader, request);
    if (head.pixel === undefined) throw new GantryError('not-found', 'this instance has no pixel data');
    const asked = rangesOf(request);
    const ranges = numbers.length === 1 ? asked : asked.filter((one) => one.multipart || one.type === '*/*');
    if (ranges.length === 0) throw new GantryError('not-acceptable', 'several frames need multipart/related');
    const { type, range, native } = choosePixelType(located.transferSyntaxUid, ranges);
    const places = framePlaces(head);
    const beyond = numbers.find((number) => number > places.count);
    if (beyond !== undefined) throw new GantryError('not-found', `this instance has ${places.count} frames`);
    const values = createValueReader(reader, request.call, reply)(located, head);
    const syntax = native ? EXPLICIT_VR_LITTLE_ENDIAN : located.transferSyntaxUid;
    const swap = encodingOf(located.transferSyntaxUid) === 'bigEndian' ? pixelGeometry(head).wordBytes : 1;

    const frames = numbers.map((number) => {
      const place = places.place(number - 1);
      const length = place.ranges.reduce((sum, one) => sum + one.length, 0);
      const raw = () => values.ranges(place.ranges);
      const body = () =>
        place.bitShift !== undefined && place.bitShift > 0
          ? shifted(raw(), place.bitShift, pixelGeometry(head).frameBits)
          : swap > 1
            ? byteSwapped(raw(), swap)
            : raw();
      return { number, length: place.bitShift ? pixelGeometry(head).frameBytes : length, body, place };
    });
    const content = `${type}; transfer-syntax=${syntax}`;
    const only = frames[0]!;
    if (!range.multipart && range.type !== '*/*' && frames.length === 1) {
      if (swap > 1 || only.place.bitShift) {
        reply.header('Content-Type', content).header('ETag', etagOf(located, `-f${only.number}`));
        const chunks: Buffer[] = [];
        for await (const chunk of only.body()) chunks.push(chunk);
        return reply.send(Buffer.concat(chunks));
      }
      return sendRanged(request, reply, {
        type: content,
        etag: etagOf(located, `-f${only.number}`),
        length: only.length,
        read: (start, end) => values.ranges(within(only.place.ranges, start, end)),
      });
    }
    const base = request.url.split('?')[0]!.replace(/\/frames\/[^/]*$/, '/frames');
    const parts: Part[] = frames.map((frame) => ({
      headers: { 'Content-Type': content, 'Content-Location': `${base}/${frame.number}` },
      length: frame.length,
      body: frame.body,
    }));
    return sendParts(reply, type, parts, `; transfer-syntax=${syntax}`);
  };
  const config = { useCase: 'http.wado.frames', event: 'DICOM Instances Accessed', action: 'R' } as const;
  app.get('/studies/:study/series/:series/instances/:instance/frames/:frames', { config }, handler);
}

/** The part of a list of ranges that lies between two positions of their concatenation. */
export function within(
  ranges: readonly { offset: number; length: number }[],
  start: number,
  end: number,
): { offset: number; length: number }[] {
  const result: { offset: number; length: number }[] = [];
  let at = 0;
  for (const { offset, length } of ranges) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, length);
    if (to > from) result.push({ offset: offset + from, length: to - from });
    at += length;
  }
  return result;
}
