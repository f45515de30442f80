import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runInNewContext } from 'node:vm';
import Fastify, { type FastifyInstance } from 'fastify';
import { GantryError } from '#platform/errors.ts';
import { pageRoute } from './page.ts';
import { appConfig, pageBelow, scriptBelow, styleBelow, viewerRoutes } from './viewer.ts';

function withPeer(origin: string): FastifyInstance {
  const app = Fastify();
  app.decorateRequest('peer', null as never);
  app.addHook('onRequest', async (request) => {
    request.peer = { address: '', origin };
  });
  app.setErrorHandler((error, _request, reply) => reply.code(error instanceof GantryError ? 404 : 500).send(''));
  return app;
}

describe('/', () => {
  const page = async (open: boolean) => {
    const app = withPeer('https://<pacs>&"example');
    const facts = { aeTitle: '<script>X', dimseHost: '"host', dimsePort: 11112, open, viewer: true };
    pageRoute(app, async () => facts);
    const answer = await app.inject('/');
    await app.close();
    return answer;
  };

  test('whatever is configured or asked for is text in it, and no script runs', async () => {
    const { body, headers } = await page(false);
    assert.doesNotMatch(body, /<script|"host|<pacs>/);
    assert.match(body, /&#60;script&#62;X/);
    assert.match(String(headers['content-security-policy']), /^default-src 'none'/);
    assert.doesNotMatch(String(headers['content-security-policy']), /script-src/);
  });

  test('says it where nobody has to log in', async () => {
    assert.match((await page(true)).body, /Nobody has to log in/);
    assert.doesNotMatch((await page(false)).body, /Nobody has to log in/);
  });
});

describe('OHIF below /viewer', () => {
  test('its page, bundles and styles look below /viewer, and nothing else moves', () => {
    assert.equal(
      pageBelow(
        '<script src="/app.js"></script><link href="//cdn/x"><a href="https://x/"><script>window.PUBLIC_URL="/"</script>',
      ),
      '<script src="/viewer/app.js"></script><link href="//cdn/x"><a href="https://x/"><script>window.PUBLIC_URL="/viewer/"</script>',
    );
    assert.equal(scriptBelow('__webpack_require__.p = "/";x="/"'), '__webpack_require__.p = "/viewer/";x="/"');
    assert.equal(
      styleBelow('a{b:url(/c.svg)}d{e:url("/f")}g{h:url(//i/j)}k{l:url(data:m)}'),
      'a{b:url(/viewer/c.svg)}d{e:url("/viewer/f")}g{h:url(//i/j)}k{l:url(data:m)}',
    );
  });

  test('its configuration is this archive, at the origin that the browser sees', () => {
    const window: { config?: { dataSources: { configuration: Record<string, unknown> }[]; routerBasename: string } } =
      {};
    runInNewContext(appConfig('https://pacs.example'), { window });
    const { configuration } = window.config!.dataSources[0]!;
    assert.equal(configuration.qidoRoot, 'https://pacs.example/dicom-web');
    assert.equal(configuration.wadoUriRoot, 'https://pacs.example/wado');
    assert.equal(window.config!.routerBasename, '/viewer');
  });

  test('nothing outside of its folder is served; unknown pages are the app, unknown files are not', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gantry-viewer-'));
    writeFileSync(join(directory, 'index.html'), '<title>OHIF</title>');
    writeFileSync(join(directory, 'a.css'), 'b{c:url(/d)}');
    writeFileSync(`${directory}-beside`, 'top secret');
    const app = withPeer('http://localhost:8080');
    viewerRoutes(app, directory);
    const get = (url: string) => app.inject(url);
    for (const path of ['/viewer', '/viewer/index.html', '/viewer/viewer?StudyInstanceUIDs=1'])
      assert.match((await get(path)).body, /OHIF/, path);
    assert.equal((await get('/viewer/a.css')).body, 'b{c:url(/viewer/d)}');
    assert.equal((await get('/viewer/no.js')).statusCode, 404);
    const name = directory.split('/').at(-1);
    for (const path of [`..%2f${name}-beside`, `%2e%2e/${name}-beside`, '..%2f..%2fetc%2fpasswd', 'a.css%00'])
      assert.doesNotMatch((await get(`/viewer/${path}`)).body, /top secret|root:/, path);
    const { headers } = await get('/viewer');
    assert.equal(headers['cross-origin-embedder-policy'], 'require-corp');
    const policy = String(headers['content-security-policy']);
    assert.match(policy, /connect-src 'self' http:\/\/localhost:8080 data: blob:(;|$)/);
    assert.match(policy, /frame-ancestors 'self'/);
    await app.close();
  });

  test('where it is not set up, its address says how', async () => {
    const app = withPeer('');
    viewerRoutes(app, '');
    assert.equal((await app.inject('/viewer')).statusCode, 404);
    await app.close();
  });
});
