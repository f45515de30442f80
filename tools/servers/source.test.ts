// Docker cannot pull on every machine: what is chosen is tested with what Docker would have said.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { chooseSource, dockerCanPull, type SourceQuestion } from './source.ts';

const NOW = Date.UTC(2026, 0, 1);

function question(answers: Partial<SourceQuestion> & { canPull?: boolean } = {}) {
  const asked: string[] = [];
  const full: SourceQuestion = {
    named: undefined,
    probe: async () => {
      asked.push('probe');
      return answers.canPull ?? false;
    },
    remembered: () => undefined,
    remember: ({ canPull, at }) => asked.push(`remember ${canPull} ${at}`),
    now: NOW,
    ...answers,
  };
  return { full, asked };
}

test('Docker where it can pull, else the cache; the answer is remembered', async () => {
  for (const [canPull, source] of [
    [true, 'docker'],
    [false, 'cache'],
  ] as const) {
    const { full, asked } = question({ canPull });
    assert.equal(await chooseSource(full), source);
    assert.deepEqual(asked, ['probe', `remember ${canPull} ${NOW}`]);
  }
});

test('what was found within half a day counts, what is older or from the future does not', async () => {
  const hours = (count: number) => NOW - count * 3600_000;
  for (const [at, probed] of [
    [hours(0), false],
    [hours(11), false],
    [hours(13), true],
    [hours(-1), true],
  ] as const) {
    const { full, asked } = question({ remembered: () => ({ canPull: true, at }), canPull: false });
    assert.equal(await chooseSource(full), probed ? 'cache' : 'docker');
    assert.equal(asked.includes('probe'), probed);
  }
});

test('GANTRY_SERVERS decides, and nothing else than its two words', async () => {
  for (const named of ['docker', 'cache'] as const) {
    const { full, asked } = question({ named });
    assert.equal(await chooseSource(full), named);
    assert.deepEqual(asked, []);
  }
  await assert.rejects(chooseSource(question({ named: 'podman' }).full), /'podman': docker or cache/);
  assert.equal(await chooseSource(question({ named: '' }).full), 'cache');
});

test('the probe: no docker, no daemon, an image that is there, one that can and one that cannot be pulled', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-docker-'));
  const docker = join(folder, 'docker');
  const says = async (answers: Record<string, number>) => {
    const cases = Object.entries(answers).map(([command, code]) => `${command}) exit ${code} ;;`);
    writeFileSync(docker, `#!/bin/sh\necho "$@" >>${folder}/asked\ncase $1 in ${cases.join(' ')} esac\n`);
    chmodSync(docker, 0o755);
    return dockerCanPull(docker);
  };
  try {
    assert.equal(await dockerCanPull(join(folder, 'none')), false);
    assert.equal(await says({ info: 1, image: 0, pull: 0 }), false);
    assert.equal(readFileSync(join(folder, 'asked'), 'utf8'), 'info\n');
    assert.equal(await says({ info: 0, image: 0, pull: 1 }), true);
    assert.equal(await says({ info: 0, image: 1, pull: 0 }), true);
    assert.equal(await says({ info: 0, image: 1, pull: 1 }), false);
    assert.ok(existsSync(docker));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
