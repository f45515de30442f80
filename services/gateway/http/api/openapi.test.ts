import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Context } from '#platform/module.ts';
import { openApi } from './openapi.ts';
import { apiRoutes } from './routes.ts';

/** Routes say what they are without anybody to call. */
const ROUTES = apiRoutes(
  { client: () => ({}), bulk: () => async () => ({}) } as unknown as Context,
  {} as never,
  {} as never,
);

interface Operation {
  operationId: string;
  summary: string;
  parameters?: { name: string; in: string; required: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: { properties?: object } }> };
  responses: Record<string, { description: string; content: Record<string, { schema: object }> }>;
}
const DOCUMENT = openApi(ROUTES, '/api/v1', '1.2.3') as {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
};
const OPERATIONS = Object.entries(DOCUMENT.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

describe('/api/v1/openapi.json', () => {
  test('is OpenAPI 3.1 with every route in it, and no other', () => {
    assert.match(DOCUMENT.openapi, /^3\.1\.\d+$/);
    assert.deepEqual([DOCUMENT.info.title, DOCUMENT.info.version], ['Gantry', '1.2.3']);
    const expected = ROUTES.map(({ method, path }) => `${method} /api/v1${path.replace(/:(\w+)/g, '{$1}')}`);
    assert.equal(new Set(expected).size, ROUTES.length, 'two routes at one address');
    assert.deepEqual(OPERATIONS.map(({ path, method }) => `${method.toUpperCase()} ${path}`).sort(), expected.sort());
  });

  test('operations: an id of their own, a summary, every path parameter, and answers', () => {
    const ids = OPERATIONS.map(({ operation }) => operation.operationId);
    assert.equal(new Set(ids).size, ids.length, 'operationId is unique (OpenAPI 3.1 §4.8.10)');
    for (const { path, operation } of OPERATIONS) {
      assert.match(operation.operationId, /^[a-z][\w.-]*$/i);
      assert.ok(operation.summary.length > 10);
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      assert.deepEqual(
        (operation.parameters ?? []).map(({ name }) => name),
        inPath,
      );
      for (const parameter of operation.parameters ?? [])
        assert.deepEqual([parameter.in, parameter.required], ['path', true]);
      assert.ok(operation.responses.default && operation.responses[200]);
    }
  });

  test('every $ref resolves', () => {
    const refs = [...JSON.stringify(DOCUMENT).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)];
    assert.ok(refs.length > 0);
    for (const [, name] of refs) assert.ok(Object.hasOwn(DOCUMENT.components.schemas, name!), name);
  });

  test('bodies are what the routes take', () => {
    for (const route of ROUTES) {
      const operation = DOCUMENT.paths[`/api/v1${route.path.replace(/:(\w+)/g, '{$1}')}`]![route.method.toLowerCase()]!;
      const type = route.rawBody ?? (route.body === undefined ? undefined : 'application/json');
      assert.deepEqual(Object.keys(operation.requestBody?.content ?? {}), type === undefined ? [] : [type]);
      if (route.body !== undefined)
        assert.deepEqual(operation.requestBody!.content['application/json']!.schema.properties, route.body);
    }
  });
});
