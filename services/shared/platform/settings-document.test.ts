import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { allModules } from '../../roles.ts';
import { defaultsOf, environmentName, mergeTables, parseValue } from './setting-values.ts';
import { platformSettings } from './settings.ts';
import { settingsDocument } from './settings-document.ts';

test('services/SETTINGS.md is current (node services/shared/platform/settings-document.run.ts writes it)', async () => {
  const kept = readFileSync(new URL('../../SETTINGS.md', import.meta.url), 'utf8').split('\n');
  const current = settingsDocument(await allModules()).split('\n');
  const at = current.findIndex((line, n) => line !== kept[n]);
  assert.deepEqual([kept[at], kept.length], [current[at], current.length]);
});

test('every row has a sentence, a default that it would itself accept, and an environment name of its own', async () => {
  const table = mergeTables([platformSettings, ...(await allModules()).map(({ settings }) => settings)]);
  const values = defaultsOf(table);
  const names = new Map<string, string>();
  for (const [key, row] of Object.entries(table)) {
    assert.match(key, /^([a-z]+\.)?([a-z][a-z0-9]*\.)?[a-z][A-Za-z0-9]*$/, key);
    assert.ok(row.doc.length > 20, `${key} lacks its sentence`);
    const parsed = parseValue(key, row, values.get(key));
    assert.ok('value' in parsed, 'problem' in parsed ? parsed.problem : '');
    const name = environmentName(key, row);
    assert.equal(names.get(name), undefined, `${name} means ${key} and ${names.get(name)}`);
    names.set(name, key);
    if (row.limit) assert.ok(['integer', 'bytes', 'ms'].includes(row.type), `${key} is a limit without a unit`);
  }
  for (const name of [
    'GANTRY_HTTP_PORT',
    'GANTRY_DIMSE_PORT',
    'GANTRY_HTTP_HOST',
    'GANTRY_DIMSE_HOST',
    'GANTRY_AE_TITLE',
    'GANTRY_DATA_DIR',
  ])
    assert.ok(names.has(name), `${name} is promised to stay`);
});
