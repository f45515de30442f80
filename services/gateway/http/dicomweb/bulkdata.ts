import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type BulkPath, formatBulkPath, parseBulkPath } from '#dicom/bulk-path.ts';
import { DataSet, type Element } from '#dicom/dataset.ts';
import { decodeHead, type Head } from '#dicom/head.ts';
import { VRS } from '#dicom/tags.ts';
import { encodingOf } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';
import { covers } from '../accept.ts';
import { choosePixelType, createPixelReader, locateWithHead } from './frames.ts';
import { byteSwapped } from './pixels.ts';
import { notFound, type Part, sendParts, sendRanged } from './respond.ts';
import { etagOf, levelOf, locateRequest, rangesOf } from './retrieve.ts';
import { dicomwebRoot } from './root.ts';

const OCTETS = 'application/octet-stream';

/** Bulk values that BulkDataURIs point at, nested ones too (PS3.18 §10.4.1.1.5), and pixel data as a whole (§10.4.1.1.7). */
export function bulkDataRoutes(app: FastifyInstance, reader: Reader): void {
  const pixels = createPixelReader(reader);
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
    const whole = await pixels.source(request.call, located);
    const swap = encodingOf(located.transferSyntaxUid) === 'bigEndian' ? value.wordBytes : 1;
    const read = (start: number, end: number) =>
      pixels.ranges(request.call, located, [{ offset: value.offset + start, length: end - start }], whole);
    const body = () => (swap > 1 ? byteSwapped(read(0, value.length), swap) : read(0, value.length));
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
    const parts: Part[] = [];
    for (const { located: instance, head } of found) {
      const whole = await pixels.source(request.call, instance);
      for (const cut of bulkOf(head)) {
        parts.push({
          headers: {
            'Content-Type': OCTETS,
            'Content-Location': `${instanceUrl(request, instance)}/bulkdata/${cut.path}`,
          },
          length: cut.length,
          body: () => pixels.ranges(request.call, instance, [cut], whole),
        });
      }
    }
    if (parts.length === 0) throw new GantryError('not-found', 'there is no bulk data in it');
    return sendParts(reply, OCTETS, parts);
  };

  /** Whole pixel data as kept: native octets, or the fragments of an encapsulated value as one part a fragment sequence. */
  async function sendPixels(
    request: FastifyRequest,
    reply: FastifyReply,
    found: { located: Located; head: Head }[],
  ): Promise<FastifyReply> {
    if (found.length === 0) throw new GantryError('not-found', 'there is no pixel data in it');
    const ranges = rangesOf(request);
    const parts: Part[] = [];
    let type = OCTETS;
    for (const { located, head } of found) {
      const chosen = choosePixelType(located.transferSyntaxUid, ranges);
      if (parts.length === 0) type = chosen.type;
      const whole = await pixels.source(request.call, located);
      const places = fragmentRanges(head);
      const swap = encodingOf(located.transferSyntaxUid) === 'bigEndian' ? 2 : 1;
      const raw = () => pixels.ranges(request.call, located, places, whole);
      parts.push({
        headers: {
          'Content-Type': `${chosen.type}; transfer-syntax=${chosen.native ? '1.2.840.10008.1.2.1' : located.transferSyntaxUid}`,
          'Content-Location': `${instanceUrl(request, located)}/pixeldata`,
        },
        length: places.reduce((sum, place) => sum + place.length, 0),
        body: () => (swap > 1 ? byteSwapped(raw(), swap) : raw()),
      });
    }
    return sendParts(reply, type, parts);
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
function fragmentRanges(head: Head): { offset: number; length: number }[] {
  const pixel = head.pixel!;
  if (!pixel.encapsulated) return [{ offset: pixel.offset, length: pixel.length }];
  let at = pixel.fragmentsOffset;
  return pixel.fragments.map((length) => {
    const range = { offset: at + 8, length };
    at += 8 + length;
    return range;
  });
}

async function* slice(source: AsyncIterable<Buffer>, start: number, end: number): AsyncGenerator<Buffer> {
  let at = 0;
  for await (const chunk of source) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, chunk.length);
    if (to > from) yield chunk.subarray(from, to);
    at += chunk.length;
  }
}
