import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { UseCases } from '../../use-cases.ts';
import { levelOf } from './retrieve.ts';

/** DELETE of a study, series or instance: to the trash, from which it can be restored until it is purged. */
export function deleteRoutes(app: FastifyInstance, useCases: UseCases): void {
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const reason = (request.query as Record<string, string | undefined>).reason ?? '';
    await useCases.moveToTrash(request.call, levelOf(request), reason.slice(0, 256));
    return reply.code(204).send();
  };
  const config = { useCase: 'http.delete', event: 'DICOM Study Deleted', action: 'D' } as const;
  app.delete('/studies/:study', { config }, handler);
  app.delete('/studies/:study/series/:series', { config }, handler);
  app.delete('/studies/:study/series/:series/instances/:instance', { config }, handler);
}
