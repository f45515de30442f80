import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { systemCall } from './call.ts';
import { type Collector, startCollector } from './collector.testing.ts';
import { GantryError } from './errors.ts';
import { createMetrics, type MetricsRunning } from './metrics.ts';
import { createLog } from './telemetry.ts';
import { openTelemetry, type SpanMaking } from './trace.otel.ts';
import { checkTracing, createTracing, parseTraceparent, TracedRequests, traceparentOf, tracesUrl } from './trace.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';
const call = systemCall('main', 'request-1');

test('traceparent, good and bad (W3C Trace Context §3.2)', () => {
  const good = `00-${TRACE}-${SPAN}-01`;
  assert.deepEqual(parseTraceparent(good), { traceId: TRACE, spanId: SPAN, sampled: true });
  assert.equal(traceparentOf(parseTraceparent(good)!), good);
  assert.equal(parseTraceparent(`00-${TRACE}-${SPAN}-00`)?.sampled, false);
  // A later version may say more, behind what we know.
  assert.equal(parseTraceparent(`01-${TRACE}-${SPAN}-03-more`)?.sampled, true);
  for (const bad of [
    undefined,
    '',
    'x',
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE}-${SPAN}-1`,
    `${good}\r\nx: y`,
    `01-${TRACE}-${SPAN}-01-${'x'.repeat(1_000)}`,
  ])
    assert.equal(parseTraceparent(bad), undefined, String(bad));
});

test('where the collector is', () => {
  assert.equal(tracesUrl('http://collector:4318'), 'http://collector:4318/v1/traces');
  assert.equal(tracesUrl('https://collector/otlp/'), 'https://collector/otlp/v1/traces');
  assert.equal(tracesUrl('http://collector:4318/v1/traces'), 'http://collector:4318/v1/traces');
  const check = (endpoint: string) => checkTracing({ string: () => endpoint });
  assert.deepEqual([check(''), check('http://collector:4318')], [[], []]);
  for (const endpoint of ['collector:4317', 'grpc://collector:4317', 'nonsense'])
    assert.match(check(endpoint)[0]!, /platform.otlpEndpoint .*http:\/\/collector:4318/);
});

describe('without a collector', () => {
  const requests = new TracedRequests();
  const tracing = createTracing(undefined, requests);

  test('no span, no context, and the work runs with the very call that it was given', async () => {
    const root = tracing.root(call, 'http', undefined);
    assert.equal(root.call, call);
    assert.equal(tracing.begin(call, 'x').call, call);
    assert.equal(await tracing.span(call, 'x', undefined, async (inner) => inner), call);
    await assert.rejects(
      tracing.span(call, 'x', undefined, async () => {
        throw new GantryError('not-found', 'x');
      }),
      /x/,
    );
  });

  test('a caller’s trace is carried on, and stands in the log while the request lasts', () => {
    const lines: string[] = [];
    const log = createLog({
      level: 'info',
      pretty: false,
      destination: { write: (line) => lines.push(line) },
      traced: requests,
    });
    const root = tracing.root(call, 'http', `00-${TRACE}-${SPAN}-01`);
    assert.deepEqual(root.call.trace, { traceId: TRACE, spanId: SPAN, sampled: true });
    log.info({ requestId: call.requestId }, 'within');
    log.info({ requestId: 'another' }, 'another');
    root.end();
    log.info({ requestId: call.requestId }, 'after');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).traceId),
      [TRACE, undefined, undefined],
    );
  });

  test('what is remembered for the log is bounded', () => {
    const many = new TracedRequests();
    for (let at = 0; at < 20_000; at++) many.note(`r${at}`, TRACE);
    assert.equal(many.of('r9999'), undefined);
    assert.equal(many.of('r10000'), TRACE);
  });
});

describe('with a collector', () => {
  let collector: Collector;
  let metrics: MetricsRunning;
  let share = 1;
  let queueMax = 1_000; // platform.traceQueueSpans
  const open = (endpoint = collector.endpoint): SpanMaking =>
    openTelemetry({ endpoint, sample: () => share, queueMax: () => queueMax, role: 'test' }, metrics);

  before(async () => {
    collector = await startCollector();
    metrics = createMetrics();
  });
  after(async () => {
    await metrics.close();
    await collector.close();
  });
  const counted = async (pattern: RegExp) => Number(pattern.exec(await metrics.expose())?.[1]);

  test('a trace: root, steps, links, an error by its code, and no text but of the list', async () => {
    const maker = open();
    const tracing = createTracing(maker);
    const root = tracing.root(call, 'dimse.association', undefined, {
      kind: 'server',
      startMs: 1_000,
      attributes: { callingAeTitle: 'CT1', patientName: 'Doe^John', instances: 3 },
    });
    await assert.rejects(
      tracing.span(root.call, 'ingest.store', { sopClassUid: '1.2', studyInstanceUid: 'Doe^John' }, async (inner) => {
        assert.equal(inner.trace?.traceId, root.call.trace?.traceId);
        throw new GantryError('no-space', 'Doe^John has no room');
      }),
    );
    const fold = tracing.begin(root.call, 'index.fold', { links: [{ traceId: TRACE, spanId: SPAN, sampled: true }] });
    fold.end(new TypeError('Doe^John'));
    root.end();
    await maker.close();
    const spans = await collector.until((all) => all.length >= 3);
    const [one, two, three] = ['dimse.association', 'ingest.store', 'index.fold'].map(
      (name) => spans.find((span) => span.name === name)!,
    );
    assert.equal(one.parentSpanId ?? '', '');
    assert.deepEqual([two.parentSpanId, three.parentSpanId], [one.spanId, one.spanId]);
    assert.equal(new Set(spans.map((span) => span.traceId)).size, 1);
    assert.equal(one.startTimeUnixNano, '1000000000');
    assert.equal(one.service, 'gantry-test');
    assert.deepEqual(
      three.links?.map(({ traceId, spanId }) => [traceId, spanId]),
      [[TRACE, SPAN]],
    );
    const attribute = (span: typeof one, key: string) =>
      span.attributes.find((one) => one.key === key)?.value.stringValue;
    assert.deepEqual([attribute(one, 'callingAeTitle'), attribute(one, 'patientName')], ['CT1', '[refused]']);
    assert.deepEqual([attribute(two, 'error.type'), attribute(three, 'error.type')], ['no-space', 'TypeError']);
    assert.equal(two.status.code, 2);
    assert.ok(!collector.bodies.join().includes('Doe'), collector.bodies.join());
  });

  test('the share decides where a trace begins; whoever sends one has decided', async () => {
    share = 0;
    const tracing = createTracing(open());
    assert.equal(tracing.root(call, 'x', undefined).call.trace, undefined);
    const kept = tracing.root(call, 'x', `00-${TRACE}-${SPAN}-01`).call.trace!;
    assert.equal(kept.traceId, TRACE);
    assert.notEqual(kept.spanId, SPAN);
    assert.equal(tracing.root(call, 'x', `00-${TRACE}-${SPAN}-00`).call.trace?.spanId, SPAN);
    share = 1;
  });

  test('a collector that is gone or refuses: dropped, counted, and nobody waits', async () => {
    const refused = /^gantry_trace_spans_dropped_total\{reason="collector"\} (\d+)/m;
    const overfull = /^gantry_trace_spans_dropped_total\{reason="queue"\} (\d+)/m;
    queueMax = 10; // platform.traceQueueSpans
    collector.answer(400);
    const before = await counted(refused);
    const maker = open();
    const tracing = createTracing(maker);
    for (let at = 0; at < 25; at++) tracing.root(call, 'x', undefined).end();
    assert.equal(await counted(overfull), 15);
    await maker.close();
    assert.equal((await counted(refused)) - before, 10);
    const gone = open('http://127.0.0.1:9');
    createTracing(gone).root(call, 'x', undefined).end();
    await gone.close();
    assert.equal((await counted(refused)) - before, 11);
    collector.answer(200);
  });
});
