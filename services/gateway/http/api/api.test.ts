// Work that takes long, over a real socket: http.bodyIdleMs watches bodies, not whoever waits for an answer.
import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { createTestContext } from '#platform/testing.ts';
import { loadRole } from '../../../roles.ts';
import { listen } from '../listen.ts';
import { createHttp } from '../server.ts';
import { httpSettings } from '../settings.ts';
import { registerApi } from './api.ts';
import type { ApiRoute } from './routes.ts';

test('an answer may take longer than http.bodyIdleMs; the next request on the connection has its clock again', async () => {
  const IDLE_MS = 100;
  const context = await createTestContext({
    modules: (await loadRole('auth')).modules,
    tables: [httpSettings],
    settings: { 'http.port': 0, 'http.host': '127.0.0.1', 'http.bodyIdleMs': IDLE_MS },
  });
  const clocks: (number | undefined)[] = [];
  const route = (path: string, run: ApiRoute['run'], rawBody?: string): ApiRoute => ({
    method: 'POST',
    path,
    summary: '',
    useCase: `api.${path.slice(1)}`,
    event: 'Application Activity',
    action: 'E',
    answer: 'application/json',
    rawBody,
    run,
  });
  const app = createHttp(context);
  const work = async ({ raw }: Parameters<ApiRoute['run']>[0]) => {
    clocks.push(raw.socket.timeout);
    await new Promise((resolve) => setTimeout(resolve, 4 * IDLE_MS)); // the work
    return { done: true };
  };
  const look = async ({ raw }: Parameters<ApiRoute['run']>[0]) => ({ clock: clocks.push(raw.socket.timeout) });
  registerApi(app, [route('/long', work), route('/bytes', look, 'application/dicom')], '1');
  await app.ready();
  const listening = await listen(context.settings, (incoming, response) => app.routing(incoming, response));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const post = (path: string, type: string): Promise<{ status?: number; reused: boolean }> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': type };
      const asking = request(
        { port: listening.port, method: 'POST', path: `/api/v1${path}`, headers, agent },
        (answer) => {
          answer.resume();
          answer.once('end', () => resolve({ status: answer.statusCode, reused: asking.reusedSocket }));
        },
      );
      asking.once('error', reject);
      asking.end(type === 'application/json' ? '{}' : 'bytes');
    });
  try {
    assert.deepEqual(await post('/long', 'application/json'), { status: 200, reused: false });
    assert.deepEqual(await post('/bytes', 'application/dicom'), { status: 200, reused: true });
    assert.deepEqual(clocks, [0, IDLE_MS]);
  } finally {
    agent.destroy();
    listening.close();
    await app.close();
    await context.stop();
  }
});
