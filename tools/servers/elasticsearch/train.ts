// One life of a node, to record what a start and the usual requests load: node train.ts DIR WORK. Writes DIR/node.aot.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { layOutHome } from '../elasticsearch.home.ts';
import { freePorts } from '../ports.ts';

const [dir, work] = process.argv.slice(2).map((path) => resolve(path)) as [string, string];
const [http, transport] = (await freePorts(2)) as [number, number];
const home = join(work, 'home');
layOutHome(dir, home, {
  'node.name': 'train',
  'network.host': '127.0.0.1',
  'http.port': http,
  'transport.port': transport,
  'discovery.type': 'single-node',
});
const node = spawn(join(dir, 'run.sh'), [home], {
  env: { ...process.env, ES_TRAIN: join(dir, 'node.aot') },
  stdio: ['ignore', 'inherit', 'inherit'],
});
const exited = once(node, 'exit');

const url = `http://127.0.0.1:${http}`;
async function ask(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const type = typeof body === 'string' ? 'application/x-ndjson' : 'application/json';
  const answer = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { body: text, headers: { 'content-type': type } }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as Record<string, unknown>;
}

for (const until = Date.now() + 180_000; ; await sleep(200)) {
  if (node.exitCode !== null) throw new Error('the node stopped while starting');
  // Not listening yet: asked again until it is too late.
  if (await ask('GET', '/').catch(() => undefined)) break;
  if (Date.now() > until) throw new Error('the node does not answer');
}
await ask('PUT', '/train-1', {
  settings: {
    number_of_replicas: 0,
    analysis: { normalizer: { folded: { type: 'custom', filter: ['asciifolding'] } } },
  },
  mappings: {
    dynamic: 'strict',
    properties: { name: { type: 'keyword', normalizer: 'folded' }, day: { type: 'date' }, count: { type: 'long' } },
  },
  aliases: { train: {} },
});
const lines = Array.from({ length: 200 }, (_, id) => [
  { index: { _id: String(id) } },
  { name: `Müller^${id}`, day: '2026-01-01', count: id },
]);
await ask(
  'POST',
  '/train/_bulk?refresh=true',
  lines
    .flat()
    .map((line) => `${JSON.stringify(line)}\n`)
    .join(''),
);
const { id } = await ask('POST', '/train/_pit?keep_alive=1m');
await ask('POST', '/_search', {
  pit: { id },
  query: { bool: { filter: [{ wildcard: { name: 'Mu*' } }, { range: { day: { gte: '2025-01-01' } } }] } },
  sort: [{ count: 'asc' }],
  aggs: { days: { terms: { field: 'day' } } },
  search_after: [10],
});
await ask('POST', '/train/_update/1', { doc: { count: 5 } });
await ask('DELETE', '/train-1');

node.kill('SIGTERM');
// It writes the cache on its way out.
const [code, signal] = await exited;
process.stdout.write(`ended with ${code ?? signal}\n`);
