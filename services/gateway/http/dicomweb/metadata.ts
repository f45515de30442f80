import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { createCurrent } from '../../current.ts';
import { chooseType } from '../accept.ts';
import { vary } from '../vary.ts';
import { arrayElements, gzipped } from './json.ts';
import { sendXml } from './native-xml.ts';
import { matchesEtag, notFound, stream } from './respond.ts';
import { levelOf, rangesOf } from './retrieve.ts';
import { dicomwebRoot } from './root.ts';

const OFFERED = ['application/dicom+json', 'application/json', 'application/dicom+xml'] as const;

/** WADO-RS metadata (PS3.18 §10.4.1.1.2): everything but bulk, which BulkDataURIs point at. */
export function metadataRoutes(app: FastifyInstance, context: Context): void {
  const metadata = context.bulk(BULK.metadata);
  const current = createCurrent(context);
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const level = levelOf(request);
    const { type } = chooseType(rangesOf(request), OFFERED, true);
    const unread = new AbortController();
    const call = { ...request.call, signal: AbortSignal.any([request.call.signal, unread.signal]) };
    const ask = () =>
      metadata(call, {
        studyInstanceUid: level.study,
        seriesInstanceUid: level.series ?? '',
        sopInstanceUid: level.instance ?? '',
        bulkDataRoot: dicomwebRoot(request),
      });
    const { response, body } = await current(call, ask, {
      byUid: true,
      isWhole: level.instance === undefined ? undefined : (answer) => answer.response.found,
    });
    if (!response.found) throw notFound('this study, series or instance');
    // Nobody will read the body of an answer that has none: what holds it open elsewhere is let go.
    const letGo = () => unread.abort(new GantryError('cancelled', 'the answer needs no body'));
    if (request.method === 'HEAD') letGo();
    vary(reply, 'Accept', 'Accept-Encoding');
    if (response.etag !== '') {
      // Weak: the same for gzip and for none (RFC 9110 §8.8.1), and a URL's origin can be another behind another proxy.
      const etag = `W/"${response.etag.replaceAll('"', '')}${type === 'application/dicom+xml' ? '-xml' : ''}"`;
      reply.header('ETag', etag);
      if (matchesEtag(request.headers['if-none-match'], etag)) {
        letGo();
        return reply.code(304).send();
      }
    }
    if (type === 'application/dicom+xml') return sendXml(reply, arrayElements(body));
    reply.header('Content-Type', type); // JSON is UTF-8 (RFC 8259 §8.1); neither type has a charset parameter
    return stream(reply, gzipped(request, reply, body));
  };
  const config = { useCase: 'http.wado.metadata', event: 'DICOM Instances Accessed', action: 'R' } as const;
  app.get('/studies/:study/metadata', { config }, handler);
  app.get('/studies/:study/series/:series/metadata', { config }, handler);
  app.get('/studies/:study/series/:series/instances/:instance/metadata', { config }, handler);
}
