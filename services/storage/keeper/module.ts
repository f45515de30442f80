import { ulid } from 'ulid';
import { type Call, systemCall } from '#platform/call.ts';
import type { Context, Module, Running } from '#platform/module.ts';
import { StudyEvent } from '#proto/index/v1/index.ts';
import { KeeperService, type KeeperStatusResponse } from '#proto/storage/v1/storage.ts';
import { openArchive } from '../adapters/open.ts';
import { checkTenant } from '../log/names.ts';
import type { Archive } from '../ports.ts';
import { storageSettings } from '../settings.ts';
import { createCompact } from './compact.ts';
import { Damage } from './damage.ts';
import { createFacts } from './facts.ts';
import { createReclaim, FREE_PREFIX } from './reclaim.ts';
import { keeperSettings } from './settings.ts';
import { verify } from './verify.ts';

const SETTLED = 'study.settled';
const LAST_EXPORT_MS = 5000;

/** What happens to bytes after they were kept: packing, removal, verification. */
export const keeperModule: Module = {
  name: 'storage/keeper',
  settings: { ...storageSettings, ...keeperSettings },
  async start(context: Context): Promise<Running> {
    const { settings, log } = context;
    const archive = await openArchive(context);
    const damage = new Damage();
    const compact = createCompact(context, archive, damage);
    const reclaim = createReclaim(context, archive, {
      deletionDelayMs: () => settings.number('keeper.deletionDelayMs'),
      orphanAgeMs: () => settings.number('keeper.orphanAgeMs'),
    });
    const abort = new AbortController();
    const moved = context.metrics.counter('gantry_keeper_instances_moved_total', 'Instances packed');
    const freed = context.metrics.counter(
      'gantry_keeper_bytes_freed_total',
      'Bytes removed after they were moved or purged',
    );

    // One at a time: packing and removing look at the same segments.
    let last: Promise<unknown> = Promise.resolve();
    const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
      const turn = last.then(work, work);
      last = turn.catch(() => undefined); // its caller is told
      return turn;
    };
    /** Whoever asks may go away; stopping ends it too. */
    const until = (call: Call): Call => ({ ...call, signal: AbortSignal.any([call.signal, abort.signal]) });
    const limits = () => ({
      limit: settings.number('keeper.studiesPerRun'),
      packBytes: settings.number('keeper.packBytes'),
    });
    const pack = (call: Call, study: string) =>
      inTurn(async () => {
        const done = await compact(until(call), { ...limits(), study });
        moved.add(done.instancesMoved);
        return done;
      });
    const remove = (call: Call, now: boolean) =>
      inTurn(async () => {
        const done = await reclaim(until(call), now);
        freed.add(done.bytesFreed);
        return done;
      });

    context.serve(KeeperService, {
      compact: (call, { studyInstanceUid }) => pack(call, studyInstanceUid),
      async reclaim(call, { now }) {
        // On a full disk there is no room for packs, but what was purged can be said to be free.
        // Whatever is removed, every lane was listed before: also where no keeper runs of itself (adr/0051).
        await archive.log.closeDeadLanes();
        await inTurn(() => compact(until(call), { ...limits(), study: '', dropOnly: true }));
        return remove(call, now);
      },
      verify: (call, { studyInstanceUid, digests }) =>
        verify(context, archive, call, { study: studyInstanceUid, digests }),
      status: (call) => status(context, archive, damage, checkTenant(call.tenant)),
    });

    const { state } = archive;
    const facts = state && createFacts(context, state);
    let lastExport: Promise<unknown> = Promise.resolve();
    /** One at a time. It fails where the store or KeyValue does: the next one goes on. */
    const exportFacts = (signal: AbortSignal): Promise<void> => {
      const turn = lastExport.then(async () => {
        if (facts && !signal.aborted) await facts(await archive.log.tenants(), signal);
      });
      lastExport = turn.catch((error) => {
        if (!signal.aborted) log.warn({ err: error }, 'the configured facts were not exported; the next run goes on');
      });
      return lastExport as Promise<void>;
    };
    // Before the doors open, so that whoever asks for a fact finds what the export knows. Without NATS the start goes on all the same.
    await exportFacts(abort.signal);
    const exporting = setInterval(() => void exportFacts(abort.signal), settings.number('keeper.exportMs')).unref();

    const run = async (): Promise<void> => {
      if (!settings.boolean('keeper.enabled')) return;
      await context.lease.hold('keeper/lanes', abort.signal, async () => {
        const closed = await archive.log.closeDeadLanes();
        if (closed > 0) log.info({ lanes: closed }, 'lanes of processes that are gone were closed');
      });
      for (const tenant of await archive.log.tenants()) {
        const call = systemCall(tenant, `keeper-${ulid()}`, abort.signal);
        // The lease saves two keepers from doing the same work.
        await context.lease.hold(`keeper/${tenant}`, abort.signal, async (held) => {
          await pack({ ...call, signal: held }, '');
          await remove({ ...call, signal: held }, false);
        });
      }
    };
    let running = false;
    const tick = (): void => {
      if (running || abort.signal.aborted || !context.ready()) return;
      running = true;
      run()
        .catch((error) => {
          if (!abort.signal.aborted) log.warn({ err: error }, 'the keeper did not finish a run; the next one goes on');
        })
        .finally(() => {
          running = false;
        });
    };
    const timer = setInterval(tick, settings.number('keeper.intervalMs')).unref();
    // A study that settled is packed at once; its job is done once it has been looked at.
    const stopJobs = context.jobs.work(
      SETTLED,
      { concurrency: 1, attemptsMax: 20, backoffMs: [1000, 10_000, 60_000] },
      async (job) => {
        if (!settings.boolean('keeper.enabled')) return;
        const { studyInstanceUid } = StudyEvent.decode(job.payload);
        await pack(systemCall(job.tenant, `keeper-${ulid()}`, job.signal), studyInstanceUid);
      },
    );
    return {
      async stop() {
        abort.abort();
        clearInterval(timer);
        clearInterval(exporting);
        await stopJobs();
        await last;
        await exportFacts(AbortSignal.timeout(LAST_EXPORT_MS)); // what changed since the last one, if the store answers
        await archive.close();
      },
    };
  },
};

async function status(
  context: Context,
  archive: Archive,
  damage: Damage,
  tenant: string,
): Promise<KeeperStatusResponse> {
  const waiting = new Set((await context.kv.list(tenant, FREE_PREFIX)).map(({ key }) => key.slice(FREE_PREFIX.length)));
  const sums = { log: 0, pack: 0, large: 0 };
  let packs = 0;
  let reclaimableBytes = 0;
  for (const area of ['log', 'pack', 'large'] as const)
    for await (const { object, bytes } of archive.objects.list(area, tenant)) {
      sums[area] += bytes;
      if (area === 'pack') packs++;
      if (waiting.has(object)) reclaimableBytes += bytes;
    }
  return {
    logBytes: sums.log,
    packBytes: sums.pack,
    largeBytes: sums.large,
    reclaimableBytes,
    tornBytes: await archive.log.tornBytes(),
    segments: (await archive.log.segments(tenant)).length,
    packs,
    alarms: [
      ...archive.log
        .alarms()
        .filter((alarm) => alarm.tenant === tenant || alarm.tenant === '')
        .map((alarm) => `${alarm.kind}: ${alarm.detail}`),
      ...damage.list(tenant).map((detail) => `damaged-instance: ${detail}`),
    ],
  };
}
