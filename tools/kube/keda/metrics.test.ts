// The API of external metrics as the HPA controller asks it, over a real Prometheus and with the cluster's kinds of certificates.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { freePort } from '../../peers/server.ts';
import { without } from '../../setup/peers.ts';
import type { ScaledObject } from './hpa.ts';
import { ask, CERTIFICATE } from './metrics.ts';
import { prometheus } from './prometheus.ts';

const HERE = import.meta.dirname;
const BASE = '/apis/external.metrics.k8s.io/v1beta1';
const DNS_NAME = 'external-metrics.imaging.svc';

describe('external metrics', { skip: without('prometheus', 'openssl'), timeout: 60_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-external-metrics-'));
  let server: ChildProcess | undefined;
  let stop: (() => void) | undefined;
  let port: number;

  before(async () => {
    execFileSync(join(HERE, '../pki.sh'), [folder, '127.0.0.1', '10.96.0.1', 'node'], { stdio: 'ignore' });
    execFileSync(join(HERE, '../pki.sh'), [folder, 'serve', CERTIFICATE, DNS_NAME], { stdio: 'ignore' });
    const started = await prometheus([]);
    stop = started.stop;
    const trigger = (name: string, query: string) => ({
      ...{ type: 'prometheus', name, metricType: 'AverageValue' },
      metadata: { serverAddress: started.address, query, threshold: '1' },
    });
    const object: ScaledObject = {
      metadata: { name: 'gantry-ingest', namespace: 'imaging' },
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'gantry-ingest' },
        ...{ minReplicaCount: 1, maxReplicaCount: 3 },
        triggers: [
          trigger('number', 'vector(0.6254)'),
          trigger('nothing', 'gantry_nobody_counts_this'),
          trigger('endless', 'vector(1) / 0'),
          trigger('two', 'label_replace(vector(1), "a", "b", "", "") or vector(2)'),
        ],
      },
    };
    for (let ready = false; !ready; )
      ready = await ask({ serverAddress: started.address, query: 'vector(1)' }).then(
        () => true,
        () => false,
      );
    port = await freePort();
    server = spawn(process.execPath, [join(HERE, 'metrics.ts'), folder, '127.0.0.1', String(port)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    server.stdin!.write(`${JSON.stringify([object])}\n`);
    await once(server.stdout!, 'data');
  });
  after(async () => {
    if (server !== undefined) {
      server.stdin!.end();
      await once(server, 'exit');
    }
    stop?.();
    rmSync(folder, { recursive: true, force: true });
  });

  async function get(path: string, client = 'front-proxy') {
    const file = (name: string) => readFileSync(join(folder, name));
    const asked = request({
      ...{ host: '127.0.0.1', port, path, servername: DNS_NAME, ca: file('ca.crt') },
      ...{ cert: file(`${client}.crt`), key: file(`${client}.key`) },
    }).end();
    const [answer] = await once(asked, 'response');
    return { status: answer.statusCode as number, body: JSON.parse(await text(answer)) };
  }
  const metric = (name: string, object = 'gantry-ingest') =>
    get(`${BASE}/namespaces/imaging/${name}?labelSelector=scaledobject.keda.sh%2Fname%3D${object}`);

  test('discovery names the resource; a value is in thousandths', async () => {
    const { body } = await get(BASE);
    assert.equal(body.groupVersion, 'external.metrics.k8s.io/v1beta1');
    assert.deepEqual(body.resources[0].verbs, ['get']);
    const found = await metric('s0-prometheus');
    assert.equal(found.status, 200);
    assert.deepEqual(
      found.body.items.map((item: { metricName: string; value: string }) => [item.metricName, item.value]),
      [['s0-prometheus', '625m']],
    );
  });

  test('no value, no number or two values are an error, as in KEDA; so is a metric of nobody', async () => {
    for (const name of ['s1-prometheus', 's2-prometheus', 's3-prometheus'])
      assert.equal((await metric(name)).status, 500, name);
    assert.match((await metric('s1-prometheus')).body.message, /has 0 values for gantry_nobody_counts_this/);
    assert.equal((await metric('s9-prometheus')).status, 404);
    assert.equal((await metric('s0-prometheus', 'somebody')).status, 404);
  });

  test('nobody but the API server is answered', async () => {
    await assert.rejects(get(BASE, 'admin'));
    const none = request({ host: '127.0.0.1', port, path: BASE, rejectUnauthorized: false }).end();
    await assert.rejects(once(none, 'response'));
  });
});
