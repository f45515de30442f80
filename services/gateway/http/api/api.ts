import type { FastifyInstance } from 'fastify';
import { GantryError } from '#platform/errors.ts';
import { openApi } from './openapi.ts';
import type { ApiRoute } from './routes.ts';

export const API = '/api/v1';

export function registerApi(app: FastifyInstance, routes: ApiRoute[], version: string): void {
  for (const route of routes) {
    app.route({
      method: route.method,
      url: `${API}${route.path}`,
      config: { useCase: route.useCase, event: route.event, action: route.action },
      ...(route.rawBody === undefined ? {} : { bodyLimit: Number.MAX_SAFE_INTEGER }),
      preHandler: async (request) => {
        checkBody(route, request.body);
        // Its body is read; packing or verifying may be silent for longer than a body may. The next request's clock starts anew.
        if (route.rawBody === undefined) request.raw.socket.setTimeout(0);
      },
      handler: async (request, reply) => {
        const answer = await route.run(request, reply);
        if (reply.sent || answer === reply) return reply;
        return answer;
      },
    });
  }
  const document = openApi(routes, API, version);
  app.get(`${API}/openapi.json`, { config: { useCase: null } }, async () => document);
}

/** Unknown fields are refused: a misspelt `now` must not mean something else. */
function checkBody(route: ApiRoute, body: unknown): void {
  if (route.rawBody !== undefined || body === undefined || body === null) return;
  if (typeof body !== 'object' || Array.isArray(body))
    throw new GantryError('invalid-argument', 'the body is no JSON object');
  for (const [name, value] of Object.entries(body)) {
    const known = route.body?.[name];
    if (known === undefined)
      throw new GantryError(
        'invalid-argument',
        `unknown field in the body; known: ${Object.keys(route.body ?? {}).join(', ') || 'none'}`,
      );
    if (typeof value !== known.type) throw new GantryError('invalid-argument', `${name} is no ${known.type}`);
  }
}
