import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { KeyValue } from './ports.ts';

export interface KeyValueFixture {
  kv: KeyValue;
  /** Opens the same data again, as after a kill. */
  reopen(): Promise<KeyValue>;
  close(): Promise<void>;
}

/** What every adapter of KeyValue must do. */
export function keyValueContract(name: string, open: (valueMax: number) => Promise<KeyValueFixture>): void {
  const withKv = async (run: (kv: KeyValue, fixture: KeyValueFixture) => Promise<void>) => {
    const fixture = await open(1_000);
    try {
      await run(fixture.kv, fixture);
    } finally {
      await fixture.close();
    }
  };
  const text = (value: { value: Buffer } | undefined) => value?.value.toString();

  describe(`KeyValue: ${name}`, () => {
    test('what was put is got, by tenant and key', () =>
      withKv(async (kv) => {
        assert.equal(await kv.get('main', 'k'), undefined);
        const revision = await kv.put('main', 'k', Buffer.from([0xff, 0, 10]));
        const got = await kv.get('main', 'k');
        assert.deepEqual([...got!.value], [0xff, 0, 10]);
        assert.equal(got!.revision, revision);
        assert.equal(await kv.get('other', 'k'), undefined);
      }));

    test('compare-and-set: 0 must not exist, a revision must be the present one', () =>
      withKv(async (kv) => {
        const first = await kv.put('main', 'k', Buffer.from('1'), 0);
        await assert.rejects(kv.put('main', 'k', Buffer.from('x'), 0), { code: 'conflict' });
        const second = await kv.put('main', 'k', Buffer.from('2'), first);
        assert.ok(second > first);
        await assert.rejects(kv.put('main', 'k', Buffer.from('x'), first), { code: 'conflict' });
        await assert.rejects(kv.delete('main', 'k', first), { code: 'conflict' });
        assert.equal(text(await kv.get('main', 'k')), '2');
        await kv.put('main', 'k', Buffer.from('3'));
        await assert.rejects(kv.put('main', 'gone', Buffer.from('x'), 7), { code: 'conflict' });
      }));

    test('of many who set at once exactly one wins', () =>
      withKv(async (kv) => {
        const revision = await kv.put('main', 'k', Buffer.from('0'));
        const outcomes = await Promise.allSettled(
          Array.from({ length: 20 }, (_, n) => kv.put('main', 'k', Buffer.from(`${n}`), revision)),
        );
        assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
      }));

    test('deleted is gone, also twice; a revision never comes back', () =>
      withKv(async (kv, fixture) => {
        const first = await kv.put('main', 'k', Buffer.from('1'), 0);
        await kv.delete('main', 'k', first);
        assert.equal(await kv.get('main', 'k'), undefined);
        await kv.delete('main', 'k');
        const again = await fixture.reopen();
        assert.equal(await again.get('main', 'k'), undefined);
        assert.ok((await again.put('main', 'k', Buffer.from('2'), 0)) > first);
      }));

    test('lists by prefix, in order', () =>
      withKv(async (kv) => {
        for (const key of ['b/2', 'a/1', 'b/1', 'b']) await kv.put('main', key, Buffer.from(key));
        assert.deepEqual(
          (await kv.list('main', 'b/')).map(({ key }) => key),
          ['b/1', 'b/2'],
        );
        assert.equal((await kv.list('main', '')).length, 4);
        assert.deepEqual(await kv.list('nobody', ''), []);
      }));

    test('survives a restart, whatever the key looks like', () =>
      withKv(async (kv, fixture) => {
        const keys = [
          '../../etc/passwd',
          '.',
          '..',
          'a/b',
          'A',
          'Ä 😀',
          '%2e',
          'con.',
          'x'.repeat(256),
          `${'y'.repeat(255)}😀`.slice(0, 255),
          '~',
        ];
        for (const key of keys) await kv.put('ten/../ant', key, Buffer.from(key));
        const again = await fixture.reopen();
        for (const key of keys) assert.equal(text(await again.get('ten/../ant', key)), Buffer.from(key).toString());
        assert.equal((await again.list('ten/../ant', '')).length, keys.length);
      }));

    test('what is got is a copy', () =>
      withKv(async (kv) => {
        const given = Buffer.from('abc');
        await kv.put('main', 'k', given);
        given[0] = 0;
        (await kv.get('main', 'k'))!.value[1] = 0;
        assert.equal(text(await kv.get('main', 'k')), 'abc');
      }));

    test('platform.keyValueMax and the length of keys refuse', () =>
      withKv(async (kv) => {
        await assert.rejects(kv.put('main', 'k', Buffer.alloc(1_001)), { code: 'too-large' });
        await assert.rejects(kv.put('main', '', Buffer.alloc(1)), { code: 'invalid-argument' });
        await assert.rejects(kv.put('main', 'k'.repeat(257), Buffer.alloc(1)), { code: 'invalid-argument' });
      }));
  });
}
