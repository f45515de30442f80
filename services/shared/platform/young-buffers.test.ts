import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { test } from 'node:test';
import { bytesPassed } from './young-buffers.ts';

test('many bytes that passed bring a collection of the young generation, and gc stays no global', async () => {
  const seen = new EventTarget();
  const observer = new PerformanceObserver((list) => {
    for (const { detail } of list.getEntries() as unknown as { detail: { kind: number } }[])
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MINOR) seen.dispatchEvent(new Event('minor'));
  });
  observer.observe({ entryTypes: ['gc'] });
  const collected = once(seen, 'minor');
  for (let i = 0; i < 30; i++) bytesPassed(1024 * 1024);
  await collected;
  observer.disconnect();
  assert.equal('gc' in globalThis, false);
});

test('V8 knows the flags: with them bytes that die young start no marking of the whole heap', () => {
  // A V8 that forgets one prints a warning and goes on with the old limit: this test is where it would be noticed.
  const options = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8', maxBuffer: 16 * 1024 * 1024 });
  assert.match(options, /--external-memory-accounted-in-global-limit/);
  assert.match(options, /--heap-growing-percent/);
});
