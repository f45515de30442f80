import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Wake } from './ports.ts';

/** What every adapter of Wake must do. */
export function wakeContract(name: string, open: () => Promise<{ wake: Wake; close(): Promise<void> }>): void {
  describe(`Wake: ${name}`, () => {
    test('subscribers of the subject are woken with tenant and payload, later, until they leave', async () => {
      const { wake, close } = await open();
      try {
        const seen: string[] = [];
        const woken = new Promise<void>((resolve) => {
          wake.subscribe('log.committed', (tenant, payload) => {
            seen.push(`a ${tenant} ${payload}`);
            if (String(payload) === '3') resolve();
          });
        });
        const leave = wake.subscribe('log.committed', (tenant, payload) => seen.push(`b ${tenant} ${payload}`));
        wake.subscribe('log.committed', () => {
          throw new Error('a listener that fails hurts nobody');
        });
        wake.subscribe('study.changed', () => seen.push('another subject'));
        const first = new Promise<void>((resolve) => {
          const once = wake.subscribe('log.committed', () => {
            once();
            resolve();
          });
        });
        wake.publish('log.committed', 'main', Buffer.from('1'));
        assert.deepEqual(seen, [], 'never inside publish');
        await first;
        leave();
        leave();
        wake.publish('log.committed', 'main', Buffer.from('3'));
        await woken;
        assert.deepEqual(seen, ['a main 1', 'b main 1', 'a main 3']);
        wake.publish('nobody.listens', 'main', Buffer.alloc(0));
      } finally {
        await close();
      }
    });
  });
}
