// Every limit is a row of a settings table, and some test drives it to its refusal: here only that one speaks of it, by name.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import type { SettingsTable } from '#platform/module.ts';
import { platformSettings } from '#platform/settings.ts';
import { allModules } from '../../services/roles.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');

/** What a test may call a limit: its key, its environment variable, or its name within its own library's table. */
function namesOf(key: string): string[] {
  const last = key.split('.').at(-1)!;
  const environment = `GANTRY_${key
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .replaceAll('.', '_')
    .toUpperCase()}`;
  const inLibrary = last.replace(/^search(.)/, (_, first: string) => first.toLowerCase());
  return [key, environment, last, inLibrary];
}

function unspokenOf(rows: SettingsTable, texts: string): string[] {
  return Object.entries(rows)
    .filter(([, row]) => row.limit)
    .map(([key]) => key)
    .filter((key) => !namesOf(key).some((name) => new RegExp(`\\b${name.replaceAll('.', '\\.')}\\b`).test(texts)));
}

test('some test speaks of every limit', async () => {
  const rows: SettingsTable = { ...platformSettings };
  for (const module of await allModules()) Object.assign(rows, module.settings);
  const files = execFileSync(
    'git',
    [
      'ls-files',
      '--cached',
      '--others',
      '--exclude-standard',
      'services/**.test.ts',
      'services/**.contract.ts',
      'tools/**.test.ts',
    ],
    {
      cwd: CHECKOUT,
      encoding: 'utf8',
    },
  )
    .split('\n')
    .filter((name) => name !== '' && name !== 'tools/check/limits.test.ts');
  const texts = files.map((name) => readFileSync(join(CHECKOUT, name), 'utf8')).join('\n');
  assert.ok(Object.values(rows).filter((row) => row.limit).length > 60 && files.length > 100, 'it looked');
  assert.deepEqual(
    unspokenOf({ 'planted.noTestKnowsThis': { type: 'integer', default: 1, doc: '', limit: true } }, texts),
    ['planted.noTestKnowsThis'],
  );
  assert.deepEqual(unspokenOf(rows, texts), []);
});
