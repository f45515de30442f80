import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { systemCall } from '#platform/call.ts';
import type { Context, Module, Running } from '#platform/module.ts';
import { isLoopback } from '#platform/net.ts';
import { cacheDir } from '#platform/paths.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import { createReader } from '../read.ts';
import { createReadYourWrites, type ReadYourWrites } from '../read-your-writes.ts';
import { createUseCases } from '../use-cases.ts';
import { registerApi } from './api/api.ts';
import { apiRoutes } from './api/routes.ts';
import { bulkDataRoutes } from './dicomweb/bulkdata.ts';
import { capabilitiesRoute } from './dicomweb/capabilities.ts';
import { deleteRoutes } from './dicomweb/delete.ts';
import { frameRoutes } from './dicomweb/frames.ts';
import { metadataRoutes } from './dicomweb/metadata.ts';
import { renderedRoutes } from './dicomweb/rendered.ts';
import { retrieveRoutes } from './dicomweb/retrieve.ts';
import { DICOMWEB } from './dicomweb/root.ts';
import { searchRoutes } from './dicomweb/search.ts';
import { httpWriter, storeRoutes } from './dicomweb/store.ts';
import { uriRoutes } from './dicomweb/uri.ts';
import { listen } from './listen.ts';
import { createHttp } from './server.ts';
import { checkHttpSettings, httpSettings } from './settings.ts';
import { healthRoutes } from './web/health.ts';
import { pageRoute } from './web/page.ts';
import { viewerIsThere, viewerRoutes } from './web/viewer.ts';

const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

export interface RegisteredRoute {
  method: string;
  url: string;
  /** Of its config: null says on purpose that it touches nobody's data, undefined that somebody forgot. */
  useCase: string | null | undefined;
}

/** The HTTP door: DICOMweb, the API, the viewer. */
export const httpModule: Module = {
  name: 'gateway/http',
  settings: httpSettings,
  check: checkHttpSettings,
  async start(context: Context): Promise<Running> {
    const { app, written } = await httpDoor(context);
    await app.ready();
    const address = await listen(context.settings, (request, response) => app.routing(request, response));
    context.log.info(
      { port: address.port, hosts: address.hosts, open: isLoopback(context.settings.string('http.host')) },
      'HTTP door open',
    );
    return {
      drain: () => address.drain(),
      stop: async () => {
        address.close();
        written.stop();
        await app.close();
      },
    };
  },
};

/** The door before it listens, and all that it serves: tools/peers/audit.test.ts wants each route audited. */
export async function httpDoor(
  context: Context,
): Promise<{ app: FastifyInstance; registered: RegisteredRoute[]; written: ReadYourWrites }> {
  const { settings } = context;
  const app = createHttp(context);
  const registered: RegisteredRoute[] = [];
  app.addHook('onRoute', (route) => {
    for (const method of [route.method].flat())
      registered.push({ method, url: route.url, useCase: route.config?.useCase });
  });
  const reader = createReader(context);
  const written = createReadYourWrites(context);
  const useCases = createUseCases(context);
  const viewer = settings.string('http.viewerDir') || join(cacheDir(), 'ohif-3.13.2');
  // Whoever stored something sees it in whatever is asked next.
  app.addHook('preHandler', async (request) => {
    if (request.routeOptions.config.useCase && request.method !== 'POST')
      await written.settle(request.call, httpWriter(request));
  });
  await app.register(
    async (dicomweb) => {
      searchRoutes(dicomweb, context);
      retrieveRoutes(dicomweb, reader);
      metadataRoutes(dicomweb, context);
      frameRoutes(dicomweb, reader, settings);
      bulkDataRoutes(dicomweb, reader);
      storeRoutes(dicomweb, context, written);
      renderedRoutes(dicomweb, reader);
      deleteRoutes(dicomweb, useCases);
      capabilitiesRoute(dicomweb, registered);
    },
    { prefix: DICOMWEB },
  );
  uriRoutes(app, reader);
  registerApi(app, apiRoutes(context, useCases, written), VERSION);
  viewerRoutes(app, viewer);
  healthRoutes(app, context);

  const dimse = context.client(DimseService);
  pageRoute(app, async () => {
    const { aeTitle, host, port } = await dimse.listPeers(systemCall('main', 'page'), {});
    return {
      aeTitle,
      dimseHost: host,
      dimsePort: port,
      open: settings.string('http.tokenFile') === '',
      viewer: viewerIsThere(viewer),
    };
  });
  return { app, registered, written };
}
