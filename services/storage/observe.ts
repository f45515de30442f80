import type { Context } from '#platform/module.ts';
import { Position } from '#proto/storage/v1/log.ts';
import type { ArchiveOptions } from './adapters/fs/archive.ts';

/** What the archive tells the outside: a wake for those who fold, log lines for those who watch, numbers for those who count. */
export function archiveCallbacks({ log, metrics, wake }: Context): Required<
  Pick<ArchiveOptions, 'onAlarm' | 'onTorn' | 'onCommit' | 'onFlush'>
> & {
  onRequest(operation: string, outcome: string, ms: number): void;
} {
  const commits = metrics.counter(
    'gantry_storage_commits_total',
    'Commits of the archive log that are on stable storage',
  );
  const entries = metrics.counter('gantry_storage_entries_total', 'Entries in those commits');
  const bytes = metrics.counter('gantry_storage_committed_bytes_total', 'Bytes of those commits');
  const alarms = metrics.counter('gantry_storage_alarms_total', 'Faults of the archive that need a person');
  const torn = metrics.counter(
    'gantry_storage_torn_bytes_total',
    'Bytes after the last valid commit of a dead lane, moved aside',
  );
  const flushes = metrics.counter('gantry_storage_flushes_total', 'Flushes asked of the archive’s medium, by reason');
  const requests = metrics.histogram(
    'gantry_storage_s3_request_seconds',
    'Requests to the S3 store until their answer was read, by operation and how they ended',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  return {
    onRequest: (operation, outcome, ms) => requests.record(ms / 1000, { operation, outcome }),
    onFlush: (reason) => flushes.add(1, { reason }),
    onCommit(tenant, position, count, length) {
      commits.add(1);
      entries.add(count);
      bytes.add(length);
      wake.publish('log.committed', tenant, Buffer.from(Position.encode(position).finish()));
    },
    onAlarm(alarm) {
      alarms.add(1, { kind: alarm.kind });
      log.error(alarm, 'archive alarm');
    },
    onTorn(lane, length) {
      torn.add(length);
      log.warn({ lane, bytes: length }, 'bytes of a commit that was never acknowledged were moved aside');
    },
  };
}
