import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { IngestService } from '#proto/ingest/v1/ingest.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import type { Call } from './call.ts';
import { type Collector, startCollector } from './collector.testing.ts';
import { GantryError } from './errors.ts';
import { createMetrics } from './metrics.ts';
import { BULK } from './routes.ts';
import { createTestContext, type TestContext } from './testing.ts';
import { openTelemetry, type SpanMaking } from './trace.otel.ts';

describe('what goes between processes is counted, timed and traced', () => {
  let collector: Collector;
  let spans: SpanMaking;
  let context: TestContext;
  const own = createMetrics();
  const seen: Call[] = [];

  before(async () => {
    collector = await startCollector();
    spans = openTelemetry({ endpoint: collector.endpoint, sample: () => 1, queueMax: () => 1_000, role: 'test' }, own);
    context = await createTestContext({ overGrpc: true, spans });
    context.serve(IngestService, {
      status: async (call) => {
        seen.push(call);
        return { permitsTotal: 1, permitsInUse: 0, accepted: 0, refused: 0, bytes: 0 };
      },
    });
    context.serve(DataService, {
      heads: async () => {
        throw new GantryError('no-space', 'full');
      },
      readLog: async function* () {},
      append: async () => {
        throw new Error('not asked');
      },
      space: async () => {
        throw new Error('not asked');
      },
    });
    context.serveBulk(BULK.read, async (call, { places }) => {
      seen.push(call);
      async function* body() {
        yield Buffer.alloc(1_000);
        if (places.length > 0) throw new GantryError('damaged', 'half');
      }
      return { response: { length: 1_000 }, body: body() };
    });
  });
  after(async () => {
    await context.stop();
    await own.close();
    await collector.close();
  });
  const read = async (call: Call, places: number) => {
    const place = { object: 'x', offset: 0, length: 1, encoding: 0 };
    const { body } = await context.bulk(BULK.read)(call, { places: new Array(places).fill(place) });
    for await (const _ of body);
  };

  test('gRPC and bulk: one trace through both, and the handlers are in it', async () => {
    const root = context.trace.root(context.call(), 'test', undefined);
    await context.client(IngestService).status(root.call, {});
    await read(root.call, 0);
    await assert.rejects(context.client(DataService).heads(root.call, {}), /full/);
    await assert.rejects(read(root.call, 1), /half/);
    for await (const _ of context.client(DataService).readLog(root.call, { after: [], lanes: [] }));
    root.end();
    const all = await collector.until((some) => some.length >= 11);
    assert.equal(new Set(all.map((span) => span.traceId)).size, 1);
    const named = (name: string) => all.filter((span) => span.name === name);
    for (const route of ['ingest.v1.Ingest/Status', 'storage.read', 'storage.v1.Data/Heads']) {
      const [asked, served] = [named(`call ${route}`), named(`serve ${route}`)];
      assert.ok(
        asked.length > 0 && asked.length === served.length,
        `${route} in ${all.map(({ name }) => name).join()}`,
      );
      assert.ok(
        served.every((one) => asked.some(({ spanId }) => spanId === one.parentSpanId)),
        route,
      );
      assert.deepEqual([asked[0]!.kind, served[0]!.kind], [3, 2]); // CLIENT, SERVER
    }
    assert.ok(seen.every((call) => call.trace?.traceId === root.call.trace?.traceId));
    assert.equal(named('serve storage.v1.Data/Heads')[0]!.status.code, 2);
  });

  test('rate, errors and duration', async () => {
    const text = await context.metrics.expose();
    for (const side of ['client', 'server']) {
      for (const line of [
        `gantry_rpc_${side}_requests_total{method="ingest.v1.Ingest/Status",code="ok"} 1`,
        `gantry_rpc_${side}_requests_total{method="storage.v1.Data/Heads",code="no-space"} 1`,
        `gantry_rpc_${side}_requests_total{method="storage.v1.Data/ReadLog",code="ok"} 1`,
        `gantry_bulk_${side}_requests_total{route="storage.read",code="ok"} 1`,
        `gantry_bulk_${side}_requests_total{route="storage.read",code="damaged"} 1`,
        `gantry_bulk_${side}_seconds_count{route="storage.read"} 2`,
      ])
        assert.ok(text.includes(`${line}\n`), `${line}\nin\n${text.replace(/^(?!gantry_(rpc|bulk)).*\n/gm, '')}`);
    }
    assert.match(text, /^gantry_bulk_sent_bytes_total\{route="storage.read"\} 2000$/m);
    assert.match(
      await context.metrics.expose('openmetrics'),
      /gantry_rpc_server_seconds_bucket\{.*trace_id="[0-9a-f]{32}"/,
    );
  });

  test('untraced calls make no span', async () => {
    const before = collector.spans().length;
    await context.client(IngestService).status(context.call(), {});
    assert.equal(seen.at(-1)!.trace, undefined);
    await spans.close();
    assert.equal(collector.spans().length, before);
  });
});
