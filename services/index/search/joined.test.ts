import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SearchRow } from '#proto/index/v1/index.ts';
import { joined } from './joined.ts';

const anyRow = fc.record({
  text: fc.string({ maxLength: 40 }),
  conflict: fc.boolean(),
  pause: fc.constantFrom('none', 'undefined', 'promise'),
});

test('joined rows are the rows: every object in order, cursor and more of the last, a conflict of any, pauses passed on', () =>
  fc.assert(
    fc.property(fc.array(anyRow, { maxLength: 40 }), fc.integer({ min: 1, max: 400 }), (wanted, most) => {
      const pause = Promise.resolve();
      const rows = wanted.map(({ text, conflict }, n): SearchRow => {
        const dataSetJson = Buffer.from(JSON.stringify({ text }));
        return { dataSetJson, conflict, cursor: `after ${n}`, more: n === wanted.length - 1, rows: 0 };
      });
      const given = [
        ...joined(
          (function* () {
            for (const [n, row] of rows.entries()) {
              if (wanted[n]!.pause === 'undefined') yield undefined;
              if (wanted[n]!.pause === 'promise') yield pause;
              yield row;
            }
          })(),
          most,
        ),
      ];
      assert.equal(
        given.filter((one) => one === undefined || one instanceof Promise).length,
        wanted.filter((one) => one.pause !== 'none').length,
      );
      let at = 0;
      for (const one of given) {
        if (one === undefined || one instanceof Promise) continue;
        const some = rows.slice(at, at + one.rows);
        at += one.rows;
        assert.ok(one.rows === 1 || one.dataSetJson.length <= most, `${one.dataSetJson.length} bytes`);
        assert.equal(one.dataSetJson.toString(), some.map((row) => row.dataSetJson.toString()).join());
        assert.equal(one.cursor, some.at(-1)!.cursor);
        assert.equal(one.more, some.at(-1)!.more);
        assert.equal(
          one.conflict,
          some.some((row) => row.conflict),
        );
      }
      assert.equal(at, rows.length);
    }),
  ));
