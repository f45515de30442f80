import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { DataSet } from '#dicom/dataset.ts';
import type { Head } from '#dicom/head.ts';
import { transferSyntaxOf } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../../read.ts';
import { covers } from '../accept.ts';
import { fragmentRanges } from './bulkdata.ts';
import { locateWithHead, MEDIA_TYPES, within } from './frames.ts';
import { notFound, sendRanged } from './respond.ts';
import { etagOf, levelOf, locateRequest, rangesOf } from './retrieve.ts';
import { createValueReader } from './value-bytes.ts';

const ENCAPSULATED_DOCUMENT = 0x00420011;
const MIME_TYPE = 0x00420012;
const DOCUMENT_LENGTH = 0x00420015;

/** Documents that go out as what they say they are (PS3.3 C.24.2); anything else that somebody stored does not get to name its type. */
const DOCUMENT_TYPES = new Set(['application/pdf', 'text/xml', 'model/stl', 'model/obj', 'model/mtl']);

/** A browser's PDF viewer is a page of its own, framed by our viewer, which is isolated and wants its frames to be so too. */
const DOCUMENT_HEADERS = {
  'Content-Security-Policy': "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'",
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

/**
 * Rendered resources and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4): what is kept in a form that anybody can show, a document or a
 * video, goes out as it is. Pictures need a decoder, which `render` will bring: 406 says so.
 */
export function renderedRoutes(app: FastifyInstance, reader: Reader): void {
  const shown = async (request: FastifyRequest, reply: FastifyReply) => {
    const { located, head } = await locateWithHead(reader, request);
    const found = documentOf(head) ?? videoOf(located, head);
    if (found === undefined) throw noPictures();
    // OHIF opens a PDF in an <object>, and a browser's Accept then lists pictures and pages: it gets the PDF.
    const asked = rangesOf(request).some((range) => !range.multipart && covers(range, found.type));
    if (!asked && found.type !== 'application/pdf')
      throw new GantryError('not-acceptable', `this instance is shown as ${found.type}`);
    const values = createValueReader(reader, request.call, reply)(located, head);
    if (found.type === 'application/pdf') reply.headers(DOCUMENT_HEADERS);
    const { inline, places } = found;
    return sendRanged(request, reply, {
      type: found.type,
      etag: etagOf(located, '-rendered'),
      length: inline?.length ?? places.reduce((sum, place) => sum + place.length, 0),
      read: (start, end) =>
        inline === undefined ? values.ranges(within(places, start, end)) : once(inline.subarray(start, end)),
    });
  };
  const refused = async (request: FastifyRequest) => {
    const located = await reader.locate(request.call, locateRequest(levelOf(request)));
    if (located.length === 0) throw notFound('this study, series or instance');
    throw noPictures();
  };

  const instance = '/studies/:study/series/:series/instances/:instance';
  for (const kind of ['rendered', 'thumbnail'] as const) {
    const config = { useCase: `http.wado.${kind}`, event: 'DICOM Instances Accessed', action: 'R' } as const;
    for (const path of ['/studies/:study', '/studies/:study/series/:series', `${instance}/frames/:frames`])
      app.get(`${path}/${kind}`, { config }, refused);
    app.get(`${instance}/${kind}`, { config }, kind === 'rendered' ? shown : refused);
  }
}

const noPictures = (): GantryError =>
  new GantryError(
    'not-acceptable',
    'pictures need a renderer, which this release has not: frames and bulk data are given as they are kept',
  );

interface Shown {
  type: string;
  inline?: Buffer; // short enough to be kept with the header
  places: { offset: number; length: number }[];
}

function documentOf(head: Head): Shown | undefined {
  const dataSet = new DataSet(head);
  const element = dataSet.get(ENCAPSULATED_DOCUMENT);
  const type = dataSet.string(MIME_TYPE)?.toLowerCase() ?? '';
  if (element === undefined || element.isEmpty || !DOCUMENT_TYPES.has(type)) return undefined;
  // The value is padded to an even length (PS3.5 §6.2); the document's own length may be known.
  const kept = element.cut?.length ?? element.bytes.length;
  const stated = dataSet.number(DOCUMENT_LENGTH);
  const length = stated === kept - 1 ? stated : kept;
  if (element.cut === undefined) return { type, inline: element.bytes.subarray(0, length), places: [] };
  return { type, places: [{ offset: element.cut.offset, length }] };
}

function videoOf(located: Located, head: Head): Shown | undefined {
  const type = MEDIA_TYPES[located.transferSyntaxUid];
  if (type === undefined || head.pixel === undefined || !transferSyntaxOf(located.transferSyntaxUid)?.video)
    return undefined;
  return { type, places: fragmentRanges(head) };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
