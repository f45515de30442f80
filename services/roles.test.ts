import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type ModuleName, ROLES } from './roles.ts';

/** Who offers a service or the routes of a package, and by which name of platform.endpoints others reach it. */
const OFFERS: Record<string, { module: ModuleName; endpoint: string }> = {
  AuthService: { module: 'auth', endpoint: 'auth' },
  IndexService: { module: 'index', endpoint: 'index' },
  DataService: { module: 'storage/data', endpoint: 'storage' },
  KeeperService: { module: 'storage/keeper', endpoint: 'storage' },
  IngestService: { module: 'ingest', endpoint: 'ingest' },
  DimseService: { module: 'gateway/dimse', endpoint: 'gateway.dimse' },
};
const ROUTES: Record<string, string> = {
  store: 'IngestService',
  storePart10: 'IngestService',
  stow: 'IngestService',
  metadata: 'IndexService',
  read: 'DataService',
  appendInstance: 'DataService',
  putLarge: 'DataService',
  appendLarge: 'DataService',
};

/** What the code of a module asks for. What both doors share (services/gateway/*.ts) counts for each of them. */
function asked(module: ModuleName): Set<string> {
  const found = new Set<string>();
  const patterns = [`services/${module}/**/*.ts`];
  if (module.startsWith('gateway/')) patterns.push('services/gateway/*.ts');
  for (const path of globSync(patterns)) {
    if (/\.(test|testing|fixture|contract)\.ts$/.test(path)) continue;
    const text = readFileSync(path, 'utf8');
    for (const [, service] of text.matchAll(/\.(?:client|everywhere)\((\w+Service)\b/g)) found.add(service!);
    for (const [, route] of text.matchAll(/\bbulk\(BULK\.(\w+)/g)) found.add(ROUTES[route!] ?? route!);
  }
  return found;
}

test('needs and asks of each role name what its modules ask of modules that it does not start, and nothing else', () => {
  let seen = 0;
  for (const [role, { modules, needs, asks }] of Object.entries(ROLES)) {
    const outside = new Set<string>();
    for (const module of modules)
      for (const service of asked(module)) {
        seen++;
        const offer = OFFERS[service];
        assert.ok(offer, `${module} asks for ${service}, which no module is known to offer`);
        if (!(modules as readonly string[]).includes(offer.module)) outside.add(offer.endpoint);
      }
    const named = [...needs, ...asks] as string[];
    for (const endpoint of outside)
      assert.ok(named.includes(endpoint), `${role} asks for ${endpoint} and does not say so`);
    for (const endpoint of named) assert.ok(outside.has(endpoint), `${role} names ${endpoint} in vain`);
  }
  assert.ok(seen > 15, 'the code was looked at');
});
