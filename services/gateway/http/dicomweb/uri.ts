import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { trimUid } from '#dicom/uids.ts';
import { GantryError } from '#platform/errors.ts';
import type { Reader } from '../../read.ts';
import { part10Bytes, represent } from '../../representation.ts';
import { notFound, sendRanged, stream } from './respond.ts';
import { etagOf } from './retrieve.ts';

/** WADO-URI (PS3.18 §9) for application/dicom; pictures need a renderer. */
export function uriRoutes(app: FastifyInstance, reader: Reader): void {
  app.get(
    '/wado',
    { config: { useCase: 'http.wado-uri', event: 'DICOM Instances Transferred', action: 'R' } },
    async (request: FastifyRequest, reply: FastifyReply) => {
      const query = request.query as Record<string, string | string[] | undefined>;
      const one = (name: string): string | undefined => {
        const value = query[name];
        if (Array.isArray(value)) throw new GantryError('invalid-argument', `${name} is given more than once`);
        return value;
      };
      const needed = (name: string): string => {
        const value = one(name);
        if (value === undefined || value === '')
          throw new GantryError(
            'invalid-argument',
            `${name} is missing: WADO-URI needs requestType, studyUID, seriesUID and objectUID`,
          );
        return trimUid(value);
      };
      if (one('requestType') !== 'WADO') throw new GantryError('invalid-argument', 'requestType is not WADO');
      // §9.1.2.1.4: who asks for it must not be given names instead.
      if (one('anonymize') !== undefined)
        throw new GantryError('not-acceptable', 'anonymize is asked for, and this release does not de-identify');
      const study = needed('studyUID');
      const series = needed('seriesUID');
      const instance = needed('objectUID');
      request.auditObjects.push({ type: 'study', id: study }, { type: 'instance', id: instance });
      const types = (one('contentType') ?? 'image/jpeg')
        .split(',')
        .map((type) => type.split(';')[0]!.trim().toLowerCase());
      if (!types.some((type) => type === 'application/dicom' || type === '*/*' || type === 'application/*')) {
        throw new GantryError(
          'not-acceptable',
          'ask for contentType=application/dicom: pictures (the default, image/jpeg) need a renderer, which this release has not',
        );
      }
      const [located] = await reader.locate(request.call, {
        studyInstanceUids: [study],
        seriesInstanceUids: [series],
        sopInstanceUids: [instance],
      });
      if (located === undefined) throw notFound('this instance');
      // Without transferSyntax the server chooses (§9.1.2.2.3): as stored is always possible and never loses anything.
      const as = represent(located, one('transferSyntax') ?? '*');
      if (as === undefined)
        throw new GantryError('not-acceptable', 'this instance cannot be given in that transfer syntax');
      reply.header(
        'Content-Disposition',
        `attachment; filename="${/^[0-9.]+$/.test(instance) ? instance : 'instance'}.dcm"`,
      );
      if (!as.asStored) return stream(reply.type('application/dicom'), part10Bytes(reader, request.call, located, as));
      return sendRanged(request, reply, {
        type: 'application/dicom',
        etag: etagOf(located),
        length: reader.fileLength(located),
        read: (start, end) => reader.read(request.call, located, { start, end }),
      });
    },
  );
}
