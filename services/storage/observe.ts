import type { Call } from '#platform/call.ts';
import type { Context } from '#platform/module.ts';
import type { Position } from '#proto/storage/v1/log.ts';
import type { ArchiveOptions } from './adapters/fs/archive.ts';
import { commitTracesOf } from './commit-traces.ts';

/** What the archive tells the outside: a wake for those who fold, log lines for those who watch, numbers for those who count. */
export function archiveCallbacks({ log, metrics, wake, trace }: Context): Required<
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
  const sizes = metrics.histogram(
    'gantry_storage_commit_bytes',
    'Size of a commit: the slower the medium, the larger',
    [16, 64, 256, 1024, 4096, 16_384].map((kib) => kib * 1024),
  );
  const counts = metrics.histogram(
    'gantry_storage_commit_entries',
    'Entries of a commit',
    [1, 2, 4, 8, 16, 32, 64, 128, 256],
  );
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
      sizes.record(length);
      counts.record(count);
      commitTracesOf(trace).committed(position, count, length, (payload) =>
        wake.publish('log.committed', tenant, payload),
      );
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

export type Appending = <T extends { position?: Position | undefined }>(
  call: Call,
  work: (call: Call) => Promise<T>,
) => Promise<T>;

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** What a sender waits for: its turn, the commit, the medium. */
export function appending({ metrics, trace }: Context): Appending {
  const traces = commitTracesOf(trace);
  const seconds = metrics.histogram(
    'gantry_storage_append_seconds',
    'From the bytes of an instance to their being on stable storage: the wait for the commit before, and the commit',
    SECONDS,
  );
  return async (call, work) => {
    const began = performance.now();
    const answer = await traces.append(call, work);
    seconds.record((performance.now() - began) / 1e3, undefined, call);
    return answer;
  };
}
