import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { chooseType } from '../accept.ts';
import { gzipped } from './json.ts';
import { nativeXmlParts } from './native-xml.ts';
import { matchesEtag, notFound, stream } from './respond.ts';
import { levelOf, rangesOf } from './retrieve.ts';
import { dicomwebRoot } from './root.ts';

const OFFERED = ['application/dicom+json', 'application/json', 'application/dicom+xml'] as const;

/** WADO-RS metadata (PS3.18 §10.4.1.1.2): everything but bulk, which BulkDataURIs point at. */
export function metadataRoutes(app: FastifyInstance, context: Context): void {
  const metadata = context.bulk(BULK.metadata);
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const level = levelOf(request);
    const { type } = chooseType(rangesOf(request), OFFERED, true);
    const { response, body } = await metadata(request.call, {
      studyInstanceUid: level.study,
      seriesInstanceUid: level.series ?? '',
      sopInstanceUid: level.instance ?? '',
      bulkDataRoot: dicomwebRoot(request),
    });
    if (!response.found) throw notFound('this study, series or instance');
    if (response.etag !== '') {
      const etag = `"${response.etag.replaceAll('"', '')}${type === 'application/dicom+xml' ? '-xml' : ''}"`;
      reply.header('ETag', etag).header('Vary', 'Accept, Accept-Encoding');
      if (matchesEtag(request.headers['if-none-match'], etag)) return reply.code(304).send();
    }
    if (type === 'application/dicom+xml') return nativeXmlParts(reply, body);
    reply.header(
      'Content-Type',
      `${type}; charset=utf-8`.replace('application/dicom+json; charset=utf-8', 'application/dicom+json'),
    );
    return stream(reply, gzipped(request, reply, body));
  };
  const config = { useCase: 'http.wado.metadata', event: 'DICOM Instances Accessed', action: 'R' } as const;
  app.get('/studies/:study/metadata', { config }, handler);
  app.get('/studies/:study/series/:series/metadata', { config }, handler);
  app.get('/studies/:study/series/:series/instances/:instance/metadata', { config }, handler);
}
