// SIGTERM at the DIMSE door: peers that go on, peers that release, and one that never does.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { writePart10Prefix } from '#dicom/part10.ts';
import { connect } from '#dimse/requestor.ts';
import { echo, get, type Response, store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import {
  bytesOf,
  CT,
  EXPLICIT,
  instance,
  keep,
  query,
  type Sent,
  STUDY_ROOT,
  type TestHouse,
  VERIFICATION,
} from '../../services/gateway/dimse/house.testing.ts';
import { pythonWithPynetdicom, requirePeer, without } from '../setup/peers.ts';
import { type GantryServer, startServer } from './server.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'gantry-drain-'));
after(() => rmSync(FOLDER, { recursive: true, force: true }));

const contexts = [VERIFICATION, CT, STUDY_ROOT.find, STUDY_ROOT.get].map((abstractSyntax) => ({
  abstractSyntax,
  transferSyntaxes: [EXPLICIT],
}));
const call = (server: GantryServer, more = {}): Promise<Association> =>
  connect({
    host: '127.0.0.1',
    port: server.dimsePort,
    callingAeTitle: 'MODALITY',
    calledAeTitle: 'GANTRY',
    contexts,
    ...more,
  });
const send = async (association: Association, one: Sent): Promise<number> =>
  (
    await store(association, {
      contextId: association.findContext(CT)!.id,
      sopClassUid: CT,
      sopInstanceUid: one.sop,
      data: bytesOf(one),
    })
  ).status;
/** Nothing new is accepted from the moment that the drain has begun. */
async function draining(server: GantryServer): Promise<void> {
  while (!server.log().includes('draining')) await once(server.process.stdout!, 'data');
  await assert.rejects(call(server));
}
/** A process that has just started may still fold what came last before it ended: asked until it is there, or the test's time is over. */
const found = async (server: GantryServer, count: number): Promise<number> => {
  for (const until = Date.now() + 60_000; ; ) {
    const answer = await fetch(`${server.dicomWeb}/instances?limit=10000`);
    const { length } = (await answer.json()) as unknown[];
    if (length >= count || Date.now() > until) return length;
  }
};
const IN_A_CLUSTER = { GANTRY_DIMSE_DRAIN_IDLE_MS: '10m', GANTRY_PLATFORM_DRAIN_MS: '10m' };

describe('SIGTERM', { timeout: 5 * 60_000 }, () => {
  test('an association goes on until its peer releases it; then the process leaves', async () => {
    const dataDir = join(FOLDER, 'released');
    const server = await startServer({ dataDir, env: IN_A_CLUSTER });
    const association = await call(server);
    assert.equal(await send(association, instance(1)), 0);
    const exited = server.signal('SIGTERM');
    await draining(server);
    for (let n = 2; n <= 5; n++) assert.equal(await send(association, instance(n)), 0);
    await association.release();
    assert.equal((await association.closed).kind, 'released');
    assert.equal(await exited, 0);
    await server.restart();
    assert.equal(await found(server, 5), 5);
    await server.close();
  });

  test('a peer that never releases is aborted when the time is nearly over, and the process leaves with 0', async () => {
    const env = { ...IN_A_CLUSTER, GANTRY_PLATFORM_DRAIN_MS: '3s' };
    const server = await startServer({ dataDir: join(FOLDER, 'never'), env });
    const association = await call(server);
    assert.equal((await echo(association)).status, 0);
    const exited = server.signal('SIGTERM');
    await draining(server);
    assert.equal((await echo(association)).status, 0);
    assert.equal((await association.closed).kind, 'aborted-by-peer');
    assert.equal(await exited, 0);
    await server.close();
  });

  test('a C-GET that does not finish in time is answered B000, with true counters and the rest by name', async () => {
    // The last quarter is for last answers: ten times what this peer takes for one, so a slow machine does not matter.
    const env = { ...IN_A_CLUSTER, GANTRY_PLATFORM_DRAIN_MS: '8s' };
    const server = await startServer({ dataDir: join(FOLDER, 'get'), env });
    const total = 60;
    await keep(
      { connect: (more = {}) => call(server, more) } as TestHouse,
      ...Array.from({ length: total }, (_, n) => instance(n)),
    );
    const association = await call(server, { roles: [{ sopClassUid: CT, scu: true, scp: true }] });
    let exited: Promise<unknown> | undefined;
    let received = 0;
    let slow = false;
    const responses: Response[] = [];
    for await (const response of get(
      association,
      STUDY_ROOT.get,
      query('STUDY', { study: '1.2.3' }),
      async (incoming) => {
        await incoming.whole(1e6);
        received++;
        exited ??= server.signal('SIGTERM');
        // Slower than the time that is left: 12 seconds for all.
        if (slow) await new Promise((resolve) => setTimeout(resolve, 200));
        slow = true;
        return 0;
      },
    ))
      responses.push(response);
    const final = responses.at(-1)!;
    assert.equal(final.status, 0xb000);
    assert.equal(final.command.completedSubOperations, received);
    assert.equal(final.command.failedSubOperations, total - received);
    assert.ok(received >= 1 && received < total);
    assert.equal((await association.closed).kind, 'aborted-by-peer');
    assert.equal(await exited, 0);
    await server.close();
  });

  const made = (count: number): string[] =>
    Array.from({ length: count }, (_, n) => {
      const one = instance(n, { study: '1.2.9', series: '1.2.9.1', sop: `1.2.9.1.${n}`, pixelBytes: 200_000 });
      const path = join(FOLDER, `${n}.dcm`);
      writeFileSync(
        path,
        Buffer.concat([
          writePart10Prefix({ sopClassUid: CT, sopInstanceUid: one.sop, transferSyntaxUid: EXPLICIT }),
          bytesOf(one),
        ]),
      );
      return path;
    });
  /** Each must end well although the door closes in the middle of it. */
  async function through(
    name: string,
    program: string,
    args: (port: number) => string[],
    count: number,
  ): Promise<void> {
    const dataDir = join(FOLDER, name);
    const server = await startServer({ dataDir, env: IN_A_CLUSTER });
    const child = spawn(program, args(server.dimsePort), { env: { ...process.env, TCP_NODELAY: '1' } });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    const ended = once(child, 'close');
    for (;;) {
      const metrics = await (await fetch(`${server.origin}/metrics`)).text();
      if (/^gantry_ingest_instances_total\{.*\} [1-9]/m.test(metrics)) break;
    }
    const exited = server.signal('SIGTERM');
    assert.equal((await ended)[0], 0, output);
    assert.equal(await exited, 0);
    await server.restart();
    assert.equal(await found(server, count), count);
    await server.close();
  }

  test('storescu in the middle of its files ends well', { skip: without('storescu') }, () => {
    const files = made(300);
    return through(
      'storescu',
      requirePeer('storescu'),
      (port) => ['-aec', 'GANTRY', '127.0.0.1', String(port), ...files],
      300,
    );
  });

  test('pynetdicom in the middle of its files ends well', { skip: without('pynetdicom') }, () => {
    const files = made(100);
    const script = `
import sys
from pydicom import dcmread
from pynetdicom import AE
ae = AE('PYSCU')
ae.add_requested_context('${CT}', '${EXPLICIT}')
association = ae.associate('127.0.0.1', int(sys.argv[1]), ae_title='GANTRY')
assert association.is_established
for path in sys.argv[2:]:
    status = association.send_c_store(dcmread(path))
    assert status and status.Status == 0, status
association.release()
assert association.is_released
`;
    return through('pynetdicom', pythonWithPynetdicom(), (port) => ['-c', script, String(port), ...files], 100);
  });
});
