import { randomBytes } from 'node:crypto';
import { after } from 'node:test';
import { Client } from '@elastic/elasticsearch';
import { type ElasticsearchNodes, startElasticsearch } from '../../../../tools/servers/index.ts';
import { indexStoreContract } from '../../index.contract.ts';
import { type ElasticIndexOptions, ElasticIndexStore } from './store.ts';

let starting: Promise<ElasticsearchNodes> | undefined;
const servers = (): Promise<ElasticsearchNodes> => (starting ??= startElasticsearch());
after(async () => (await starting)?.close());

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

indexStoreContract('Elasticsearch', async () => {
  const { urls } = await servers();
  const prefix = `t${randomBytes(4).toString('hex')}`;
  return {
    open: async () => new ElasticIndexStore(optionsOf(urls, prefix)),
    async remove() {
      const client = new Client({ nodes: urls });
      const found = await client.indices.get({ index: `${prefix}-*` });
      for (const index of Object.keys(found)) await client.indices.delete({ index });
      await client.close();
    },
  };
});
