import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { extname, join, normalize, sep } from 'node:path';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { GantryError } from '#platform/errors.ts';
import { DICOMWEB, originOf } from '../dicomweb/root.ts';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.woff': 'font/woff',
  '.ttf': 'font/ttf',
  '.onnx': 'application/octet-stream',
};

/**
 * SharedArrayBuffer, which OHIF's volumes are in, needs a cross-origin isolated page. Nothing is loaded from, or sent to, anywhere else:
 * `wasm` decoders and webpack's bundles need eval, styles are inline, workers and pictures come as blobs.
 */
const viewerHeaders = (origin: string) => ({
  'Content-Security-Policy': [
    `default-src 'self' ${origin}`,
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    `connect-src 'self' ${origin} data: blob:`,
    `media-src 'self' ${origin} blob:`,
    `object-src 'self' ${origin} blob:`,
    `frame-src 'self' ${origin} blob:`,
    "frame-ancestors 'self'",
    "base-uri 'self'",
    "form-action 'self'",
  ].join('; '),
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
});

export const viewerIsThere = (directory: string): boolean =>
  directory !== '' && existsSync(join(directory, 'index.html'));

/** OHIF's built dist, served below /viewer and configured for this archive. It asks for nothing beyond this origin. */
export function viewerRoutes(app: FastifyInstance, directory: string): void {
  const config = { useCase: null };
  if (!viewerIsThere(directory)) {
    const absent = async () => {
      throw new GantryError(
        'unavailable',
        'the viewer is not set up here: run `make setup` where the npm registry can be reached, then start again',
      );
    };
    app.get('/viewer', { config }, absent);
    app.get('/viewer/*', { config }, absent);
    return;
  }
  // The dist is built for the root of a site; here it lives below one folder.
  const index = pageBelow(readFileSync(join(directory, 'index.html'), 'utf8'));

  const moved = new Map<string, Buffer>();
  /** Bundles and styles hold the root of the site in them: the same text with /viewer/ in its place, made once. */
  const below = async (path: string): Promise<Buffer> => {
    const known = moved.get(path);
    if (known !== undefined) return known;
    const text = await readFile(path, 'utf8');
    const made = Buffer.from(path.endsWith('.css') ? styleBelow(text) : scriptBelow(text));
    moved.set(path, made);
    return made;
  };
  const page = (request: FastifyRequest, reply: FastifyReply) =>
    reply
      .headers({ ...viewerHeaders(originOf(request)), 'Cache-Control': 'no-cache' })
      .type(TYPES['.html']!)
      .send(index);
  app.get('/viewer', { config }, async (request, reply) => page(request, reply));
  app.get('/viewer/app-config.js', { config }, async (request, reply) =>
    reply
      .headers({ ...viewerHeaders(originOf(request)), 'Cache-Control': 'no-cache' })
      .type(TYPES['.js']!)
      .send(appConfig(originOf(request))),
  );
  app.get('/viewer/*', { config }, async (request, reply) => {
    const asked = (request.params as { '*': string })['*'];
    const path = normalize(join(directory, asked));
    if (!path.startsWith(directory + sep) || asked.includes('\0'))
      throw new GantryError('not-found', 'the viewer has no such file');
    const found = await stat(path).then(
      (one) => (one.isFile() ? one : undefined),
      () => undefined, // no such file: below, either a page of the app or 404
    );
    if (found === undefined) {
      if (extname(path) !== '') throw new GantryError('not-found', 'the viewer has no such file');
      return page(request, reply); // a page of the single-page app, e.g. /viewer/viewer?StudyInstanceUIDs=…
    }
    if (path === join(directory, 'index.html')) return page(request, reply);
    const hashed = /\.[0-9a-f]{16}\.|\/[0-9a-f]{16,}\./.test(path);
    reply.headers({
      ...viewerHeaders(originOf(request)),
      'Cache-Control': hashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    });
    reply.type(TYPES[extname(path)] ?? 'application/octet-stream');
    if (extname(path) === '.js' || extname(path) === '.css') return reply.send(await below(path));
    return reply
      .header('Content-Length', String(found.size))
      .send(request.method === 'HEAD' ? undefined : createReadStream(path));
  });
}

export const pageBelow = (html: string): string =>
  html
    .replaceAll(/(\s(?:src|href|content)=")\/(?!\/)/g, '$1/viewer/')
    .replace('window.PUBLIC_URL="/"', 'window.PUBLIC_URL="/viewer/"');

export const scriptBelow = (script: string): string =>
  script.replace(/(__webpack_require__\.p\s*=\s*")\/"/g, '$1/viewer/"');

export const styleBelow = (style: string): string => style.replace(/url\((["']?)\/(?!\/)/g, 'url($1/viewer/');

export function appConfig(origin: string): string {
  const root = `${origin}${DICOMWEB}`;
  const config = {
    name: 'gantry',
    routerBasename: '/viewer',
    extensions: [],
    modes: [],
    customizationService: {},
    showStudyList: true,
    maxNumberOfWebWorkers: 3,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    experimentalStudyBrowserSort: false,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    investigationalUseDialog: { option: 'never' },
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    defaultDataSourceName: 'gantry',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'gantry',
        configuration: {
          friendlyName: 'Gantry',
          name: 'gantry',
          wadoUriRoot: `${origin}/wado`,
          qidoRoot: root,
          wadoRoot: root,
          qidoSupportsIncludeField: true,
          supportsReject: false,
          dicomUploadEnabled: true,
          imageRendering: 'wadors',
          thumbnailRendering: 'wadors', // from frames: rendered thumbnails come with `render`
          enableStudyLazyLoad: true,
          supportsFuzzyMatching: true,
          supportsWildcard: true,
          staticWado: false,
          singlepart: 'bulkdata,video,pdf',
          bulkDataURI: { enabled: true, relativeResolution: 'studies' },
          omitQuotationForMultipartRequest: false,
        },
      },
    ],
  };
  return `window.config = ${JSON.stringify(config, null, 2)};\n`;
}
