import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TableCache } from './table-cache.ts';

const view = (length: number): Buffer => Buffer.alloc(64 * 1024, 7).subarray(100, 100 + length);

test('a table keeps its own bytes alive, and not the slab that it was cut from', () => {
  const cache = new TableCache(1000);
  cache.set('L', 1, view(400));
  const kept = cache.get('L', 1)!;
  assert.deepEqual(kept, view(400));
  assert.equal(kept.buffer.byteLength, 400);
});

test('the oldest go when the bytes are more than allowed; one that alone is more is not kept', () => {
  const cache = new TableCache(1000);
  for (const sequence of [1, 2, 3]) cache.set('L', sequence, view(400));
  assert.equal(cache.get('L', 1), undefined);
  assert.ok(cache.get('L', 2) && cache.get('L', 3));
  cache.set('L', 4, view(1001));
  assert.equal(cache.get('L', 4), undefined);
});
