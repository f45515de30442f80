import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutServers } from '../servers/index.ts';
import { clusterCampaign } from './cluster-campaign.ts';

const MINUTES = Number(process.env.CHAOS_MINUTES ?? 5);

test(`${MINUTES} minutes of kills, stops, partitions and a lying S3: nothing acknowledged is missing, different or doubled`, {
  skip: await withoutServers('nats', 'versitygw', 'elasticsearch'),
  timeout: (MINUTES + 12) * 60_000,
}, async (t) => {
  const result = await clusterCampaign({ minutes: MINUTES, seed: 20_261_124, log: (line) => t.diagnostic(line) });
  t.diagnostic(JSON.stringify(result));
  assert.ok(result.acknowledged > 100 * MINUTES, 'the campaign stored something');
  assert.ok(result.kills > 3 * MINUTES, 'the campaign killed something');
  const { late, dropAnswer, reorder } = result.hidden;
  assert.ok(late > 0 && dropAnswer > 0 && reorder > 0, 'the store lied');
  assert.ok(result.silenceMs < 120_000, 'storing never stood still for longer than any fault and patience together');
  assert.deepEqual(result.missing, [], 'acknowledged and not found');
  assert.deepEqual(result.different, [], 'found with other bytes, or never sent');
  assert.deepEqual(result.doubled, [], 'found or counted twice');
  assert.deepEqual(result.findings, [], 'gantry verify');
});
