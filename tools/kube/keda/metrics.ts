// external.metrics.k8s.io/v1beta1 for the HPA controller: each metric is a trigger's query, asked of Prometheus when somebody wants it.
// node tools/kube/keda/metrics.ts PKI HOST PORT, with the ScaledObjects as JSON on stdin; ends with stdin. Says `{}` when it listens, then
// a line for each answer: {object, signal, value}, or `error` instead of a value. Only the API server may ask (its front-proxy certificate).
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { OWNER_LABEL, quantity, type ScaledObject, type Signal, signalsOf } from './hpa.ts';

/** The certificate that pki.sh makes for it. */
export const CERTIFICATE = 'external-metrics';
const GROUP_VERSION = 'external.metrics.k8s.io/v1beta1';
const PATIENCE_MS = 3_000;

export interface Told {
  object: string;
  signal: string;
  value?: number;
  error?: string;
}

/** One number, or an error that says why there is none: KEDA scales on nothing else either (ignoreNullValues: false). */
export async function ask({ serverAddress, query }: Pick<Signal, 'serverAddress' | 'query'>): Promise<number> {
  const url = `${serverAddress}/api/v1/query?query=${encodeURIComponent(query)}&time=${Date.now() / 1000}`;
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`Prometheus answers ${answer.status} to ${query}: ${text}`);
  const { result } = (JSON.parse(text) as { data: { result: { value: [number, string] }[] } }).data;
  const value = Number(result[0]?.value[1]);
  if (result.length !== 1 || !Number.isFinite(value))
    throw new Error(`Prometheus has ${result.length} values for ${query}, and one is needed: ${text}`);
  return value;
}

/** Status and body of a GET. */
export async function answerTo(
  url: URL,
  objects: readonly ScaledObject[],
  tell: (what: Told) => void,
): Promise<[number, object]> {
  if (url.pathname === `/apis/${GROUP_VERSION}`) {
    const resource = { name: 'externalmetrics', singularName: '', namespaced: true, kind: 'ExternalMetricValueList' };
    const resources = [{ ...resource, verbs: ['get'] }];
    return [200, { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: GROUP_VERSION, resources }];
  }
  const failed = (code: number, message: string): [number, object] => [
    code,
    { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, message },
  ];
  const [, namespace, metric] =
    new RegExp(`^/apis/${GROUP_VERSION}/namespaces/([^/]+)/([^/]+)$`).exec(url.pathname) ?? [];
  const owner = (url.searchParams.get('labelSelector') ?? '').split(',').find((one) => one.startsWith(OWNER_LABEL));
  const name = owner?.split('=').at(-1);
  const object = objects.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace);
  const signal = object && signalsOf(object).find((one) => one.metric === metric);
  if (object === undefined || signal === undefined)
    return failed(404, `no trigger of a ScaledObject is ${url.pathname}${url.search}`);
  const what = { object: object.metadata.name, signal: signal.name };
  try {
    const value = await ask(signal);
    tell({ ...what, value });
    const item = {
      metricName: metric,
      metricLabels: null,
      timestamp: new Date().toISOString(),
      value: quantity(value),
    };
    return [200, { kind: 'ExternalMetricValueList', apiVersion: GROUP_VERSION, metadata: {}, items: [item] }];
  } catch (error) {
    const { message } = error as Error;
    tell({ ...what, error: message });
    return failed(500, message);
  }
}

async function serve([pki = '', host = '', port = '']: string[]): Promise<void> {
  const [first] = (await once(createInterface({ input: process.stdin }), 'line')) as [string];
  const objects = JSON.parse(first) as ScaledObject[];
  const say = (what: Partial<Told>) => process.stdout.write(`${JSON.stringify(what)}\n`);
  const file = (name: string) => readFileSync(join(pki, name));
  const server = createServer(
    {
      cert: file(`${CERTIFICATE}.crt`),
      key: file(`${CERTIFICATE}.key`),
      ca: file('front-proxy-ca.crt'),
      requestCert: true,
      rejectUnauthorized: true,
    },
    (request, response) => {
      void answerTo(new URL(request.url ?? '/', 'https://here'), objects, say).then(([status, body]) => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      });
    },
  );
  process.stdin.on('end', () => process.exit(0));
  server.listen(Number(port), host, () => say({}));
}

if (import.meta.main) await serve(process.argv.slice(2));
