// Real servers: each starts, does its basic work, is killed and comes back with its data, and leaves nothing behind.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Client } from 'minio';
import {
  type ElasticsearchNodes,
  type S3Server,
  startElasticsearch,
  startNats,
  startS3,
  withoutServers,
} from './index.ts';

const isAlive = (pid: number) => existsSync(`/proc/${pid}`);

/** What the tests below wait for happens soon, or never. */
async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; !(await is()); await sleep(20)) {
    if (Date.now() > end) assert.fail(`it did not come to this: ${what}`);
  }
}

test('NATS: a message outlives kill -9, and only who has the token gets in', {
  skip: await withoutServers('nats'),
}, async () => {
  const nats = await startNats({ token: 'secret' });
  try {
    await assert.rejects(connect({ servers: nats.servers, reconnect: false }), /authorization/i);
    const options = { servers: nats.servers, token: nats.token!, maxReconnectAttempts: -1, reconnectTimeWait: 50 };
    const connection = await connect(options);
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'S', subjects: ['s.>'] });
    const { seq } = await jetstream(connection).publish('s.a', 'one');
    const before = nats.nodes[0]!.pid;
    await nats.nodes[0]!.kill();
    assert.equal(nats.nodes[0]!.running, false);
    assert.equal(isAlive(before), false);
    await nats.nodes[0]!.restart();
    assert.notEqual(nats.nodes[0]!.pid, before);
    const again = await connect(options);
    const found = await (await jetstreamManager(again)).streams.getMessage('S', { seq });
    assert.equal(found?.string(), 'one');
    await again.close();
    await connection.close();
  } finally {
    await nats.close();
  }
});

test('NATS: three nodes go on without their leader', { skip: await withoutServers('nats') }, async () => {
  const nats = await startNats({ nodes: 3 });
  try {
    const connection = await connect({ servers: nats.servers, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
    const manager = await jetstreamManager(connection);
    const { cluster } = await manager.streams.add({ name: 'S', subjects: ['s.>'], num_replicas: 3 });
    await jetstream(connection).publish('s.a', 'one', { msgID: '1' });
    const leader = nats.nodes.find(({ name }) => name === `nats ${cluster?.leader}`)!;
    await leader.kill();
    // Retried with the same id until there is a new leader, and doubled by nobody.
    await until('published', () =>
      jetstream(connection)
        .publish('s.a', 'two', { msgID: '2' })
        .then(
          () => true,
          () => false,
        ),
    );
    await leader.restart();
    await nats.ready();
    await until('seen', async () => (await manager.streams.info('S')).state.messages === 2);
    await connection.close();
  } finally {
    await nats.close();
  }
});

const clientOf = ({ endpoint, accessKey, secretKey, region }: S3Server) => {
  const { hostname, port } = new URL(endpoint);
  return new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey, region });
};

for (const kind of ['versitygw', 'minio', 'rclone'] as const) {
  test(`S3, ${kind}: an object outlives kill -9; conditions are ${kind === 'rclone' ? 'ignored' : 'kept'}`, {
    skip: await withoutServers(kind),
  }, async () => {
    const s3 = await startS3({ kind });
    try {
      await s3.createBucket('bucket');
      const client = clientOf(s3);
      const once = { 'If-None-Match': '*' };
      await client.putObject('bucket', 'log/a', Buffer.from('one'), 3, once);
      const second = client.putObject('bucket', 'log/a', Buffer.from('two'), 3, once);
      if (kind === 'rclone') await second;
      else await assert.rejects(second, { code: 'PreconditionFailed' });
      await s3.node.kill();
      await s3.node.restart();
      const body = await (await client.getObject('bucket', 'log/a')).toArray();
      assert.equal(Buffer.concat(body).toString(), kind === 'rclone' ? 'two' : 'one');
    } finally {
      await s3.close();
    }
  });
}

interface Answer {
  found?: boolean;
  hits?: { hits: { _id: string }[] };
  /** `_cat` answers a list. */
  [row: number]: { node: string };
}

async function ask(servers: ElasticsearchNodes, method: string, path: string, body?: unknown) {
  const [url] = servers.nodes.filter(({ running }) => running).map((node) => node.url);
  const answer = await fetch(`${url}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
  return { status: answer.status, body: (await answer.json()) as Answer };
}

test('Elasticsearch: strict mappings, folding, search; a document outlives kill -9', {
  skip: await withoutServers('elasticsearch'),
}, async () => {
  const elasticsearch = await startElasticsearch();
  try {
    await ask(elasticsearch, 'PUT', '/x', {
      settings: {
        codec: 'best_compression',
        analysis: { normalizer: { folded: { type: 'custom', filter: ['asciifolding'] } } },
      },
      mappings: { dynamic: 'strict', properties: { name: { type: 'keyword', normalizer: 'folded' } } },
    });
    assert.equal((await ask(elasticsearch, 'PUT', '/x/_doc/1?refresh=true', { name: 'Müller' })).status, 201);
    assert.equal((await ask(elasticsearch, 'PUT', '/x/_doc/2', { other: 1 })).status, 400);
    await elasticsearch.nodes[0]!.kill();
    await elasticsearch.nodes[0]!.restart();
    await until('recovered', async () => {
      const { status } = await ask(elasticsearch, 'GET', '/_cluster/health/x?wait_for_status=yellow&timeout=1s');
      return status === 200;
    });
    const { body } = await ask(elasticsearch, 'POST', '/x/_search', { query: { wildcard: { name: 'Mul*' } } });
    assert.deepEqual(
      body.hits?.hits.map(({ _id }) => _id),
      ['1'],
    );
  } finally {
    await elasticsearch.close();
  }
});

test('Elasticsearch: three nodes are one cluster and go on with two', {
  skip: await withoutServers('elasticsearch'),
}, async () => {
  const elasticsearch = await startElasticsearch({ nodes: 3 });
  try {
    const settings = { number_of_replicas: 2, number_of_shards: 1, 'unassigned.node_left.delayed_timeout': '0s' };
    await ask(elasticsearch, 'PUT', '/x?wait_for_active_shards=3', { settings });
    await ask(elasticsearch, 'PUT', '/x/_doc/1', { a: 1 });
    const { body: nodes } = await ask(elasticsearch, 'GET', '/_cat/master?format=json');
    await elasticsearch.nodes.find(({ name }) => name.endsWith(String(nodes[0]!.node)))!.kill();
    await elasticsearch.ready();
    assert.equal((await ask(elasticsearch, 'GET', '/x/_doc/1')).body.found, true);
    assert.equal((await ask(elasticsearch, 'PUT', '/x/_doc/2', { a: 2 })).status, 201);
  } finally {
    await elasticsearch.close();
  }
});

test('a stopped server is deaf, and hears all when it goes on', {
  skip: await withoutServers('versitygw'),
}, async () => {
  const s3 = await startS3({ kind: 'versitygw' });
  try {
    await s3.node.stop();
    const asked = fetch(s3.endpoint);
    const state = () => /State:\s+(\w)/.exec(readFileSync(`/proc/${s3.node.pid}/status`, 'utf8'))?.[1];
    await until('stopped', () => state() === 'T');
    await s3.node.cont();
    assert.equal((await asked).status, 403);
  } finally {
    await s3.close();
  }
});

test('what is given as dir stays, and is found again', { skip: await withoutServers('versitygw') }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-servers-test-'));
  try {
    const first = await startS3({ kind: 'versitygw', dir });
    await first.createBucket('bucket');
    await first.close();
    assert.deepEqual(readdirSync(join(dir, 'data')), ['bucket']);
    const second = await startS3({ kind: 'versitygw', dir });
    assert.equal(await clientOf(second).bucketExists('bucket'), true);
    await second.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('kill -9 of whoever started servers ends them and removes their folders', {
  skip: await withoutServers('nats', 'versitygw'),
}, async () => {
  const script = `
    import { startNats, startS3 } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
    const nats = await startNats({ nodes: 1 });
    const s3 = await startS3({ kind: 'versitygw' });
    await s3.node.stop();
    console.log(JSON.stringify({ pids: [nats.nodes[0].pid, s3.node.pid], dir: s3.dataDir }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { pids, dir } = JSON.parse(line.toString()) as { pids: number[]; dir: string };
  assert.ok(pids.every(isAlive) && existsSync(dir));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await until('gone', () => !pids.some(isAlive) && !existsSync(dir));
});

test('a server that cannot start says why, and leaves nothing', { skip: await withoutServers('nats') }, async () => {
  const [tmp, before] = [mkdtempSync(join(tmpdir(), 'gantry-servers-test-')), process.env.TMPDIR];
  const nats = await startNats();
  try {
    // A place of its own, since other test files start servers too.
    process.env.TMPDIR = tmp;
    const port = Number(nats.servers[0]!.split(':')[1]);
    await assert.rejects(startNats({ ports: [port] }), /stopped while starting:(.|\n)*address already in use/);
    assert.deepEqual(readdirSync(tmp), []);
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    rmSync(tmp, { recursive: true, force: true });
    await nats.close();
  }
});
