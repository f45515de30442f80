// The HTTP door's own rules, over a real server: who may come in, under which name, and how an answer reaches who is still sending.
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { startServer } from './server.ts';

describe('the HTTP door', { timeout: 2 * 60_000 }, () => {
  test('a token, where one is asked for; probes stay open', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'gantry-token-')), 'tokens');
    writeFileSync(file, 'secret-token-of-a-viewer\n', { mode: 0o600 });
    const server = await startServer({ env: { GANTRY_HTTP_TOKEN_FILE: file } });
    try {
      const ask = (token?: string) =>
        fetch(`${server.dicomWeb}/studies`, {
          headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
        });
      const refused = await ask();
      assert.equal(refused.status, 401);
      assert.match(refused.headers.get('www-authenticate')!, /^Bearer/);
      assert.equal((await ask('wrong')).status, 401);
      assert.equal((await ask('secret-token-of-a-viewer')).status, 200);
      assert.equal((await fetch(`${server.origin}/readyz`)).status, 200);
      assert.doesNotMatch(server.log(), /secret-token|wrong/);
    } finally {
      await server.close();
    }
  });

  test('a foreign Host is refused, and CORS is answered only to listed origins', async () => {
    const server = await startServer({
      env: { GANTRY_HTTP_CORS_ORIGINS: 'https://viewer.example', GANTRY_HTTP_QIDO_NO_MATCH: '204' },
    });
    try {
      const withHost = (host: string) =>
        new Promise<number>((resolve, reject) => {
          httpRequest(`${server.dicomWeb}/studies`, { headers: { Host: host } }, (answer) => {
            answer.resume();
            resolve(answer.statusCode!);
          })
            .on('error', reject)
            .end();
        });
      assert.equal(await withHost('evil.example'), 403);
      assert.equal(await withHost(`localhost:${server.httpPort}`), 204);
      const preflight = await fetch(`${server.dicomWeb}/studies`, {
        method: 'OPTIONS',
        headers: { Origin: 'https://viewer.example', 'Access-Control-Request-Method': 'GET' },
      });
      assert.deepEqual(
        [preflight.status, preflight.headers.get('access-control-allow-origin')],
        [204, 'https://viewer.example'],
      );
      const foreign = await fetch(`${server.dicomWeb}/studies`, { headers: { Origin: 'https://evil.example' } });
      assert.equal(foreign.headers.get('access-control-allow-origin'), null);
      assert.match(foreign.headers.get('vary')!, /Origin.*Accept/, 'a cache keeps the answers to two origins apart');
    } finally {
      await server.close();
    }
  });

  test('URLs in answers: X-Forwarded-* only from a trusted proxy, http.publicUrl always', async () => {
    const forwarded = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'pacs.example', Accept: 'application/json' };
    const base = async (env: Record<string, string>): Promise<string> => {
      const server = await startServer({ env });
      try {
        const answer = await fetch(`${server.dicomWeb}/`, { method: 'OPTIONS', headers: forwarded });
        return ((await answer.json()) as { base: string }).base.replace(server.origin, 'ours');
      } finally {
        await server.close();
      }
    };
    assert.equal(await base({}), 'ours/dicom-web');
    assert.equal(
      await base({ GANTRY_HTTP_TRUSTED_PROXIES: '127.0.0.1', GANTRY_HTTP_HOSTS: 'pacs.example' }),
      'https://pacs.example/dicom-web',
    );
    assert.equal(await base({ GANTRY_HTTP_PUBLIC_URL: 'https://images.example' }), 'https://images.example/dicom-web');
    await assert.rejects(startServer({ env: { GANTRY_HTTP_TRUSTED_PROXIES: 'proxy' } }), /trustedProxies/);
  });

  test('beyond loopback without authentication the start stops and says what to do', async () => {
    await assert.rejects(startServer({ env: { GANTRY_HTTP_HOST: '0.0.0.0' } }), /http\.tokenFile/);
    await assert.rejects(startServer({ env: { GANTRY_DIMSE_HOST: '0.0.0.0' } }), /peers/);
    await assert.rejects(startServer({ yaml: 'htpp:\n  port: 1\n' }), /htpp|unknown/);
  });
});
