import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Check } from '../lifecycle.ts';
import type { Metrics, Settings } from '../module.ts';
import type { Jobs, KeyValue, Lease, Wake } from '../ports.ts';
import { fileKeyValue } from './local/key-value.ts';
import { localLease } from './local/lease.ts';
import { localWake } from './local/wake.ts';
import { type JobsRunning, sqliteJobs } from './sqlite/jobs.ts';

export interface Platform {
  wake: Wake;
  jobs: Jobs;
  kv: KeyValue;
  lease: Lease;
  checks: Check[];
  close(): Promise<void>;
}

/** The one place that chooses: NATS when its servers are given, files and SQLite in `dataDir` else. */
export async function openPlatform(
  settings: Settings,
  dataDir: string,
  log: Logger,
  metrics: Metrics,
): Promise<Platform> {
  if (settings.list('platform.natsServers').length > 0) {
    const { openNats } = await import('./nats/open.ts');
    return openNats(settings, log, metrics);
  }
  const limits = () => ({
    jobsMax: settings.number('platform.jobsMax'),
    payloadMax: settings.number('platform.jobPayloadMax'),
  });
  // First of all that touches the data directory: it refuses a second process (job-store.ts).
  const jobs = await sqliteJobs(join(dataDir, 'derived', 'jobs.sqlite'), limits, log);
  observeQueues(jobs, metrics);
  try {
    const kv = await fileKeyValue(join(dataDir, 'state', 'kv'), () => settings.number('platform.keyValueMax'));
    return { wake: localWake(log), jobs, kv, lease: localLease(), checks: [], close: () => jobs.close() };
  } catch (error) {
    await jobs.close();
    throw error;
  }
}

/** Asked for when it is read: what is shown is as old as the reading before. */
function observeQueues(jobs: Pick<JobsRunning, 'depth'>, metrics: Metrics): void {
  let seen: Awaited<ReturnType<JobsRunning['depth']>> = [];
  metrics.gauge('gantry_jobs', 'Jobs by queue and state; dead ones wait for a person (gantry queue).', () => {
    jobs.depth().then(
      (depth) => (seen = depth),
      () => (seen = []), // it is closing, or its disk is full: whoever adds a job is told
    );
    return seen.map(({ queue, state, jobs: value }) => ({ value, labels: { queue, state } }));
  });
  metrics.gauge('gantry_jobs_oldest_seconds', 'How long the oldest job that is due has waited, by queue.', () =>
    seen
      .filter(({ state }) => state === 'waiting')
      .map(({ queue, dueMs }) => ({ value: dueMs / 1000, labels: { queue } })),
  );
}
