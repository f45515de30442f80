import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An OpenTelemetry collector for tests: takes OTLP as JSON over HTTP, and keeps it. */
export interface CollectedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  links?: { traceId: string; spanId: string }[];
  status: { code?: number };
  /** service.name of the process that made it. */
  service: string;
}

export interface Collector {
  readonly endpoint: string;
  /** Everything that was sent, as it came. */
  readonly bodies: string[];
  spans(): CollectedSpan[];
  /** Resolves once `enough` says so of all spans so far; asked again when more come. */
  until(enough: (spans: CollectedSpan[]) => boolean): Promise<CollectedSpan[]>;
  /** What it answers from now on. */
  answer(status: number): void;
  close(): Promise<void>;
}

export async function startCollector(): Promise<Collector> {
  const bodies: string[] = [];
  let status = 200;
  const waiting = new Set<() => void>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (request.url === '/v1/traces' && status === 200) bodies.push(Buffer.concat(chunks).toString('utf8'));
    response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    for (const look of [...waiting]) look();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const spans = (): CollectedSpan[] =>
    bodies.flatMap((body) =>
      JSON.parse(body).resourceSpans.flatMap(
        (resource: {
          resource: { attributes: { key: string; value: { stringValue: string } }[] };
          scopeSpans: { spans: Omit<CollectedSpan, 'service'>[] }[];
        }) => {
          const service =
            resource.resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? '';
          return resource.scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, service })));
        },
      ),
    );
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    spans,
    until: (enough) =>
      new Promise((resolve) => {
        const look = () => {
          const all = spans();
          if (!enough(all)) return;
          waiting.delete(look);
          resolve(all);
        };
        waiting.add(look);
        look();
      }),
    answer: (code) => {
      status = code;
    },
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
