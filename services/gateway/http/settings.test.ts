import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Settings } from '#platform/module.ts';
import { checkHttpSettings, httpSettings } from './settings.ts';

function settings(changed: Record<string, unknown>): Settings {
  const value = (key: string): unknown => changed[key] ?? httpSettings[key as keyof typeof httpSettings].default;
  return {
    string: value,
    number: value,
    boolean: value,
    list: value,
    value,
    onChange() {},
  } as unknown as Settings;
}

test('settings that cannot be meant are named before a socket opens', () => {
  assert.deepEqual(checkHttpSettings(settings({})), []);
  for (const [changed, problem] of [
    [{ 'http.host': '0.0.0.0' }, /nothing asks who they are/],
    [{ 'http.searchLimit': 20, 'http.searchLimitMax': 10 }, /searchLimitMax/],
    [{ 'http.trustedProxies': ['proxy.example'] }, /trustedProxies/],
    [{ 'http.publicUrl': 'pacs.example' }, /publicUrl/],
    [{ 'http.publicUrl': 'https://pacs.example/some/path' }, /publicUrl/],
    [{ 'http.publicUrl': 'https://user@pacs.example' }, /publicUrl/],
  ] as [Record<string, unknown>, RegExp][]) {
    const [found, ...others] = checkHttpSettings(settings(changed));
    assert.match(found ?? '', problem);
    assert.deepEqual(others, []);
  }
  for (const changed of [
    { 'http.host': '0.0.0.0', 'http.tokenFile': '/x' },
    { 'http.publicUrl': 'https://pacs.example:8443/', 'http.trustedProxies': ['10.0.0.0/8', '::1'] },
  ])
    assert.deepEqual(checkHttpSettings(settings(changed)), []);
});
