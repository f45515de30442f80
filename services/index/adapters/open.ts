import { join } from 'node:path';
import type { Context } from '#platform/module.ts';
import type { Service } from '#platform/rpc.types.ts';
import type { DataService } from '#proto/storage/v1/storage.ts';
import type { VersionPolicy } from '../fold/types.ts';
import type { IndexStore } from '../ports.ts';
import { recoverHeads } from '../settle.ts';
import { ALONE, LeaseTurn, type Turn } from '../turn.ts';
import { SqliteIndexStore } from './sqlite/store.ts';

export interface Opened {
  store: IndexStore;
  /** It was made just now, for want of one, and shows nothing yet. */
  fresh: boolean;
  /** The index is there, but not as this process wants it: it is built again beside it. */
  outdated: boolean;
  /** Who folds, where several processes may. */
  turn(onHeld: () => void): Turn & { stop?(): Promise<void> };
  stillOutdated(): Promise<boolean>;
  /** Runs the work while no other process rebuilds. */
  alone(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void>;
}

/** Where the index is kept is chosen here, and nowhere else: in Elasticsearch where nodes of it are given. */
export async function openIndexStore(
  { settings, dataDir, lease, log }: Context,
  data: Pick<Service<typeof DataService>, 'readLog'>,
): Promise<Opened> {
  const policy = settings.string('index.versionPolicy') as VersionPolicy;
  const common = {
    policy,
    queriesMax: () => settings.number('index.queriesMax'),
    queryIdleMs: () => settings.number('index.queryIdleMs'),
    metadataCacheBytes: settings.number('index.metadataCacheBytes'),
  };
  const nodes = settings.list('index.elasticsearchNodes');
  if (nodes.length === 0) {
    const store = new SqliteIndexStore(
      { ...common, directory: join(dataDir, 'derived'), readers: settings.number('index.readers') },
      (what, error) => log.error({ err: error, thread: what }, 'a thread of the index ended; another one takes over'),
    );
    return {
      store,
      fresh: store.fresh,
      outdated: false,
      turn: () => ALONE,
      stillOutdated: async () => false,
      alone: (signal, work) => work(signal),
    };
  }
  const { ElasticIndexStore } = await import('./elasticsearch/store.ts');
  const store = new ElasticIndexStore({
    ...common,
    nodes,
    prefix: settings.string('index.elasticsearchPrefix'),
    apiKeyFile: settings.string('index.elasticsearchApiKeyFile'),
    userFile: settings.string('index.elasticsearchUserFile'),
    passwordFile: settings.string('index.elasticsearchPasswordFile'),
    caFile: settings.string('index.elasticsearchCaFile'),
    shards: settings.number('index.elasticsearchShards'),
    replicas: settings.number('index.elasticsearchReplicas'),
    refreshIntervalMs: settings.number('index.elasticsearchRefreshMs'),
    requestTimeoutMs: settings.number('index.elasticsearchTimeoutMs'),
    readHeads: (settling, tenant, entries) =>
      recoverHeads(data, settling, tenant, entries, new AbortController().signal),
  });
  const found = await store.find().catch((error: unknown) => {
    // Whatever is asked meanwhile says so, and the next poll tries again.
    log.warn({ err: error }, 'Elasticsearch does not answer yet');
    return { fresh: false, outdated: false };
  });
  return {
    store,
    ...found,
    turn: (onHeld) => new LeaseTurn(lease, 'index.fold', onHeld),
    stillOutdated: async () => (await store.find()).outdated,
    alone: (signal, work) => lease.hold('index.rebuild', signal, work),
  };
}
