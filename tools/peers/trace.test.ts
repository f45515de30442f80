// One trace from an association's request over C-STORE, commit and fold to the first retrieval: in one process, and with gRPC and HTTP
// between all its modules. The collector is ours, what it is sent is OTLP.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { type CollectedSpan, type Collector, startCollector } from '#platform/collector.testing.ts';
import { createMetrics } from '#platform/metrics.ts';
import { createTestContext } from '#platform/testing.ts';
import { openTelemetry } from '#platform/trace.otel.ts';
import { loadRole } from '../../services/roles.ts';
import { type TestFile, testFiles } from './files.ts';
import { freePort, startServer } from './server.ts';

const CALLER = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' };

async function sent(port: number, file: TestFile): Promise<void> {
  const association = await connect({
    host: '127.0.0.1',
    port,
    callingAeTitle: 'TRACED',
    calledAeTitle: 'GANTRY',
    contexts: [{ abstractSyntax: file.sopClassUid, transferSyntaxes: [file.transferSyntaxUid] }],
  });
  const { sopClassUid, sopInstanceUid, dataSet: data } = file;
  const contextId = association.findContext(sopClassUid, file.transferSyntaxUid)!.id;
  assert.equal((await store(association, { contextId, sopClassUid, sopInstanceUid, data })).status, 0);
  await association.release();
}

/** Once the study is found, which the fold sees to, it is retrieved by somebody who has a trace of his own. */
async function retrieved(origin: string, study: string): Promise<Response> {
  for (;;) {
    const found = await fetch(`${origin}/dicom-web/studies?StudyInstanceUID=${study}`);
    if (found.status === 200 && ((await found.json()) as unknown[]).length > 0) break;
  }
  const response = await fetch(`${origin}/dicom-web/studies/${study}`, {
    headers: { accept: '*/*', traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01` },
  });
  await response.arrayBuffer();
  return response;
}

/** The spans of the association's trace, each under the one that caused it. */
function checkTrace(all: CollectedSpan[], chain: readonly string[]): void {
  const root = all.find((span) => span.name === 'dimse.association')!;
  const own = all.filter((span) => span.traceId === root.traceId);
  const named = (name: string) => {
    const found = own.find((span) => span.name === name);
    assert.ok(found, `${name} is not among ${own.map((span) => span.name).join(', ')}`);
    return found;
  };
  let above = root;
  for (const name of chain) {
    const span = named(name);
    assert.equal(
      span.parentSpanId,
      above.spanId,
      `${name} is below ${own.find(({ spanId }) => spanId === span.parentSpanId)?.name}, not ${above.name}`,
    );
    assert.ok(BigInt(span.startTimeUnixNano) >= BigInt(root.startTimeUnixNano) - 1_000_000n, name);
    above = span;
  }
  const commit = named('storage.commit');
  const fold = named('index.fold');
  assert.ok(
    fold.links?.some(({ spanId }) => spanId === commit.spanId),
    'the fold is linked to the commit',
  );
  const first = named('index.first-retrieval');
  assert.ok(
    first.links?.some(({ traceId }) => traceId === CALLER.traceId),
    'the first retrieval is linked to whose it was',
  );
  const located = all.find((span) => span.name === 'index.locate' && span.traceId === CALLER.traceId)!;
  assert.ok(
    located.links?.some(({ traceId }) => traceId === root.traceId),
    'and whoever retrieves sees where it came from',
  );
  const door = all.find((span) => span.name === 'GET /dicom-web/studies/:study')!;
  assert.deepEqual([door.traceId, door.parentSpanId], [CALLER.traceId, CALLER.spanId]);
}

const NAMES = [
  'dimse.association',
  'storage.commit',
  'index.fold',
  'index.first-retrieval',
  'index.locate',
  'GET /dicom-web/studies/:study',
];
const whole = (all: CollectedSpan[]): boolean => NAMES.every((name) => all.some((span) => span.name === name));

describe('one trace from the first byte to the first retrieval', { timeout: 120_000 }, () => {
  let collector: Collector;
  let file: TestFile;
  before(async () => {
    const { files } = await testFiles();
    file = files.find((one) => one.row.class === 'storable' && one.dataSet.length > 10_000)!;
  });
  before(async () => {
    collector = await startCollector();
  });
  after(() => collector.close());

  test('a real process; its log lines and its histograms name the trace', async () => {
    const server = await startServer({
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
        GANTRY_PLATFORM_TRACE_SAMPLE: '1',
        GANTRY_DIMSE_ACCEPT_UNKNOWN: 'true',
      },
    });
    try {
      await sent(server.dimsePort, file);
      const response = await retrieved(server.origin, file.studyInstanceUid);
      assert.equal(response.status, 200);
      assert.match(response.headers.get('traceresponse') ?? '', new RegExp(`^00-${CALLER.traceId}-[0-9a-f]{16}-01$`));
      const all = await collector.until(whole);
      checkTrace(all, [
        'dimse.c-store',
        'ingest.store',
        'storage.append',
        'storage.commit',
        'index.fold',
        'index.first-retrieval',
      ]);
      const { traceId } = all.find((span) => span.name === 'dimse.association')!;
      const metrics = await fetch(`${server.origin}/metrics`, { headers: { accept: 'application/openmetrics-text' } });
      assert.match(metrics.headers.get('content-type') ?? '', /^application\/openmetrics-text; version=1\.0\.0/);
      const text = await metrics.text();
      for (const name of [
        'gantry_dimse_operation_seconds',
        'gantry_storage_append_seconds',
        'gantry_index_store_to_found_seconds',
      ])
        assert.match(text, new RegExp(`^${name}_bucket.* # \\{trace_id="${traceId}"\\}`, 'm'), name);
      const lines = server
        .log()
        .split('\n')
        .filter((line) => line.includes('association opened') || line.includes('association closed'));
      assert.deepEqual(
        lines.map((line) => JSON.parse(line).traceId),
        [traceId, traceId],
      );
    } finally {
      await server.close();
    }
  });

  test('with gRPC and HTTP between all modules', async () => {
    collector.bodies.length = 0;
    const { modules } = await loadRole('all');
    const metrics = createMetrics();
    const settings = { endpoint: collector.endpoint, sample: () => 1, queueMax: () => 10_000, role: 'all' };
    const [http, dimse] = [await freePort(), await freePort()];
    const context = await createTestContext({
      modules,
      overGrpc: true,
      spans: openTelemetry(settings, metrics),
      settings: { 'http.port': http, 'dimse.port': dimse, 'dimse.acceptUnknown': true },
    });
    try {
      await sent(dimse, file);
      assert.equal((await retrieved(`http://127.0.0.1:${http}`, file.studyInstanceUid)).status, 200);
      checkTrace(await collector.until(whole), [
        'dimse.c-store',
        'call ingest.store',
        'serve ingest.store',
        'ingest.store',
        'call storage.appendInstance',
        'serve storage.appendInstance',
        'storage.append',
        'storage.commit',
        'index.fold',
        'index.first-retrieval',
      ]);
    } finally {
      await context.stop();
      await metrics.close();
    }
  });
});
