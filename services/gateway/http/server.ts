import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { isIP } from 'node:net';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Call } from '#platform/call.ts';
import { ERRORS, GantryError, toGantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { isLoopback } from '#platform/net.ts';
import type { AuditEvent } from '#platform/ports.ts';
import { requestId } from '#platform/request-id.ts';
import { AuthService } from '#proto/auth/v1/auth.ts';

/** What every route says of itself. `useCase` null: a page or probe that touches nobody's data. */
export interface RouteConfig {
  useCase: string | null;
  event?: string; // PS3.15 §A.5.3
  action?: AuditEvent['action'];
}

declare module 'fastify' {
  interface FastifyContextConfig extends Partial<RouteConfig> {}
  interface FastifyRequest {
    call: Call;
    /** Study, series and instance UIDs that the handler touched beyond those of the path. */
    auditObjects: AuditEvent['objects'];
    startedAt: number;
    /** Of a body that was already on its way. */
    failure: unknown;
  }
}

const OUTCOME = (status: number): AuditEvent['outcome'] => (status < 400 ? 0 : status < 500 ? 4 : 8);

/** Fastify with Gantry's rules in front of every route: Host, who, tenant, limits, one log line, one audit record, one error shape. */
export function createHttp(context: Context): FastifyInstance {
  const { settings, log } = context;
  const requests = context.metrics.counter('gantry_http_requests_total', 'HTTP requests by route and status');
  const seconds = context.metrics.histogram(
    'gantry_http_request_seconds',
    'Duration of HTTP requests',
    [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
  );
  const app = Fastify({
    logger: false,
    bodyLimit: settings.number('http.jsonBodyMax'),
    exposeHeadRoutes: true,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 4096 },
    genReqId: requestId,
    requestIdHeader: false,
    forceCloseConnections: false,
    clientErrorHandler: answerClientError,
  });
  const auth = context.client(AuthService);

  // Bodies that are no JSON are never read here: the handler streams them on.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    if (body === '') return done(null, {});
    try {
      done(null, JSON.parse(body as string));
    } catch {
      done(new GantryError('invalid-argument', 'the body is no JSON')); // the parser's own words would quote the body
    }
  });
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.decorateRequest('call', null as unknown as Call);
  app.decorateRequest('auditObjects', null as unknown as AuditEvent['objects']);
  app.decorateRequest('startedAt', 0);
  app.decorateRequest('failure', undefined);

  app.addHook('onRequest', async (request, reply) => {
    request.startedAt = performance.now();
    request.auditObjects = [];
    const abort = new AbortController();
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) abort.abort();
    });
    const address = request.socket.remoteAddress ?? '';
    reply.header('X-Request-Id', request.id);
    reply.header('X-Content-Type-Options', 'nosniff');
    // Filled in before anything can fail, so that a refusal is audited too.
    const nobody = { id: 'unknown', kind: 'anonymous', roles: [], tenant: 'main' };
    request.call = { tenant: 'main', principal: nobody, requestId: request.id, signal: abort.signal };
    checkHost(request, settings.list('http.hosts'), settings.string('http.host'));
    if (answerCors(request, reply, settings.list('http.corsOrigins'))) return reply;
    if (request.routeOptions.config.useCase === null && request.routeOptions.url !== '/metrics') return;
    const bearer = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    const { principal } = await auth.authenticate(request.call, {
      evidence:
        bearer !== undefined
          ? { $case: 'bearerToken', value: bearer }
          : { $case: 'anonymous', value: { door: 'http' } },
      address,
    });
    if (principal === undefined) throw new GantryError('unauthenticated', 'who asks could not be told');
    request.call = { ...request.call, principal, tenant: principal.tenant };
    const { allowed } = await auth.authorize(request.call, {
      principal,
      action: request.routeOptions.config.useCase ?? 'http.metrics',
      resource: studyOf(request) ?? '',
    });
    if (!allowed) throw new GantryError('permission-denied', 'this principal may not do that');
  });

  app.addHook('onResponse', async (request, reply) => {
    const config = request.routeOptions.config;
    const route = request.routeOptions.url ?? 'none';
    const ms = performance.now() - request.startedAt;
    requests.add(1, { method: request.method, route, status: String(reply.statusCode) });
    seconds.record(ms / 1000, { route });
    if (request.failure !== undefined && !request.call.signal.aborted) {
      log.error({ requestId: request.id, route, err: toGantryError(request.failure) }, 'an answer broke off');
    }
    if (config.useCase) {
      context.audit.record(request.call, {
        event: config.event ?? 'Application Activity',
        action: config.action ?? 'E',
        outcome: request.failure === undefined ? OUTCOME(reply.statusCode) : 8,
        useCase: config.useCase,
        objects: [...pathObjects(request), ...request.auditObjects],
        source: { address: request.socket.remoteAddress },
      });
    }
    if (config.useCase !== null || reply.statusCode >= 400) {
      log.info(
        {
          requestId: request.id,
          method: request.method,
          route, // the pattern, never the URL: a query string can hold a name
          status: reply.statusCode,
          ms: Math.round(ms * 10) / 10,
          principal: request.call.principal.id,
          address: request.socket.remoteAddress,
        },
        'request',
      );
    }
  });

  app.setErrorHandler((raw, request, reply) => answerError(context, raw, request, reply));
  app.setNotFoundHandler({ preHandler: async () => {} }, (request, reply) => {
    answerError(
      context,
      new GantryError('not-found', 'nothing is served at this address; / says where everything is'),
      request,
      reply,
    );
  });
  return app;
}

function answerError(context: Context, raw: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = fromFastify(raw) ?? toGantryError(raw);
  const row = ERRORS[error.code];
  if (row.level === 'error' || error.code === 'internal')
    context.log.error({ requestId: request.id, err: error }, 'request failed');
  if (reply.sent || reply.raw.headersSent) {
    reply.raw.destroy(); // a cut-off answer must not look whole
    return;
  }
  if (error.code === 'unauthenticated') reply.header('WWW-Authenticate', 'Bearer realm="gantry"');
  if (row.http === 503) reply.header('Retry-After', '5');
  if (row.http === 413 || row.http === 415 || row.http === 507 || row.http === 503) reply.header('Connection', 'close'); // a body may still be coming
  reply
    .code(row.http)
    .type('application/json; charset=utf-8')
    .send({ error: error.code, message: error.message, requestId: request.id });
}

/** Fastify's own refusals, as rows of our table. */
function fromFastify(raw: unknown): GantryError | undefined {
  const code = (raw as { code?: unknown })?.code;
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return new GantryError('too-large', 'the body is larger than http.jsonBodyMax', { cause: raw });
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new GantryError('unsupported-media-type', 'no such Content-Type is taken here', { cause: raw });
  if (typeof code === 'string' && code.startsWith('FST_ERR_CTP'))
    return new GantryError('invalid-argument', 'the body does not fit its headers', { cause: raw });
  if (code === 'FST_ERR_BAD_URL' || raw instanceof URIError)
    return new GantryError('invalid-argument', 'the address holds a bad percent-encoding', { cause: raw });
  return undefined;
}

function answerClientError(error: NodeJS.ErrnoException & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** A browser that was led here by a foreign name sends that name (DNS rebinding): only names that are ours are served. */
function checkHost(request: FastifyRequest, allowed: string[], listening: string): void {
  const host = (request.headers.host ?? '').toLowerCase();
  const name = host.startsWith('[') ? host.slice(1, host.indexOf(']')) : host.replace(/:\d+$/, '');
  if (allowed.includes('*') || allowed.some((one) => one.toLowerCase() === name)) return;
  if (name === '' && request.raw.httpVersion === '1.0') return; // no browser
  if (isLoopback(name) || name === listening.toLowerCase()) return;
  // An address is not a name that somebody else's DNS could point at us.
  if (!isLoopback(listening) && isIP(name) !== 0) return;
  throw new GantryError('permission-denied', 'this Host is not ours: list it in http.hosts');
}

/** Answers a preflight; true when it did. */
function answerCors(request: FastifyRequest, reply: FastifyReply, origins: string[]): boolean {
  const origin = request.headers.origin;
  if (origin === undefined) return false;
  reply.header('Vary', 'Origin');
  if (!origins.includes(origin) && !origins.includes('*')) return false;
  reply.header('Access-Control-Allow-Origin', origin);
  reply.header(
    'Access-Control-Expose-Headers',
    'Content-Type, Warning, ETag, Content-Range, X-Request-Id, X-Next-Cursor',
  );
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return false;
  reply.header('Access-Control-Allow-Methods', 'GET, HEAD, POST, DELETE, OPTIONS');
  reply.header(
    'Access-Control-Allow-Headers',
    request.headers['access-control-request-headers'] ?? 'Accept, Authorization, Content-Type, Range',
  );
  reply.header('Access-Control-Max-Age', '600');
  reply.code(204).send();
  return true;
}

function pathObjects(request: FastifyRequest): AuditEvent['objects'] {
  const params = request.params as Record<string, string> | undefined;
  const objects: AuditEvent['objects'] = [];
  if (params?.study) objects.push({ type: 'study', id: params.study });
  if (params?.series) objects.push({ type: 'series', id: params.series });
  if (params?.instance) objects.push({ type: 'instance', id: params.instance });
  return objects;
}

const studyOf = (request: FastifyRequest): string | undefined =>
  (request.params as Record<string, string> | undefined)?.study;

/** Listens on every address that `http.host` names; answers the port, which is the same on all. */
export async function listen(
  app: FastifyInstance,
  context: Context,
): Promise<{ port: number; hosts: string[]; close(): Promise<void> }> {
  const { settings } = context;
  await app.ready();
  const host = settings.string('http.host');
  const hosts = host === 'localhost' ? ['127.0.0.1', '::1'] : [host];
  const servers: Server[] = [];
  let port = settings.number('http.port');
  for (const one of hosts) {
    const server = createServer(
      {
        maxHeaderSize: settings.number('http.headersMax'),
        headersTimeout: settings.number('http.headersTimeoutMs'),
        requestTimeout: 0, // bodies of any size: the idle limit below watches them instead
        keepAliveTimeout: settings.number('http.keepAliveMs'),
        connectionsCheckingInterval: Math.min(5000, settings.number('http.headersTimeoutMs')),
        noDelay: true,
      },
      (request, response) => app.routing(request, response),
    );
    server.maxConnections = settings.number('http.connectionsMax');
    server.timeout = settings.number('http.bodyIdleMs');
    server.on('clientError', answerClientError);
    try {
      port = await new Promise<number>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, one, () => resolve((server.address() as AddressInfo).port));
      });
      servers.push(server);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      if (one === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) continue; // no IPv6 on this machine
      for (const open of servers) open.close();
      throw new GantryError(
        'unavailable',
        `cannot listen on ${one} port ${port} (${code}): is another Gantry running? Set http.port to another port.`,
        { cause },
      );
    }
  }
  return {
    port,
    hosts,
    close: async () => {
      await Promise.all(
        servers.map(
          (server) =>
            new Promise<void>((resolve) => {
              server.close(() => resolve());
              server.closeIdleConnections();
            }),
        ),
      );
      await app.close();
    },
  };
}

/** The request's body as it comes from the socket. */
export const bodyOf = (request: FastifyRequest): IncomingMessage => request.raw;
