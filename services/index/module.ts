import type { Context, Module, Running } from '#platform/module.ts';
import { StudyEvent } from '#proto/index/v1/index.ts';
import { LogCommitted } from '#proto/storage/v1/log.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import { openIndexStore } from './adapters/open.ts';
import { FoldTraces } from './fold-traces.ts';
import { Follower, type FollowerEvents } from './follow.ts';
import { Rebuilder } from './rebuild.ts';
import { SEARCH_SETTINGS } from './search/settings.ts';
import { serveIndex } from './serve.ts';
import { indexSettings } from './settings.ts';
import { Settler } from './settle.ts';

/** Alarms kept for a person to see; there are never many kinds. */
const ALARMS_MAX = 100;

/** What the archive shows: folds the log, answers who, what and where. */
export const indexModule: Module = {
  name: 'index',
  settings: { ...indexSettings, ...SEARCH_SETTINGS },
  async start(context: Context): Promise<Running> {
    const { settings, log, metrics, wake } = context;
    const data = context.client(DataService);
    const alarms = new Set<string>();
    const alarm = (text: string): void => {
      if (alarms.has(text) || alarms.size >= ALARMS_MAX) return;
      alarms.add(text);
      log.error({ alarm: text }, 'index alarm');
    };
    const opened = await openIndexStore(context, data);
    const { store, fresh } = opened;
    const folded = metrics.counter('gantry_index_folded_instances_total', 'Instance entries folded into the index.');
    const found = metrics.histogram(
      'gantry_index_store_to_found_seconds',
      'From an instance’s stamp in the log to its being found, the slowest of each fold.',
      [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60],
    );
    // A new index shows too little until it has reached the log's heads: that is no state to be ready in.
    const behind = new Set(fresh ? settings.list('index.tenants') : []);
    const traces = new FoldTraces(context.trace);
    const events: FollowerEvents = {
      folded(tenant, result) {
        progressMs = performance.now();
        folded.add(result.instances);
        const call = traces.folded(tenant, result);
        if (result.oldestMs !== undefined)
          found.record(Math.max(0, Date.now() - result.oldestMs) / 1_000, undefined, call);
        for (const text of result.alarms) alarm(text);
        for (const studyInstanceUid of result.changedStudies)
          wake.publish('study.changed', tenant, Buffer.from(StudyEvent.encode({ tenant, studyInstanceUid }).finish()));
      },
      gap(tenant, lanes) {
        log.warn({ tenant, lanes }, 'the log has gone on without this index, which is rebuilt');
        rebuilder.mend();
      },
      level: (tenant) => void behind.delete(tenant),
      fenced: () => rebuilder.fenced(),
      failed: (tenant, error) =>
        log.warn({ tenant, err: error }, 'the log could not be folded; the next poll tries again'),
    };
    const turn = opened.turn(() => {
      for (const tenant of follower.tenants) follower.look(tenant);
    });
    const follower = new Follower(data, store, events, turn);
    const rebuilder = new Rebuilder({ data, store, follower, log, alone: opened.alone });
    if (opened.outdated) rebuilder.mend(opened.stillOutdated);
    else rebuilder.tidy();
    const settler = new Settler({
      store,
      data,
      jobs: context.jobs,
      wake,
      log,
      settleMs: () => settings.number('index.settleMs'),
      turn,
    });
    const lag = (): number => follower.tenants.reduce((sum, tenant) => sum + follower.lag(tenant), 0);
    metrics.gauge('gantry_index_lag_commits', 'Commits known and not yet folded.', lag);
    // A busy index is always a little behind: what counts is whether it moves.
    let progressMs = performance.now();
    metrics.gauge('gantry_index_standstill_seconds', 'How long commits have waited while none was folded.', () => {
      if (lag() === 0) progressMs = performance.now();
      return (performance.now() - progressMs) / 1e3;
    });
    metrics.gauge('gantry_index_alarms', 'Lanes and headers that a person must look at.', () => alarms.size);

    const unsubscribe = wake.subscribe('log.committed', (tenant, payload) => {
      let committed: LogCommitted | undefined;
      try {
        committed = LogCommitted.decode(payload);
      } catch {
        // A wake is a wake, whatever it carries.
      }
      if (committed !== undefined) traces.announced(tenant, committed);
      if (lag() === 0) progressMs = performance.now();
      follower.wake(tenant, committed);
    });
    const known = await store.tenants().catch((error: unknown) => {
      log.warn({ err: error }, 'whose log the index has cannot be asked yet; wakes tell it too');
      return [];
    });
    for (const tenant of new Set([...settings.list('index.tenants'), ...known])) follower.look(tenant);
    let poll: NodeJS.Timeout;
    const polling = (): void => {
      poll = setTimeout(() => {
        for (const tenant of follower.tenants) follower.look(tenant);
        polling();
      }, settings.number('index.pollMs')).unref();
    };
    polling();
    settler.start();
    serveIndex(context, { data, store, follower, rebuilder, alarms, traces });
    context.readiness(() => {
      if (behind.size > 0) return { ready: false, detail: 'the index is being built from the log' };
      return { ready: true, detail: rebuilder.running ? 'the index is being rebuilt' : `${lag()} commits to fold` };
    });
    return {
      async stop() {
        unsubscribe();
        clearTimeout(poll);
        await rebuilder.stop();
        await turn.stop?.();
        await settler.stop();
        await follower.stop();
        await store.close();
      },
    };
  },
};
