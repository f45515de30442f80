import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomOf } from '../fs/power-loss.testing.ts';
import { runChaos } from './chaos.testing.ts';

/** More: GANTRY_HISTORIES=100000. One alone: GANTRY_SEED=n. */
const HISTORIES = Number(process.env.GANTRY_HISTORIES ?? 400);

test(`${HISTORIES} histories of writers, keepers and readers on a store that loses answers`, async () => {
  const only = process.env.GANTRY_SEED;
  const sums = { acknowledged: 0, refused: 0, closings: 0, merged: 0 };
  for (let seed = only ? Number(only) : 1; seed <= (only ? Number(only) : HISTORIES); seed++) {
    const result = await runChaos(seed, randomOf(seed));
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += result[key];
  }
  if (only) return;
  // The histories do what they are for.
  assert.ok(sums.acknowledged > HISTORIES * 5, JSON.stringify(sums));
  assert.ok(sums.refused > 0 && sums.closings > HISTORIES / 5 && sums.merged > HISTORIES / 10, JSON.stringify(sums));
});
