import assert from 'node:assert/strict';
import { test } from 'node:test';
import { campaign } from './campaign.ts';

const KILLS = Number(process.env.CHAOS_KILLS ?? 50);

test(`${KILLS} times kill -9 under load: nothing acknowledged is missing, different or doubled`, {
  timeout: 15 * 60_000,
}, async (t) => {
  const seed = 20_261_124;
  const result = await campaign({ kills: KILLS, seed, log: (line) => t.diagnostic(line) });
  t.diagnostic(
    `${result.kills} kills, ${result.acknowledged} acknowledged, ${result.deleted} studies deleted, slowest start ${Math.round(result.slowestStartMs)} ms`,
  );
  assert.ok(result.acknowledged > KILLS, 'the campaign stored something');
  assert.deepEqual(result.missing, [], 'acknowledged and not found');
  assert.deepEqual(result.different, [], 'found with other bytes, or never sent');
  assert.deepEqual(result.doubled, [], 'found twice');
  assert.deepEqual(result.findings, [], 'gantry verify');
  assert.ok(result.slowestStartMs < 30_000, 'ready within 30 s after kill -9 under load');
});
