import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explore } from './explore.ts';
import { readCorpus } from './fuzz.ts';
import { TARGETS, type Target } from './targets.ts';

for (const [name, target] of Object.entries(TARGETS)) {
  test(`${name}: the seeds, the corpus, and what once broke it`, async () => {
    const inputs = [...(await target.seeds()), ...readCorpus(name), ...readCorpus(name, 'found')];
    assert.ok(inputs.length > 0);
    for (const input of inputs) {
      await assert.doesNotReject(async () => target.run(Buffer.from(input)), input.toString('base64'));
    }
  });
}

/** Breaks only behind four steps that chance alone would not take: each must be seen as new to get to the next. */
const planted: Target = {
  seeds: () => [Buffer.from('xxxx')],
  words: ['G', 'A', 'N', 'T', 'R', 'Y'],
  run: (input) => {
    if (input[0] !== 0x47) return;
    if (input[1] !== 0x41) return;
    if (input[2] !== 0x4e) return;
    if (input[3] !== 0x54) return;
    throw new Error('planted');
  },
};

test('a fault behind several steps is found by following what is new', async () => {
  const { finding, executions } = await explore(planted, [], { seed: 1, goesOn: (executions) => executions < 60_000 });
  assert.equal((finding?.error as Error | undefined)?.message, 'planted', `not within ${executions} inputs`);
  assert.equal(finding!.input.toString('latin1', 0, 4), 'GANT');
});
