// Every role as a process of its own, and what happens when one of them goes.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { ROLES } from '../../services/roles.ts';
import { CT, EXPLICIT, makeInstance } from '../chaos/instances.ts';
import { verify } from '../chaos/load.ts';
import { withoutServers } from '../servers/index.ts';
import { type Cluster, STATELESS, startCluster } from './cluster.ts';

const SEED = 88;
const skip = await withoutServers('nats', 'versitygw', 'elasticsearch');

test('every role but `all` is a process of the cluster', () => {
  assert.deepEqual(
    [...STATELESS].sort(),
    Object.keys(ROLES)
      .filter((role) => role !== 'all')
      .sort(),
  );
});

describe('a cluster', { skip, timeout: 10 * 60_000 }, () => {
  let cluster: Cluster;
  let next = 0;
  before(async () => {
    cluster = await startCluster();
  });
  after(() => cluster?.close());

  async function send(count: number): Promise<number[]> {
    const association = await connect({
      host: '127.0.0.1',
      port: cluster.dimsePort,
      callingAeTitle: 'MODALITY',
      calledAeTitle: 'GANTRY',
      contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
    });
    const sent: number[] = [];
    for (let n = 0; n < count; n++) {
      const made = makeInstance(SEED, next);
      const { status } = await store(association, {
        contextId: 1,
        sopClassUid: CT,
        sopInstanceUid: made.instance,
        data: made.dataSet,
      });
      assert.equal(status, 0);
      sent.push(next++);
    }
    await association.release();
    return sent;
  }
  async function readBack(n: number): Promise<Buffer | undefined> {
    const { study, series, instance } = makeInstance(SEED, n, 2);
    const url = `${cluster.dicomWeb}/studies/${study}/series/${series}/instances/${instance}`;
    const answer = await fetch(url, {
      headers: { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
    }).catch(() => undefined); // a door that was just killed
    const bytes = answer && Buffer.from(await answer.arrayBuffer());
    return answer?.ok ? bytes : undefined;
  }
  /** What was acknowledged is found and read; a door or an index that has just been killed may need a moment. */
  async function untilRead(numbers: number[]): Promise<void> {
    for (const n of numbers)
      for (const until = Date.now() + 60_000; ; ) {
        const bytes = await readBack(n);
        if (bytes?.includes(makeInstance(SEED, n).dataSet)) break;
        assert.ok(Date.now() < until, `instance ${n} is not read`);
      }
  }

  test('what one process acknowledged is read through others', async () => {
    await untilRead(await send(10));
  });

  for (const role of STATELESS)
    test(`one of the two ${role} processes is killed: the other goes on, and the killed one comes back`, async () => {
      const [victim] = cluster.nodes.filter((node) => node.role === role);
      const before = await send(2);
      await victim!.kill();
      // A connection may still have been shared out to the dead one: a modality calls again.
      let sent: number[] | undefined;
      for (const until = Date.now() + 60_000; sent === undefined; ) {
        sent = await send(2).catch(() => undefined);
        assert.ok(sent || Date.now() < until, 'storing goes on');
      }
      await untilRead([...before, ...sent]);
      await victim!.restart();
      await untilRead(await send(2));
    });

  test('after all this verify finds nothing', async () => {
    assert.deepEqual(await verify(cluster), []);
  });
});
