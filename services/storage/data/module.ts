import { GantryError } from '#platform/errors.ts';
import type { Context, Module, Running } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { Position } from '#proto/storage/v1/log.ts';
import { AppendRequest, DataService } from '#proto/storage/v1/storage.ts';
import { openArchive } from '../adapters/open.ts';
import { checkTenant } from '../log/names.ts';
import { type Appending, appending } from '../observe.ts';
import type { Archive } from '../ports.ts';
import { checkStorageSettings, storageSettings } from '../settings.ts';
import { Appender } from './append.ts';
import { checkPlaces, streamPlaces } from './read.ts';

const SEAL_EVERY_MS = 60_000;
const SIZE_FRESH_MS = 60_000;

/** Append to the archive log and read from it. Stateless towards its callers. */
export const dataModule: Module = {
  name: 'storage/data',
  settings: storageSettings,
  check: checkStorageSettings,
  async start(context: Context): Promise<Running> {
    const { settings } = context;
    let room: Awaited<ReturnType<Archive['room']>> | undefined;
    let waiting: string | undefined;
    // Below the reserve queries and reads go on: ready, and saying so.
    context.readiness(() => {
      if (!room) return { ready: false, detail: waiting ?? 'the archive is being opened' };
      const { accepting, freeBytes, reserveBytes } = room;
      return {
        ready: true,
        detail: accepting
          ? 'archive open'
          : `new instances are refused: ${freeBytes} bytes free, storage.reserveBytes is ${reserveBytes}`,
      };
    });
    const archive = await openArchive(context, (why) => (waiting = why));
    // What another process committed is read without being looked for.
    const stopListening = context.wake.subscribe('log.committed', (tenant, payload) =>
      archive.log.told(tenant, Position.decode(payload)),
    );
    const appender = new Appender(archive, {
      smallLimit: () => settings.number('storage.smallLimit'),
      queueBytes: () => settings.number('storage.queueBytes'),
      queueEntries: () => settings.number('storage.queueEntries'),
    });
    serveData(context, archive, appender);
    serveBytes(context, archive, appender, appending(context));
    room = await archive.room();
    const look = setInterval(() => {
      archive.room().then(
        (seen) => (room = seen),
        (error) => context.log.warn({ err: error }, 'the free space could not be read'),
      );
    }, 5_000).unref();
    const seal = setInterval(() => {
      archive.log.sealAged().catch((error) => context.log.warn({ err: error }, 'an aged segment could not be sealed'));
    }, SEAL_EVERY_MS).unref();
    context.metrics.gauge('gantry_storage_free_bytes', 'Free space on the archive’s disk', () => room?.freeBytes ?? 0);
    return {
      async stop() {
        stopListening();
        clearInterval(look);
        clearInterval(seal);
        await archive.close();
      },
    };
  },
};

function serveData(context: Context, archive: Archive, appender: Appender): void {
  const size = archiveSize(archive);
  context.serve(DataService, {
    async heads(call, { since }) {
      return { positions: await archive.log.heads(checkTenant(call.tenant), since) };
    },
    readLog: (call, { after, lanes, since }) =>
      archive.log.read(checkTenant(call.tenant), after, lanes, call.signal, since),
    async append(call, request) {
      if (AppendRequest.encode(request).finish().length > context.settings.number('storage.controlBytes'))
        throw new GantryError('too-large', 'a request of control entries above storage.controlBytes');
      return appender.control(call, request.entries);
    },
    async space(call) {
      const { freeBytes, reserveBytes, accepting } = await archive.room();
      const archiveBytes = await size(call.tenant);
      return { freeBytes, reserveBytes, accepting, archiveBytes };
    },
  });
}

function serveBytes(context: Context, archive: Archive, appender: Appender, append: Appending): void {
  context.serveBulk(BULK.appendInstance, async (call, request, body) => ({
    response: await append(call, (inner) => appender.instance(inner, request, body)),
  }));
  context.serveBulk(BULK.putLarge, async (call, { expectedBytes }, body) => ({
    response: await appender.putLarge(call, expectedBytes, body),
  }));
  context.serveBulk(BULK.appendLarge, async (call, request) => ({
    response: await append(call, (inner) => appender.appendLarge(inner, request)),
  }));
  context.serveBulk(BULK.read, async (call, { places }) => {
    if (places.length > context.settings.number('storage.readRanges'))
      throw new GantryError('too-large', 'too many ranges in one request');
    const length = await checkPlaces(archive.objects, checkTenant(call.tenant), places);
    return { response: { length }, body: streamPlaces(archive.objects, places, call.signal) };
  });
}

/** A large archive is a walk of seconds, and who watches its size does not need it to the second. */
function archiveSize(archive: Archive): (tenant: string) => Promise<number> {
  const seen = new Map<string, { bytes: Promise<number>; atMs: number }>();
  const walk = async (tenant: string): Promise<number> => {
    let sum = 0;
    for (const area of ['log', 'pack', 'large'] as const)
      for await (const { bytes } of archive.objects.list(area, tenant)) sum += bytes;
    return sum;
  };
  return (tenant) => {
    const last = seen.get(tenant);
    if (last && performance.now() - last.atMs < SIZE_FRESH_MS) return last.bytes;
    const bytes = walk(tenant);
    bytes.catch(() => seen.delete(tenant)); // answered to whoever asked; the next one walks again
    seen.set(tenant, { bytes, atMs: performance.now() });
    return bytes;
  };
}
