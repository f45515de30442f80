import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { trimUid } from '#dicom/uids.ts';
import { ERRORS, type ErrorCode, GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import type { ReadYourWrites } from '../../read-your-writes.ts';
import { chooseType } from '../accept.ts';
import { bodyOf } from '../refused-body.ts';
import { sendXml } from './native-xml.ts';
import { rangesOf } from './retrieve.ts';
import { dicomwebRoot } from './root.ts';

const OFFERED = ['application/dicom+json', 'application/json', 'application/dicom+xml'] as const;

/** Who writes over HTTP, for read-your-writes. */
export const httpWriter = (request: FastifyRequest): string => `${request.call.principal.id}@${request.peer.address}`;

/** STOW-RS (PS3.18 §10.5): the body goes on to `ingest` unparsed; only the answer is made here. */
export function storeRoutes(app: FastifyInstance, context: Context, written: ReadYourWrites): void {
  const stow = context.bulk(BULK.stow);
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const study = (request.params as { study?: string }).study;
    const { type } = chooseType(rangesOf(request), OFFERED);
    const contentType = request.headers['content-type'];
    if (contentType === undefined)
      throw new GantryError(
        'unsupported-media-type',
        'STOW-RS needs a Content-Type: multipart/related; type="application/dicom"',
      );
    const coding = request.headers['content-encoding'];
    if (coding !== undefined && coding.toLowerCase() !== 'identity')
      throw new GantryError('unsupported-media-type', 'a body with a Content-Encoding is not taken: send it as it is');
    const { response, body } = await stow(
      request.call,
      {
        contentType,
        studyInstanceUid: study === undefined ? '' : trimUid(study),
        source: {
          door: 'STOW',
          callingAeTitle: '',
          calledAeTitle: '',
          address: request.peer.address,
          defaultCharset: '',
        },
        retrieveRoot: dicomwebRoot(request),
      },
      bodyOf(request, reply),
    );
    if (response.error !== '') throw new GantryError(response.error as ErrorCode, response.errorMessage);
    for (const position of response.positions) written.note(request.call.tenant, httpWriter(request), position);
    const chunks: Buffer[] = [];
    for await (const chunk of body) chunks.push(chunk);
    const text = Buffer.concat(chunks);
    for (const one of referenced(text)) request.auditObjects.push({ type: 'instance', id: one });
    reply.code(statusOf(response));
    if (type === 'application/dicom+xml') return sendXml(reply, [text]);
    return reply.type(type).send(text);
  };
  const config = { useCase: 'http.stow', event: 'DICOM Instances Transferred', action: 'C' } as const;
  app.post('/studies', { config, bodyLimit: Number.MAX_SAFE_INTEGER }, handler);
  app.post('/studies/:study', { config, bodyLimit: Number.MAX_SAFE_INTEGER }, handler);
}

/** PS3.18 Table 10.5.3-1: 200 all stored, 202 some, 409 none. */
export function statusOf(counts: { stored: number; warned: number; failed: number }): number {
  if (counts.stored + counts.warned === 0) return ERRORS.conflict.http;
  return counts.failed > 0 || counts.warned > 0 ? 202 : 200;
}

function referenced(text: Buffer): string[] {
  const answer = JSON.parse(text.toString('utf8')) as Record<
    string,
    { Value?: Record<string, { Value?: string[] }>[] }
  >;
  return (answer['00081199']?.Value ?? [])
    .map((item) => item['00081155']?.Value?.[0] ?? '')
    .filter((uid) => uid !== '');
}
