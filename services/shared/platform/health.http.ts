import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { GantryError } from './errors.ts';
import { CONTENT_TYPES, formatFor } from './metrics-text.ts';
import type { Context } from './module.ts';
import { hostPort } from './net.ts';

export interface HealthDoor {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * /healthz, /readyz and /metrics of a process that has no HTTP door of its own, or whose door is shared by several (platform.reusePort):
 * probes and Prometheus want this very process.
 */
export async function serveHealth(context: Context, host: string, port: number): Promise<HealthDoor> {
  const json = (response: http.ServerResponse, status: number, body: unknown) =>
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(body));
  const server = http.createServer({ keepAliveTimeout: 65_000, requestTimeout: 10_000 }, (request, response) => {
    request.resume();
    const path = request.method === 'GET' ? (request.url ?? '').split('?')[0] : '';
    if (path === '/healthz') json(response, 200, { status: 'ok' });
    else if (path === '/readyz') {
      const checks = context.health();
      const ready = checks.every((check) => check.ready);
      json(response, ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', checks });
    } else if (path === '/metrics') {
      const format = formatFor(request.headers.accept);
      context.metrics.expose(format).then(
        (text) => response.writeHead(200, { 'content-type': CONTENT_TYPES[format] }).end(text),
        (error) => {
          context.log.error({ err: error }, 'the metrics could not be read');
          json(response, 500, { status: 'the metrics could not be read' });
        },
      );
    } else json(response, 404, { status: 'only GET /healthz, /readyz and /metrics are here' });
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.listen(port, host);
  await once(server, 'listening').catch((cause) => {
    throw new GantryError(
      'unavailable',
      `cannot listen on ${hostPort(host, port)} (${(cause as NodeJS.ErrnoException).code}): set platform.healthPort to another port`,
      { cause },
    );
  });
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

const CONNECTIONS_MAX = 64; // a kubelet, a Prometheus or two, and a person
