import type { ElasticIndexOptions } from './store.ts';

export const optionsOf = (
  nodes: string[],
  prefix: string,
  more: Partial<ElasticIndexOptions> = {},
): ElasticIndexOptions => ({
  nodes,
  prefix,
  requestTimeoutMs: 30_000,
  shards: 1,
  replicas: 0,
  refreshIntervalMs: 1_000,
  policy: 'keep-first',
  queriesMax: () => 100,
  queryIdleMs: () => 60_000,
  metadataCacheBytes: 64 << 20,
  ...more,
});
