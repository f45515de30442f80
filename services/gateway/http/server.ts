import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Call } from '#platform/call.ts';
import { ERRORS, GantryError, toGantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import type { AuditEvent } from '#platform/ports.ts';
import { requestId } from '#platform/request-id.ts';
import { type Span, traceparentOf } from '#platform/trace.ts';
import { AuthService } from '#proto/auth/v1/auth.ts';
import { answerClientError } from './listen.ts';
import { methodsTaken } from './methods.ts';
import { addressMatcher, type Peer, type PeerRules, peerOf } from './peer.ts';
import { discardRest, goOn } from './refused-body.ts';
import { vary } from './vary.ts';

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
    peer: Peer;
    /** Study, series and instance UIDs that the handler touched beyond those of the path. */
    auditObjects: AuditEvent['objects'];
    startedAt: number;
    /** Of a body that was already on its way. */
    failure: unknown;
    span: Span | undefined;
  }
}

/** Whatever somebody stored and a browser is led to: nothing in it runs, in our origin least of all. */
const NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'; sandbox";

const OUTCOME = (status: number): AuditEvent['outcome'] => (status < 400 ? 0 : status < 500 ? 4 : 8);

/** Fastify with Gantry's rules in front of every route: Host, who, tenant, limits, one log line, one audit record, one error shape. */
export function createHttp(context: Context): FastifyInstance {
  const { settings, log } = context;
  const requests = context.metrics.counter('gantry_http_requests_total', 'HTTP requests by route and status');
  const seconds = context.metrics.histogram(
    'gantry_http_request_seconds',
    'Duration of HTTP requests',
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
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
  const taken = methodsTaken(app);
  const auth = context.client(AuthService);
  const rules: PeerRules = {
    publicUrl: settings.string('http.publicUrl'),
    trusted: addressMatcher(settings.list('http.trustedProxies')),
    hosts: settings.list('http.hosts'),
    listening: settings.string('http.host'),
  };

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
  app.decorateRequest('peer', null as unknown as Peer);
  app.decorateRequest('auditObjects', null as unknown as AuditEvent['objects']);
  app.decorateRequest('startedAt', 0);
  app.decorateRequest('failure', undefined);
  app.decorateRequest('span', undefined);

  /** Once a request, however it ended: counted, audited, logged. */
  const ended = (request: FastifyRequest, reply: FastifyReply): void => {
    const config = request.routeOptions.config;
    const route = request.routeOptions.url ?? 'none';
    const ms = performance.now() - request.startedAt;
    const whole = reply.raw.writableFinished;
    requests.add(1, { method: request.method, route, status: String(reply.statusCode) });
    seconds.record(ms / 1000, { route }, request.call);
    if (request.failure !== undefined) {
      log.error({ requestId: request.id, route, err: toGantryError(request.failure) }, 'an answer broke off');
    }
    if (config.useCase) {
      context.audit.record(request.call, {
        event: config.event ?? 'Application Activity',
        action: config.action ?? 'E',
        outcome: request.failure !== undefined ? 8 : whole ? OUTCOME(reply.statusCode) : 4,
        useCase: config.useCase,
        objects: [...pathObjects(request), ...request.auditObjects],
        source: { address: request.peer.address },
        ...(whole ? {} : { detail: { answer: 'broke off' } }),
      });
    }
    if (config.useCase !== null || reply.statusCode >= 400) {
      log.info(
        {
          requestId: request.id,
          method: request.method,
          route, // the pattern, never the URL: a query string can hold a name
          status: reply.statusCode,
          whole,
          ms: Math.round(ms * 10) / 10,
          principal: request.call.principal.id,
          address: request.peer.address,
        },
        'request',
      );
    }
    request.span?.set({ status: reply.statusCode, whole });
    request.span?.end(request.failure ?? (reply.statusCode >= 500 ? 'status' : undefined));
  };

  /** Goes on with the caller's trace (W3C Trace Context), or begins one; the answer says which. Probes are nobody's. */
  const traced = (request: FastifyRequest, reply: FastifyReply): void => {
    const { traceparent } = request.headers;
    const route = request.routeOptions.url ?? 'none';
    request.span = context.trace.root(
      request.call,
      `${request.method} ${route}`,
      typeof traceparent === 'string' ? traceparent : undefined,
      {
        kind: 'server',
        attributes: { 'http.request.method': request.method, 'http.route': route, requestId: request.id },
      },
    );
    request.call = request.span.call;
    if (request.call.trace !== undefined) reply.header('Traceresponse', traceparentOf(request.call.trace));
  };

  app.addHook('onRequest', async (request, reply) => {
    request.startedAt = performance.now();
    request.auditObjects = [];
    const abort = new AbortController();
    // Not Fastify's onResponse: it never comes when the client hangs up, and then too something may have been done.
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) abort.abort();
      ended(request, reply);
    });
    const remoteAddress = request.socket.remoteAddress ?? '';
    request.peer = { address: remoteAddress, origin: '' };
    reply.header('X-Request-Id', request.id);
    reply.header('X-Content-Type-Options', 'nosniff');
    reply.header('Content-Security-Policy', NOTHING_RUNS); // a page says its own
    // Filled in before anything can fail, so that a refusal is audited too.
    const nobody = { id: 'unknown', kind: 'anonymous', roles: [], tenant: 'main' };
    request.call = { tenant: 'main', principal: nobody, requestId: request.id, signal: abort.signal };
    if (request.routeOptions.config.useCase) traced(request, reply);
    const { headers } = request;
    const { localAddress = '', localPort = 0 } = request.socket;
    const { httpVersion } = request.raw;
    request.peer = peerOf({ remoteAddress, localAddress, localPort, httpVersion, headers }, rules);
    const { address } = request.peer;
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

  // Past the checks: a JSON body is read next.
  app.addHook('preParsing', async (request, reply) => {
    if (/^application\/json\b/i.test(request.headers['content-type'] ?? '')) goOn(request, reply);
  });

  app.setErrorHandler((raw, request, reply) => answerError(context, raw, request, reply));
  app.setNotFoundHandler({ preHandler: async () => {} }, (request, reply) => {
    const allow = taken(request.url);
    if (allow.length > 0) reply.header('Allow', allow.join(', '));
    const error =
      allow.length > 0
        ? new GantryError('method-not-allowed', `this address takes ${allow.join(', ')}`)
        : new GantryError('not-found', 'nothing is served at this address; / says where everything is');
    answerError(context, error, request, reply);
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
  if (row.http === 503 || row.http === 507) reply.header('Retry-After', row.http === 503 ? '5' : '300');
  reply.removeHeader('Connection'); // Fastify's, on a body that it refused: a reset, and the answer is lost
  discardRest(request, reply, context.settings.number('http.refusedBodyMax'));
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

/** Answers a preflight; true when it did. */
function answerCors(request: FastifyRequest, reply: FastifyReply, origins: string[]): boolean {
  const origin = request.headers.origin;
  if (origin === undefined) return false;
  vary(reply, 'Origin');
  if (!origins.includes(origin) && !origins.includes('*')) return false;
  reply.header('Access-Control-Allow-Origin', origin);
  reply.header(
    'Access-Control-Expose-Headers',
    'Content-Type, Content-Location, Content-Range, ETag, Retry-After, Warning, X-Request-Id, Traceresponse, X-Next-Cursor',
  );
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return false;
  reply.header('Access-Control-Allow-Methods', 'GET, HEAD, POST, PUT, DELETE, OPTIONS');
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
