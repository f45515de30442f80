import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { chooseType } from '../accept.ts';
import { rangesOf } from './retrieve.ts';
import { DICOMWEB, dicomwebRoot } from './root.ts';

/** Retrieve Capabilities (PS3.18 §8.9): a WADL of what is served, from the routes that are registered. */
export function capabilitiesRoute(app: FastifyInstance, registered: readonly { method: string; url: string }[]): void {
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const { type } = chooseType(rangesOf(request), [
      'application/vnd.sun.wadl+xml',
      'application/xml',
      'application/json',
    ]);
    const routes = registered.filter(
      (route) => route.url.startsWith(DICOMWEB) && route.method !== 'HEAD' && route.method !== 'OPTIONS',
    );
    reply.header('Allow', 'OPTIONS, GET, HEAD, POST, DELETE');
    if (type === 'application/json') return reply.send({ base: dicomwebRoot(request), routes });
    const resources = [...Map.groupBy(routes, (route) => route.url)].map(
      ([url, methods]) =>
        `<resource path="${url
          .slice(DICOMWEB.length + 1)
          .replace(/:(\w+)/g, '{$1}')
          .replace('*', '{path}')}">${methods.map(({ method }) => `<method name="${method}"/>`).join('')}</resource>`,
    );
    return reply
      .type(type)
      .send(
        `<?xml version="1.0" encoding="UTF-8"?>\n<application xmlns="http://wadl.dev.java.net/2009/02"><resources base="${dicomwebRoot(request).replace(/[&<>"]/g, '')}">${resources.join('')}</resources></application>`,
      );
  };
  const config = { useCase: 'http.capabilities', event: 'Application Activity', action: 'R' } as const;
  app.options('/', { config }, handler);
  app.options('/*', { config }, handler);
}
