import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CountsResponse, EntryRow } from '#proto/index/v1/index.ts';
import { startElasticsearch } from '../../../../tools/servers/index.ts';
import { collect } from '../../instances.testing.ts';
import { commitOf } from './half-a-rebuild.testing.ts';
import { optionsOf } from './options.testing.ts';
import { ElasticIndexStore } from './store.ts';

const COMMITS = 60;

const commit = (sequence: number) => commitOf(sequence, 4);

test('Elasticsearch is killed amid folds, three times: questions say so, and in the end everything is there once', async () => {
  const servers = await startElasticsearch();
  const store = new ElasticIndexStore(optionsOf(servers.urls, 'gone', { requestTimeoutMs: 5_000 }));
  const [node] = servers.nodes;
  try {
    let kills = 0;
    let failed = 0;
    let killing: Promise<void> = Promise.resolve();
    for (let sequence = 1; sequence <= COMMITS; ) {
      if (sequence % 15 === 5 && kills < 3 && sequence > kills * 15) {
        kills++;
        killing = (async () => {
          await node!.kill();
          await assert.rejects(collect(store.query('counts', { tenant: 'main' })), { code: 'unavailable' });
          await node!.restart();
        })();
      }
      try {
        await store.fold('main', [commit(sequence), commit(Math.min(COMMITS, sequence + 1))]);
        sequence += 2;
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'unavailable', String(error));
        failed++;
        await killing;
        // It answers before its shards are there again, and until then folds fail.
        await fetch(`${node!.url}/_cluster/health?wait_for_status=yellow&timeout=30s`);
      }
    }
    await killing;
    assert.equal(kills, 3);
    assert.ok(failed > 0, 'it was killed while it folded');
    const [counts] = await collect(store.query<CountsResponse>('counts', { tenant: 'main' }));
    assert.deepEqual([counts!.studies, counts!.instances], [4, COMMITS * 10]);
    let entries = 0;
    for (let n = 0; n < 4; n++) {
      const request = { studyInstanceUid: `1.2.${n}`, seriesInstanceUid: '', sopInstanceUid: '', inTrash: false };
      const rows = await collect(store.query<EntryRow>('entries', { tenant: 'main', request }));
      assert.equal(new Set(rows.map((row) => row.sopInstanceUid)).size, rows.length);
      entries += rows.length;
    }
    assert.equal(entries, COMMITS * 10);
  } finally {
    await store.close();
    await servers.close();
  }
});
