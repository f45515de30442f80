import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { written } from './scale.ts';

test('SCALE.md is what its figures give (node tools/bench/scale.ts writes it)', () => {
  const kept = readFileSync(new URL('./SCALE.md', import.meta.url), 'utf8');
  const current = written(kept).split('\n');
  const lines = kept.split('\n');
  const at = current.findIndex((line, n) => line !== lines[n]);
  assert.deepEqual([lines[at], lines.length], [current[at], current.length]);
});
