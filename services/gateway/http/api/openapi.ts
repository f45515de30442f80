import { ERRORS } from '#platform/errors.ts';
import type { ApiRoute } from './routes.ts';

/** OpenAPI 3.1 of the routes table. */
export function openApi(routes: readonly ApiRoute[], base: string, version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = `${base}${route.path}`.replace(/:(\w+)/g, '{$1}');
    const parameters = [...route.path.matchAll(/:(\w+)/g)].map((match) => ({
      name: match[1],
      in: 'path',
      required: true,
      schema: { type: 'string' },
    }));
    paths[path] = {
      ...paths[path],
      [route.method.toLowerCase()]: {
        operationId: route.useCase.replace(/^api\./, ''),
        summary: route.summary,
        ...(parameters.length > 0 ? { parameters } : {}),
        ...bodyOf(route),
        responses: {
          200: {
            description: 'done',
            content: {
              [route.answer]: { schema: route.answer === 'text/markdown' ? { type: 'string' } : { type: 'object' } },
            },
          },
          default: {
            description: 'refused or failed',
            content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
          },
        },
      },
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Gantry',
      version,
      description: 'Administration of one archive. Images and searches are under /dicom-web (PS3.18).',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{}, { bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
      schemas: {
        Error: {
          type: 'object',
          required: ['error', 'message', 'requestId'],
          properties: {
            error: { type: 'string', enum: Object.keys(ERRORS) },
            message: { type: 'string' },
            requestId: { type: 'string', description: 'ties this answer to the log and the audit trail' },
          },
        },
      },
    },
  };
}

function bodyOf(route: ApiRoute): object {
  if (route.rawBody !== undefined) {
    return {
      requestBody: { required: true, content: { [route.rawBody]: { schema: { type: 'string', format: 'binary' } } } },
    };
  }
  if (route.body === undefined) return {};
  return {
    requestBody: {
      content: {
        'application/json': { schema: { type: 'object', additionalProperties: false, properties: route.body } },
      },
    },
  };
}
