// node tools/kube/schemas.run.ts: tools/kube/schemas/<version>.json, from the API's own description (api/openapi-spec/swagger.json) in the Go
// module k8s.io/kubernetes of each version: only the kinds that charts/gantry renders, and strict: an unknown field is an error.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KINDS, VERSIONS } from './schemas.ts';

// biome-ignore lint/suspicious/noExplicitAny: a JSON schema.
type Schema = any;
const INT_OR_STRING = 'io.k8s.apimachinery.pkg.util.intstr.IntOrString';
const QUANTITY = 'io.k8s.apimachinery.pkg.api.resource.Quantity';

for (const version of VERSIONS) {
  const { Dir } = JSON.parse(
    execFileSync('go', ['mod', 'download', '-json', `k8s.io/kubernetes@v${version}`], {
      cwd: tmpdir(),
      encoding: 'utf8',
    }),
  ) as { Dir: string };
  const { definitions } = JSON.parse(readFileSync(join(Dir, 'api/openapi-spec/swagger.json'), 'utf8')) as {
    definitions: Record<string, Schema>;
  };
  const kept: Record<string, Schema> = {};
  const strict = (schema: Schema): Schema => {
    if (Array.isArray(schema)) return schema.map(strict);
    if (schema === null || typeof schema !== 'object') return schema;
    const copy: Schema = {};
    for (const [key, value] of Object.entries(schema)) {
      if (key === '$ref') {
        const name = String(value).replace('#/definitions/', '');
        keep(name);
        copy.$ref = `#/definitions/${name}`;
      } else if (key === 'properties')
        copy.properties = Object.fromEntries(Object.entries(value as Schema).map(([name, one]) => [name, strict(one)]));
      else if (['type', 'items', 'required', 'additionalProperties', 'enum'].includes(key)) copy[key] = strict(value);
    }
    if (copy.properties && copy.additionalProperties === undefined) copy.additionalProperties = false;
    return copy;
  };
  const keep = (name: string): void => {
    if (kept[name]) return;
    if (name === INT_OR_STRING) kept[name] = { type: ['string', 'integer'] };
    else if (name === QUANTITY) kept[name] = { type: ['string', 'number'] };
    else {
      kept[name] = {};
      kept[name] = strict(definitions[name]);
    }
  };
  const kinds: Record<string, string> = {};
  for (const [name, schema] of Object.entries(definitions))
    for (const { group, version: api, kind } of schema['x-kubernetes-group-version-kind'] ?? []) {
      const full = `${group ? `${group}/` : ''}${api} ${kind}`;
      if (!KINDS.includes(full)) continue;
      keep(name);
      kinds[full] = name;
    }
  const missing = KINDS.filter((kind) => kinds[kind] === undefined);
  if (missing.length > 0) throw new Error(`Kubernetes ${version} has no ${missing.join(', ')}`);
  const sorted = Object.fromEntries(Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(
    join(import.meta.dirname, `schemas/${version}.json`),
    `${JSON.stringify({ kinds, definitions: sorted })}\n`,
  );
}
