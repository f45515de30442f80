import { randomBytes } from 'node:crypto';
import { after } from 'node:test';
import { Client } from '@elastic/elasticsearch';
import { type ElasticsearchNodes, startElasticsearch } from '../../../../tools/servers/index.ts';
import { indexStoreContract } from '../../index.contract.ts';
import { optionsOf } from './options.testing.ts';
import { ElasticIndexStore } from './store.ts';

let starting: Promise<ElasticsearchNodes> | undefined;
const servers = (): Promise<ElasticsearchNodes> => (starting ??= startElasticsearch());
after(async () => (await starting)?.close());

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
