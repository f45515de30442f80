import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIMITS } from '#dimse/limits.ts';
import { createTestContext } from '#platform/testing.ts';
import { checkDimseSettings, dimseSettings, limitsFrom } from './settings.ts';

async function problems(settings: Record<string, unknown>): Promise<string[]> {
  const context = await createTestContext({ tables: [dimseSettings], settings });
  try {
    return checkDimseSettings(context.settings);
  } finally {
    await context.stop();
  }
}

test('the defaults are possible, and so is a door with peers, or one that takes anybody', async () => {
  assert.deepEqual(await problems({}), []);
  assert.deepEqual(await problems({ 'dimse.host': '0.0.0.0', peers: [{ aeTitle: 'CT1' }] }), []);
  assert.deepEqual(await problems({ 'dimse.host': '0.0.0.0', 'dimse.acceptUnknown': true }), []);
});

test('beyond loopback without peers nobody could call: the start stops and says what to do', async () => {
  for (const host of ['0.0.0.0', '::', '127.0.0.1,10.1.2.3']) {
    const [says, ...more] = await problems({ 'dimse.host': host });
    assert.match(says!, /peers.*dimse\.acceptUnknown/s);
    assert.deepEqual(more, []);
  }
});

test('an AE title that is none (PS3.5 §6.2)', async () => {
  for (const title of ['', 'A\\B', 'SEVENTEENLETTERSX', ' PADDED', 'PADDED ', 'É'])
    assert.match((await problems({ 'dimse.aeTitle': title }))[0]!, /GANTRY_AE_TITLE/, title);
  for (const title of ['G', 'SIXTEENLETTERS16', 'WITH SPACE'])
    assert.deepEqual(await problems({ 'dimse.aeTitle': title }), [], title);
});

test('more associations for one peer than for all', async () => {
  assert.match((await problems({ 'dimse.associationsMax': 10 }))[0]!, /associationsPerPeerMax/);
});

test('every limit of the upper layer is a setting, with its unit and bounds', async () => {
  const context = await createTestContext({ tables: [dimseSettings], settings: { 'dimse.artimMs': '5s' } });
  const limits = limitsFrom(context.settings);
  assert.deepEqual(Object.keys(limits).sort(), Object.keys(LIMITS).sort());
  assert.equal(limits.artimMs, 5000);
  for (const [name, limit] of Object.entries(LIMITS)) {
    const row = dimseSettings[`dimse.${name}`]!;
    assert.deepEqual([row.default, row.min, row.max, row.limit], [limit.default, limit.min, limit.max, true], name);
  }
  await context.stop();
});
