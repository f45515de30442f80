// Who may come in.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { echo } from '#dimse/scu.ts';
import { TITLES } from './deployment.ts';
import { VERIFICATION } from './dimse.ts';
import type { Scene } from './scene.ts';

const rejected = (result: number, source: number, reason: number) => (error: { closeReason?: unknown }) => {
  const { result: a, source: b, reason: c } = error.closeReason as Record<string, number>;
  assert.deepEqual([a, b, c], [result, source, reason]);
  return true;
};
const ECHO = { contexts: [{ abstractSyntax: VERIFICATION, transferSyntaxes: ['1.2.840.10008.1.2'] }] };

export function doors(the: () => Scene): void {
  test('C-ECHO, on many associations', async () => {
    const { dimse } = the();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => dimse.within(ECHO, async (one) => (await echo(one)).status)),
    );
    assert.deepEqual(answers, Array(20).fill(0));
  });

  test('another called AE title: A-ASSOCIATE-RJ 1/1/7', async () => {
    await assert.rejects(the().dimse.open({ ...ECHO, calledAeTitle: 'SCENARIO_OTHER' }), rejected(1, 1, 7));
  });

  test('a calling AE title that nobody configured: 1/1/3 beyond loopback, served on it', async () => {
    const { deployment, dimse } = the();
    const { refused, host, port } = deployment.stranger;
    const stranger = { ...ECHO, callingAeTitle: TITLES.stranger, host, port };
    if (refused) await assert.rejects(dimse.open(stranger), rejected(1, 1, 3));
    else assert.equal(await dimse.within(stranger, async (one) => (await echo(one)).status), 0);
    // At the same address a title that is configured is served.
    assert.equal(await dimse.within({ ...ECHO, host, port }, async (one) => (await echo(one)).status), 0);
  });

  test('ready, and asked without a token only where there is none', async () => {
    const { deployment, web } = the();
    assert.equal((await web.ask(`${deployment.http}/readyz`)).status, 200);
    const bare = await fetch(`${deployment.http}/dicom-web/studies?limit=1`);
    await bare.arrayBuffer();
    assert.equal(bare.status, deployment.token === '' ? 200 : 401);
  });
}
