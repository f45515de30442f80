import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type BulkPath, formatBulkPath, parseBulkPath } from '#dicom/bulk-path.ts';
import { DataSet, type Element } from '#dicom/dataset.ts';
import { DicomError } from '#dicom/errors.ts';
import { framePlaces } from '#dicom/frames.ts';
import { decodeHead, type Head } from '#dicom/head.ts';
import { VRS } from '#dicom/tags.ts';
import { encodingOf } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN } from '../../representation.ts';
import { covers } from '../accept.ts';
import { choosePixelType, locateWithHead, within } from './frames.ts';
import { byteSwapped, pixelGeometry } from './pixels.ts';
import { notFound, type Part, sendParts, sendRanged } from './respond.ts';
import { etagOf, levelOf, locateRequest, rangesOf } from './retrieve.ts';
import { dicomwebRoot } from './root.ts';
import { createValueReader, slice, type Values } from './value-bytes.ts';

const OCTETS = 'application/octet-stream';

/** Bulk values that BulkDataURIs point at, nested ones too (PS3.18 §10.4.1.1.5), and pixel data as a whole (§10.4.1.1.7). */
export function bulkDataRoutes(app: FastifyInstance, reader: Reader): void {
  const config = { useCase: 'http.wado.bulkdata', event: 'DICOM Instances Accessed', action: 'R' } as const;

  const one = async (request: FastifyRequest, reply: FastifyReply) => {
    const path = parseBulkPath((request.params as { '*': string })['*']);
    if (path === undefined)
      throw new GantryError('invalid-argument', 'this is no bulk data path: tags and item numbers, separated by /');
    const { located, head } = await locateWithHead(reader, request);
    const value = bulkAt(head, path);
    if (value === undefined) throw new GantryError('not-found', 'this instance has no bulk value there');
    if (head.pixel !== undefined && value.offset === head.pixel.offset && head.pixel.encapsulated)
      return sendPixels(request, reply, [{ located, head }]);
    const ranges = rangesOf(request);
    const range = ranges.find((candidate) => covers(candidate, OCTETS) || candidate.type === '*/*');
    // A browser that asks for the document itself (OHIF with an encapsulated PDF) gets its octets whatever it lists.
    if (range === undefined && !ranges.some((candidate) => candidate.type === 'application/pdf')) {
      throw new GantryError('not-acceptable', `bulk data is offered as ${OCTETS}`);
    }
    const values = createValueReader(reader, request.call, reply)(located, head);
    const swap = swapOf(located, value.wordBytes);
    const read = (start: number, end: number) => values.ranges([{ offset: value.offset + start, length: end - start }]);
    const body = () => inOrder(read(0, value.length), swap);
    if (range?.multipart)
      return sendParts(reply, OCTETS, [
        {
          headers: { 'Content-Type': OCTETS, 'Content-Location': request.url.split('?')[0]! },
          length: value.length,
          body,
        },
      ]);
    const resource = { type: OCTETS, etag: etagOf(located, `-${value.offset}`), length: value.length };
    if (swap > 1) return sendRanged(request, reply, { ...resource, read: (start, end) => slice(body(), start, end) });
    return sendRanged(request, reply, { ...resource, read });
  };
  app.get('/studies/:study/series/:series/instances/:instance/bulkdata/*', { config }, one);

  const all = (kind: 'bulkdata' | 'pixeldata') => async (request: FastifyRequest, reply: FastifyReply) => {
    const located = await reader.locate(request.call, { ...locateRequest(levelOf(request)), withHead: true });
    if (located.length === 0) throw notFound('this study, series or instance');
    const found = located.map((instance) => ({ located: instance, head: decodeHead(instance.head) }));
    if (kind === 'pixeldata')
      return sendPixels(
        request,
        reply,
        found.filter(({ head }) => head.pixel !== undefined),
      );
    if (!rangesOf(request).some((range) => covers(range, OCTETS)))
      throw new GantryError('not-acceptable', `bulk data is offered as ${OCTETS}`);
    const valuesOf = createValueReader(reader, request.call, reply);
    const parts: Part[] = [];
    for (const { located: instance, head } of found) {
      const values = valuesOf(instance, head);
      for (const cut of bulkOf(head)) {
        parts.push({
          headers: {
            'Content-Type': OCTETS,
            'Content-Location': `${instanceUrl(request, instance)}/bulkdata/${cut.path}`,
          },
          length: cut.length,
          body: () => inOrder(values.ranges([cut]), swapOf(instance, cut.wordBytes)),
        });
      }
    }
    if (parts.length === 0) throw new GantryError('not-found', 'there is no bulk data in it');
    return sendParts(reply, OCTETS, parts);
  };

  /** Pixel data as kept: native octets, or the compressed frames, a part each (PS3.18 §8.7.3.3.2); a video is one. */
  async function sendPixels(
    request: FastifyRequest,
    reply: FastifyReply,
    found: { located: Located; head: Head }[],
  ): Promise<FastifyReply> {
    if (found.length === 0) throw new GantryError('not-found', 'there is no pixel data in it');
    const ranges = rangesOf(request);
    const parts: Part[] = [];
    const valuesOf = createValueReader(reader, request.call, reply);
    let first: { chosen: ReturnType<typeof choosePixelType>; values: Values } | undefined;
    let places: { offset: number; length: number }[] = [];
    for (const { located, head } of found) {
      const chosen = choosePixelType(located.transferSyntaxUid, ranges);
      const values = valuesOf(located, head);
      first ??= { chosen, values };
      const swap = chosen.native ? swapOf(located, pixelGeometry(head).wordBytes) : 1;
      const syntax = chosen.native ? EXPLICIT_VR_LITTLE_ENDIAN : located.transferSyntaxUid;
      for (const [name, ofPart] of pixelParts(head)) {
        places = ofPart;
        parts.push({
          headers: {
            'Content-Type': `${chosen.type}; transfer-syntax=${syntax}`,
            'Content-Location': `${instanceUrl(request, located)}/${name}`,
          },
          length: ofPart.reduce((sum, place) => sum + place.length, 0),
          body: () => inOrder(values.ranges(ofPart), swap),
        });
      }
    }
    const [only] = parts;
    const { located } = found[0]!;
    const { type, range, native } = first!.chosen;
    // A player asks for `*/*` and seeks with Range.
    const single = !range.multipart && (range.type !== '*/*' || type.startsWith('video/'));
    if (!single) return sendParts(reply, type, parts);
    if (parts.length > 1) throw new GantryError('not-acceptable', 'several frames or instances need multipart/related');
    const swapped = native && swapOf(located, pixelGeometry(found[0]!.head).wordBytes) > 1;
    return sendRanged(request, reply, {
      type: only!.headers['Content-Type']!,
      etag: etagOf(located, '-pixels'),
      length: only!.length!,
      read: (start, end) =>
        swapped ? slice(only!.body(), start, end) : first!.values.ranges(within(places, start, end)),
    });
  }

  for (const kind of ['bulkdata', 'pixeldata'] as const) {
    for (const path of [
      '/studies/:study',
      '/studies/:study/series/:series',
      '/studies/:study/series/:series/instances/:instance',
    ]) {
      app.get(`${path}/${kind}`, { config: { ...config, useCase: `http.wado.${kind}` } }, all(kind));
    }
  }
}

const swapOf = (located: Located, wordBytes: number): number =>
  encodingOf(located.transferSyntaxUid) === 'bigEndian' ? wordBytes : 1;

const inOrder = (bytes: AsyncIterable<Buffer>, swap: number): AsyncIterable<Buffer> =>
  swap > 1 ? byteSwapped(bytes, swap) : bytes;

/** The frames of a compressed image, where they can be told apart; else all of it. */
function pixelParts(head: Head): [name: string, places: { offset: number; length: number }[]][] {
  const whole: [string, { offset: number; length: number }[]] = ['pixeldata', fragmentRanges(head)];
  if (!head.pixel!.encapsulated) return [whole];
  try {
    const frames = framePlaces(head);
    if (frames.count === 1) return [whole];
    return Array.from({ length: frames.count }, (_, i) => [`frames/${i + 1}`, frames.place(i).ranges]);
  } catch (error) {
    if (error instanceof DicomError) return [whole]; // a video, or no table that tells frames apart: the stream as it is
    throw error;
  }
}

interface BulkValue {
  offset: number;
  length: number;
  wordBytes: number; // what big endian swaps
  path: string;
}

/** The value at a path, where it lies in the data set. Small values are inline in the metadata and have no address. */
export function bulkAt(head: Head, path: BulkPath): BulkValue | undefined {
  let dataSet: DataSet | undefined = new DataSet(head);
  for (const { tag, item } of path.steps) dataSet = dataSet?.get(tag)?.items?.[item - 1];
  const element = dataSet?.get(path.tag);
  return element?.cut === undefined ? undefined : bulkValue(element, path);
}

/** Every bulk value of an instance, nested ones too. */
export function bulkOf(head: Head): BulkValue[] {
  const found: BulkValue[] = [];
  const walk = (dataSet: DataSet, steps: BulkPath['steps']): void => {
    for (const element of dataSet) {
      if (element.cut !== undefined) found.push(bulkValue(element, { steps, tag: element.tag }));
      element.items?.forEach((item, i) => {
        walk(item, [...steps, { tag: element.tag, item: i + 1 }]);
      });
    }
  };
  walk(new DataSet(head), []);
  return found;
}

const bulkValue = (element: Element, path: BulkPath): BulkValue => ({
  offset: element.cut!.offset,
  length: element.cut!.length,
  wordBytes: VRS[element.vr].swap,
  path: formatBulkPath(path),
});

const instanceUrl = (request: FastifyRequest, located: Located): string =>
  `${dicomwebRoot(request)}/studies/${located.studyInstanceUid}/series/${located.seriesInstanceUid}/instances/${located.sopInstanceUid}`;

/** Pixel bytes without item tags: each fragment, or the native value. */
export function fragmentRanges(head: Head): { offset: number; length: number }[] {
  const pixel = head.pixel!;
  if (!pixel.encapsulated) return [{ offset: pixel.offset, length: pixel.length }];
  let at = pixel.fragmentsOffset;
  return pixel.fragments.map((length) => {
    const range = { offset: at + 8, length };
    at += 8 + length;
    return range;
  });
}
