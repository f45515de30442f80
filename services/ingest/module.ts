import { join } from 'node:path';
import type { Call } from '#platform/call.ts';
import { ERRORS, type GantryError } from '#platform/errors.ts';
import type { Context, Module, Running, Settings } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { IngestService, type StoreResponse } from '#proto/ingest/v1/ingest.ts';
import type { Source } from '#proto/storage/v1/log.ts';
import { Accept, type Observer } from './accept.ts';
import { Permits } from './permits.ts';
import { settings } from './settings.ts';
import { Spool } from './spool.ts';
import { Stow } from './stow.ts';

export const module: Module = {
  name: 'ingest',
  settings,

  check(settings: Settings): string[] {
    const small = settings.number('storage.smallLimit');
    const total = settings.number('ingest.permitBytes');
    const stream = settings.number('ingest.streamBytes');
    const sentences: string[] = [];
    if (total < small)
      sentences.push(
        `ingest.permitBytes (${total}) must hold at least one instance: raise it to storage.smallLimit (${small}) or above.`,
      );
    if (stream > small)
      sentences.push(
        `ingest.streamBytes (${stream}) is part of what an instance holds already: lower it to storage.smallLimit (${small}) or below.`,
      );
    return sentences;
  },

  async start(context: Context): Promise<Running> {
    const { settings } = context;
    const counts = { accepted: 0, refused: 0, bytes: 0 };
    const observer = observe(context, counts);
    const permits = new Permits(settings.number('ingest.permitBytes'), () => ({
      senderBytes: settings.number('ingest.permitBytesPerSender'),
      waiters: settings.number('ingest.permitWaiters'),
      waitMs: settings.number('ingest.permitWaitMs'),
    }));
    context.metrics.gauge(
      'gantry_ingest_permit_bytes',
      'Memory for instances on their way in: in use',
      () => permits.inUse,
    );
    context.metrics.gauge(
      'gantry_ingest_permit_limit_bytes',
      'Memory for instances on their way in: in all (ingest.permitBytes)',
      () => permits.total,
    );
    context.metrics.gauge(
      'gantry_ingest_waiting_bytes',
      'Memory that those who wait for it will take, at most',
      () => permits.waiting * settings.number('storage.smallLimit'),
    );
    context.metrics.gauge('gantry_ingest_permit_waiters', 'Instances that wait for memory', () => permits.waiting);

    const archive = {
      appendInstance: context.bulk(BULK.appendInstance),
      putLarge: context.bulk(BULK.putLarge),
      appendLarge: context.bulk(BULK.appendLarge),
    };
    const limits = () => ({
      smallBytes: settings.number('storage.smallLimit'),
      streamBytes: settings.number('ingest.streamBytes'),
      headBytes: settings.number('ingest.headBytes'),
    });
    const accept = new Accept(archive, permits, limits, observer);
    const spool = new Spool(join(context.dataDir, 'derived', 'stow'), () => ({
      memoryBytes: settings.number('ingest.stowBulkBytes'),
      diskBytes: settings.number('ingest.stowSpoolBytes'),
    }));
    await spool.start();
    context.metrics.gauge(
      'gantry_ingest_stow_spool_bytes',
      'Bulk data parts of STOW requests that wait to be joined',
      () => [
        { value: spool.memoryBytes, labels: { where: 'memory' } },
        { value: spool.diskBytes, labels: { where: 'disk' } },
      ],
    );
    const stowLimits = () => ({
      parallel: settings.number('ingest.stowParallel'),
      partsMax: settings.number('ingest.stowParts'),
      metadataBytesMax: settings.number('ingest.stowMetadataBytes'),
    });
    const stow = new Stow(accept, stowLimits, spool);

    const timed = timing(context);
    context.serveBulk(BULK.store, (call, request, body) =>
      timed(call, 'store', async (inner) => ({ response: await accept.store(inner, request, body) })),
    );
    context.serveBulk(BULK.storePart10, (call, request, body) =>
      timed(call, 'storePart10', async (inner) => ({ response: await accept.storePart10(inner, request, body) })),
    );
    context.serveBulk(BULK.stow, (call, request, body) =>
      timed(call, 'stow', (inner) => stow.stow(inner, request, body)),
    );
    context.serve(IngestService, {
      status: async () => ({ permitsTotal: permits.total, permitsInUse: permits.inUse, ...counts }),
    });
    // What is in flight belongs to the doors: they drain, and without them nothing arrives here.
    return { stop: () => spool.stop() };
  },
};

const SECONDS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60];

/** From the wait for a permit to the answer, which is durable: a step of the call's trace, and its time. */
function timing({ metrics, trace }: Context) {
  const seconds = metrics.histogram('gantry_ingest_seconds', 'From a request’s first byte to its answer', SECONDS);
  return async <T>(
    call: Call,
    what: 'store' | 'storePart10' | 'stow',
    work: (call: Call) => Promise<T>,
  ): Promise<T> => {
    const began = performance.now();
    try {
      return await trace.span(call, `ingest.${what}`, undefined, work);
    } finally {
      seconds.record((performance.now() - began) / 1e3, { what }, call);
    }
  };
}

/** One counter a meaning; a log line only for what was refused, with UIDs and nothing else of the data set. */
function observe(context: Context, counts: { accepted: number; refused: number; bytes: number }): Observer {
  const instances = context.metrics.counter(
    'gantry_ingest_instances_total',
    'Instances kept: durable before they were counted',
  );
  const bytes = context.metrics.counter('gantry_ingest_bytes_total', 'Bytes of the instances kept, as Part 10 files');
  const refusals = context.metrics.counter('gantry_ingest_refusals_total', 'Instances refused, by error code');
  return {
    kept(source: Source | undefined, length: number) {
      counts.accepted++;
      counts.bytes += length;
      const labels = { door: source?.door ?? '' };
      instances.add(1, labels);
      bytes.add(length, labels);
    },
    refused(call: Call, source: Source | undefined, response: StoreResponse, cause: GantryError) {
      counts.refused++;
      refusals.add(1, { code: cause.code });
      context.log[ERRORS[cause.code].level](
        {
          requestId: call.requestId,
          tenant: call.tenant,
          door: source?.door,
          callingAeTitle: source?.callingAeTitle,
          code: cause.code,
          comment: response.errorComment,
          sopClassUid: loggable(response.sopClassUid),
          sopInstanceUid: loggable(response.sopInstanceUid),
          studyInstanceUid: loggable(response.studyInstanceUid),
          ...(cause.code === 'internal' && { err: cause.cause ?? cause }),
        },
        'instance refused',
      );
    },
  };
}

/** A hostile sender may put anything where a UID belongs: only what has the form of one is logged. */
const loggable = (uid: string): string | undefined => (/^[0-9.]{1,64}$/.test(uid) ? uid : undefined);
