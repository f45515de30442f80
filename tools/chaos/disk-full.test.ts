// Less free space than the reserve: instances are refused, everything else goes on, and it heals by itself.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { type GantryServer, startServer } from '../peers/server.ts';
import { stowRequest } from '../peers/stow-request.ts';
import { CT, EXPLICIT, makeInstance, part10Of } from './instances.ts';

const SEED = 78;
const MORE_THAN_ANY_DISK = 2 ** 52;
const SMALL = 2_000; // bytes of pixels: this test is about room, not about rate

async function cStore(server: GantryServer, numbers: number[]): Promise<number[]> {
  const association = await connect({
    host: '127.0.0.1',
    port: server.dimsePort,
    callingAeTitle: 'FULL',
    calledAeTitle: 'GANTRY',
    contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
  });
  const statuses: number[] = [];
  for (const n of numbers) {
    const { instance, dataSet } = makeInstance(SEED, n, SMALL);
    const answer = await store(association, {
      contextId: 1,
      sopClassUid: CT,
      sopInstanceUid: instance,
      data: dataSet,
    });
    statuses.push(answer.status);
  }
  await association.release();
  return statuses;
}

async function stow(server: GantryServer, n: number): Promise<number> {
  const answer = await fetch(`${server.dicomWeb}/studies`, stowRequest([part10Of(makeInstance(SEED, n, SMALL))]));
  await answer.arrayBuffer();
  return answer.status;
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

/** Stores until the answer is `status`: the new setting is read, and the look at the free space is a fresh one. */
async function storeUntil(server: GantryServer, status: number, from: number): Promise<number> {
  for (let n = from; n < from + 500; n++) if ((await cStore(server, [n]))[0] === status) return n;
  throw new Error(`no C-STORE was answered ${status.toString(16)}`);
}

/** Found soon: the index follows the log, and only a sender's own queries through the same door wait for it. */
async function untilFound(list: () => Promise<unknown[]>, what: string): Promise<void> {
  for (const until = Date.now() + 30_000; (await list()).length === 0; ) assert.ok(Date.now() < until, what);
}

test('below the reserve only new instances are refused, and SIGHUP with a lower one heals', {
  timeout: 3 * 60_000,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-full-'));
  const config = join(directory, 'gantry.yaml');
  const reserve = (bytes: number) => writeFileSync(config, `storage:\n  reserveBytes: ${bytes}\n`);
  reserve(0);
  const server = await startServer({
    env: { GANTRY_CONFIG: config, GANTRY_INDEX_SETTLE_MS: '100', GANTRY_KEEPER_ENABLED: 'false' },
  });
  try {
    const [first, second] = [makeInstance(SEED, 0, SMALL), makeInstance(SEED, 10, SMALL)];
    assert.deepEqual(new Set(await cStore(server, range(0, 20))), new Set([0]));

    reserve(MORE_THAN_ANY_DISK);
    server.process.kill('SIGHUP');
    await storeUntil(server, 0xa700, 1000);
    assert.deepEqual(await cStore(server, [2000, 2001]), [0xa700, 0xa700]);
    assert.equal(await stow(server, 2002), 507);
    const ready = await fetch(`${server.origin}/readyz`);
    assert.equal(ready.status, 200, 'queries and reads go on');

    const list = async (study: string): Promise<unknown[]> => {
      const answer = await fetch(`${server.dicomWeb}/studies/${study}/instances`);
      return answer.status === 204 ? [] : ((await answer.json()) as unknown[]);
    };
    await untilFound(async () => ((await list(first.study)).length === 10 ? [1] : []), 'queries go on');
    const whole = await fetch(
      `${server.dicomWeb}/studies/${first.study}/series/${first.series}/instances/${first.instance}`,
      { headers: { Accept: 'application/dicom; transfer-syntax=*' } },
    );
    assert.equal(whole.status, 200);
    assert.ok(Buffer.from(await whole.arrayBuffer()).includes(first.dataSet));

    // Compaction writes a pack inside the reserve, deleting an entry of the log.
    const compacted = await fetch(`${server.origin}/api/v1/compact`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ studyInstanceUid: first.study }),
    });
    const moved = (await compacted.json()) as { instancesMoved?: number };
    assert.equal(compacted.status, 200, JSON.stringify(moved));
    assert.equal(moved.instancesMoved, 10);
    const removed = await fetch(`${server.dicomWeb}/studies/${second.study}`, { method: 'DELETE' });
    assert.ok(removed.ok, `DELETE was answered ${removed.status}`);
    assert.equal((await list(second.study)).length, 0);
    assert.equal((await list(first.study)).length, 10, 'packed, and there');

    reserve(0);
    server.process.kill('SIGHUP');
    const healed = makeInstance(SEED, await storeUntil(server, 0, 3000), SMALL);
    await untilFound(() => list(healed.study), 'what is taken again is found');
    assert.equal(await stow(server, 4000), 200);
    for (const refused of [2000, 2001, 2002])
      assert.deepEqual(
        await list(makeInstance(SEED, refused, SMALL).study),
        [],
        'nothing of what was refused is shown',
      );
  } finally {
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  }
});
