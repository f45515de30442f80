import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { missingOptionals } from './lock.ts';
import { openData, requirePeer, without } from './peers.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');

test('a lock without some platforms is completed as npm would have written it', () => {
  const lock = {
    packages: {
      '': {},
      'node_modules/biome': {
        dev: true,
        optionalDependencies: {
          '@biome/cli-linux-x64': '2.0.0',
          '@biome/cli-darwin-arm64': '2.0.0',
          '@biome/cli-linux-x64-musl': '2.0.0',
          nested: '1.0.0',
          fsevents: '^2.3.0',
        },
      },
      'node_modules/@biome/cli-linux-x64': {},
      'node_modules/biome/node_modules/nested': {},
    },
  };
  assert.deepEqual(missingOptionals(lock), {
    'node_modules/@biome/cli-darwin-arm64': {
      version: '2.0.0',
      cpu: ['arm64'],
      dev: true,
      optional: true,
      os: ['darwin'],
    },
    'node_modules/@biome/cli-linux-x64-musl': {
      version: '2.0.0',
      cpu: ['x64'],
      dev: true,
      libc: ['musl'],
      optional: true,
      os: ['linux'],
    },
  });
});

/** A setting of the environment for as long as `work` takes. */
async function withEnvironment(settings: Record<string, string | undefined>, work: () => unknown) {
  const before = Object.keys(settings).map((key) => [key, process.env[key]] as const);
  const set = (key: string, value: string | undefined) => {
    if (value === undefined) delete process.env[key];
    else process.env[key] = value;
  };
  try {
    for (const [key, value] of Object.entries(settings)) set(key, value);
    await work();
  } finally {
    for (const [key, value] of before) set(key, value);
  }
}

test('a missing peer is a reason to skip on a desk and none in CI', async () => {
  await withEnvironment({ CI: undefined }, () => {
    assert.equal(without('bash'), false);
    assert.match(String(without('bash', 'no-such-program')), /not installed: no-such-program/);
  });
  await withEnvironment({ CI: 'true' }, () => assert.equal(without('no-such-program'), false));
  assert.throws(() => requirePeer('no-such-program'), /is not installed: run tools\/setup\/peers.sh/);
});

test('without the open data: the samples on a desk, an error in CI', async () => {
  const GANTRY_OPEN_DATA = join(tmpdir(), 'gantry-no-such-folder');
  await withEnvironment({ GANTRY_OPEN_DATA, CI: undefined }, async () => {
    const { from, rows } = await openData();
    assert.equal(from, 'samples');
    assert.ok(rows.length > 40);
  });
  await withEnvironment({ GANTRY_OPEN_DATA, CI: 'true' }, () => assert.rejects(openData(), /CI=true/));
});

test('make help lists every target that a person may call', () => {
  const help = execFileSync('make', ['-s', 'help'], { cwd: CHECKOUT, encoding: 'utf8' });
  const phony = /^\.PHONY: (.*)$/m.exec(readFileSync(join(CHECKOUT, 'Makefile'), 'utf8'))![1]!.split(' ');
  const internal = ['setup', 'viewer'];
  for (const target of phony.filter((name) => !internal.includes(name))) {
    assert.match(help, new RegExp(`^  make ${target} +\\S`, 'm'));
  }
});

test('systemd finds nothing wrong with the unit', { skip: without('systemd-analyze') }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-unit-'));
  try {
    const unit = readFileSync(join(CHECKOUT, 'deploy/gantry.service'), 'utf8');
    const verify = (text: string) => {
      const path = join(folder, 'gantry.service');
      writeFileSync(path, text.replaceAll('/opt/gantry', CHECKOUT));
      return spawnSync(requirePeer('systemd-analyze'), ['verify', '--man=no', path], { encoding: 'utf8' });
    };
    const good = verify(unit);
    assert.deepEqual([good.status, good.stderr], [0, '']);
    // It looks: a directive that is none is seen.
    assert.match(verify(unit.replace('KillMode=', 'KilMode=')).stderr, /KilMode/);
    assert.notEqual(verify(unit.replace('services/main.ts', 'x').replace('/node ', '/nodde ')).status, 0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
