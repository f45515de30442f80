import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlushReason } from './disk.ts';
import { runHistory } from './power-loss.testing.ts';

/** About three cuts each; 15,000 (52,000 cuts) ran clean by hand on 2026-11-24. */
const HISTORIES = 1000;

test('whenever the power goes, everything acknowledged is there, byte for byte, and nothing half-written shows', async () => {
  let cuts = 0;
  let acknowledged = 0;
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const result = await runHistory(seed);
    assert.equal(result.problem, undefined);
    cuts += result.cuts;
    acknowledged += result.acknowledged;
  }
  assert.ok(
    cuts > 2 * HISTORIES && acknowledged > 5 * HISTORIES,
    `the test looked: ${cuts} cuts, ${acknowledged} acknowledged entries`,
  );
});

const FLUSHES: Record<FlushReason, true> = {
  segment: true,
  'segment-name': true,
  'directory-name': true,
  object: true,
  'object-name': true,
  recovered: true,
  'recovered-name': true,
  closed: true,
  thinned: true,
  'thinned-name': true,
  format: true,
};

for (const reason of Object.keys(FLUSHES) as FlushReason[])
  test(`without the flush “${reason}” the power-loss test fails`, async () => {
    for (let seed = 1; seed <= 3000; seed++) if ((await runHistory(seed, reason)).problem) return;
    assert.fail(
      '3,000 histories without this flush, and nothing was lost: either it is not needed, or the test does not look',
    );
  });
