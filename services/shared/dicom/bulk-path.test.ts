import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatBulkPath, parseBulkPath } from './bulk-path.ts';

test('a path that is written is read back', () => {
  const tag = fc.integer({ min: 0, max: 0xffffffff });
  const path = fc.record({
    steps: fc.array(fc.record({ tag, item: fc.integer({ min: 1, max: 1_000_000 }) }), { maxLength: 5 }),
    tag,
  });
  fc.assert(
    fc.property(path, (one) => {
      assert.deepEqual(parseBulkPath(formatBulkPath(one)), {
        steps: one.steps.map((step) => ({ ...step })),
        tag: one.tag,
      });
    }),
  );
  assert.equal(formatBulkPath({ steps: [{ tag: 0x54000100, item: 1 }], tag: 0x54001010 }), '54000100/1/54001010');
});

test('whatever else a URL says is no path', () => {
  for (const text of [
    '',
    '/',
    '7FE0001',
    '7FE000100',
    '54000100/0/54001010',
    '54000100/1',
    '54000100/01/54001010',
    '../7FE00010',
    '54000100/-1/54001010',
    '54000100/1e3/54001010',
  ])
    assert.equal(parseBulkPath(text), undefined, text);
  assert.equal(parseBulkPath('54000100/1/'.repeat(100) + '54001010'), undefined);
  fc.assert(fc.property(fc.string(), (text) => void parseBulkPath(text)));
});
