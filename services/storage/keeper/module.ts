import { ulid } from 'ulid';
import { type Call, systemCall } from '#platform/call.ts';
import type { Context, Module, Running } from '#platform/module.ts';
import { KeeperService } from '#proto/storage/v1/storage.ts';
import { openArchive } from '../adapters/fs/archive.ts';
import { archiveCallbacks } from '../observe.ts';
import { archiveOptions, storageSettings } from '../settings.ts';
import { compact } from './compact.ts';
import { createReclaim } from './reclaim.ts';
import { keeperSettings } from './settings.ts';
import { verify } from './verify.ts';

const SETTLED = 'study.settled';

/** What happens to bytes after they were kept: packing, removal, verification. */
export const keeperModule: Module = {
  name: 'storage/keeper',
  settings: { ...storageSettings, ...keeperSettings },
  async start(context: Context): Promise<Running> {
    const { settings, log } = context;
    const archive = await openArchive(context.dataDir, { ...archiveOptions(settings), ...archiveCallbacks(context) });
    const { reclaim } = createReclaim(context, archive, {
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
    const pack = (call: Call, study: string) =>
      inTurn(async () => {
        const done = await compact(context, archive, call, {
          study,
          limit: settings.number('keeper.studiesPerRun'),
          packBytes: settings.number('keeper.packBytes'),
        });
        moved.add(done.instancesMoved);
        return done;
      });
    const remove = (call: Call, now: boolean) =>
      inTurn(async () => {
        const done = await reclaim(call, now);
        freed.add(done.bytesFreed);
        return done;
      });

    context.serve(KeeperService, {
      compact: (call, { studyInstanceUid }) => pack(call, studyInstanceUid),
      reclaim: (call, { now }) => remove(call, now),
      verify: (call, { studyInstanceUid, digests }) =>
        verify(context, archive, call, { study: studyInstanceUid, digests }),
      async status(call) {
        const sums = { log: 0, pack: 0, large: 0 };
        let packs = 0;
        for (const area of ['log', 'pack', 'large'] as const) {
          for await (const { bytes } of archive.objects.list(area, call.tenant)) {
            sums[area] += bytes;
            if (area === 'pack') packs++;
          }
        }
        const segments = await archive.log.segments(call.tenant);
        const waiting = new Set(
          (await context.kv.list(call.tenant, 'keeper/free/')).map(({ key }) => key.slice('keeper/free/'.length)),
        );
        return {
          logBytes: sums.log,
          packBytes: sums.pack,
          largeBytes: sums.large,
          reclaimableBytes: segments
            .filter(({ object }) => waiting.has(object))
            .reduce((sum, { bytes }) => sum + bytes, 0),
          tornBytes: await archive.log.tornBytes(),
          segments: segments.length,
          packs,
          alarms: archive.log
            .alarms()
            .filter((alarm) => alarm.tenant === call.tenant)
            .map((alarm) => `${alarm.kind}: ${alarm.detail}`),
        };
      },
    });

    const run = async (): Promise<void> => {
      if (!settings.boolean('keeper.enabled')) return;
      for (const tenant of archive.log.tenants()) {
        const call = systemCall(tenant, `keeper-${ulid()}`, abort.signal);
        // The lease saves two keepers from doing the same work; what they do is safe without it.
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
    // A study that settled is packed with the next run; its job is done once it has been looked at.
    const stopJobs = context.jobs.work(
      SETTLED,
      { concurrency: 1, attemptsMax: 20, backoffMs: [1000, 10_000, 60_000] },
      async (job) => {
        if (!settings.boolean('keeper.enabled')) return;
        await pack(
          systemCall(job.tenant, `keeper-${ulid()}`, AbortSignal.any([job.signal, abort.signal])),
          job.key.split('/').at(-1)!,
        );
      },
    );
    return {
      async stop() {
        abort.abort();
        clearInterval(timer);
        await stopJobs();
        await last;
        await archive.close();
      },
    };
  },
};
