import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeMetadataObject,
  type MetadataEntry,
  metadataExists,
  withMetadataObject,
  writeMetadataObject,
} from './object.ts';

const entry = (n: number): MetadataEntry => ({
  version: n.toString(16).padStart(64, '0'),
  charset: n % 3 === 0 ? 'ISO_IR 100' : '',
  head: Buffer.alloc(n * 7, n),
  json: Buffer.from(`{"n":${n}}`),
});

function withObject(entries: MetadataEntry[], use: (directory: string, name: string, path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-object-'));
  try {
    const path = join(directory, 'metadata', 'ab', 'one.gmo');
    writeMetadataObject(path, entries);
    use(directory, 'ab/one.gmo', path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('every version’s text and header come back, also one by one', () => {
  const entries = Array.from({ length: 150 }, (_, n) => entry(n));
  withObject(entries, (directory, name) => {
    assert.equal(metadataExists(directory, name), true);
    for (const { version, json, head, charset } of entries)
      withMetadataObject(directory, name, (object) => {
        assert.deepEqual(object.json(version), json);
        assert.deepEqual(object.head(version), { head, charset });
        assert.equal(object.json('f'.repeat(64)), undefined);
      });
    assert.equal(
      withMetadataObject(directory, 'ab/none.gmo', () => 1),
      undefined,
    );
  });
});

test('cut short or damaged, an object gives an error or what was written: never anything else', () => {
  const entries = Array.from({ length: 5 }, (_, n) => entry(n + 1));
  const whole = encodeMetadataObject(entries);
  withObject(entries, (directory, name, path) => {
    const damage = fc.record({ length: fc.nat(whole.length), at: fc.nat(whole.length - 1), flip: fc.nat(255) });
    fc.assert(
      fc.property(damage, ({ length, at, flip }) => {
        const bytes = Buffer.from(readFileSync(path).length === 0 ? whole : whole).subarray(0, length);
        if (at < bytes.length) bytes[at]! ^= flip;
        writeFileSync(path, bytes);
        for (const { version, json, head } of entries) {
          let found: { json: Buffer | undefined; head: Buffer | undefined } | undefined;
          try {
            found = withMetadataObject(directory, name, (object) => ({
              json: object.json(version),
              head: object.head(version)?.head,
            }));
          } catch {
            continue; // told: it is written again
          }
          if (found?.json) assert.deepEqual(found.json, json);
          if (found?.head) assert.deepEqual(found.head, head);
        }
      }),
      { numRuns: 500 },
    );
  });
});
