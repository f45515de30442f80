import type { FastifyInstance } from 'fastify';
import { CONTENT_TYPES, formatFor } from '#platform/metrics-text.ts';
import type { Context } from '#platform/module.ts';
import { vary } from '../vary.ts';

/** `/healthz`: the process lives. `/readyz`: it can do its work. `/metrics`: Prometheus. None of them says anything of a patient. */
export function healthRoutes(app: FastifyInstance, context: Context): void {
  app.get('/healthz', { config: { useCase: null } }, async () => ({ status: 'ok' }));
  app.get('/readyz', { config: { useCase: null } }, async (_request, reply) => {
    const checks = context.health();
    const ready = checks.every((check) => check.ready);
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', checks });
  });
  app.get('/metrics', { config: { useCase: null } }, async (request, reply) => {
    const format = formatFor(request.headers.accept);
    vary(reply, 'Accept');
    return reply.type(CONTENT_TYPES[format]).send(await context.metrics.expose(format));
  });
}
