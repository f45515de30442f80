import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import type { DueStudy } from './ports.ts';
import { Settler, type SettlerOptions } from './settle.ts';

/** A settler over studies that are due, and whoever takes jobs. */
function settlerOf(studies: number, add: (key: string) => Promise<void>) {
  const due = new Map<number, DueStudy>();
  for (let study = 1; study <= studies; study++)
    due.set(study, { generation: 1, tenant: 'main', study, studyInstanceUid: `1.2.${study}`, settled: 0 });
  const said: string[] = [];
  const log = { warn: (_: object, text: string) => said.push(text), info: (text: string) => said.push(text) };
  const options: SettlerOptions = {
    store: {
      settling: {
        due: async (_beforeMs, limit) => [...due.values()].slice(0, limit),
        settle: async () => true,
        announced: async ({ study }) => void due.delete(study as number),
        giveHeads: async () => {},
      },
    },
    data: { readLog: () => assert.fail('no header is missing') },
    jobs: { add: ({ key }: { key: string }) => add(key) } as never,
    wake: { publish() {} } as never,
    log: log as never,
    settleMs: () => 0,
  };
  return { settler: new Settler(options), due, said };
}

test('nobody takes jobs: one study is tried a tick, it is said once, and all of them settle as soon as somebody does', async () => {
  let gone = true;
  let asked = 0;
  const { settler, due, said } = settlerOf(50, async () => {
    asked++;
    if (gone) throw new GantryError('unavailable', 'NATS does not answer');
  });
  for (let tick = 1; tick <= 3; tick++) {
    await settler.tick();
    assert.equal(asked, tick);
  }
  assert.equal(said.length, 1, said.join());
  gone = false;
  await settler.tick();
  assert.equal(due.size, 0, 'none of them waits as if it were its own fault');
  assert.equal(said.length, 2, 'and that is said too');
});

test('one study whose job is refused does not hold up the others', async () => {
  const { settler, due, said } = settlerOf(50, async (key) => {
    if (key.endsWith('/1.2.7')) throw new GantryError('too-large', 'refused');
  });
  await settler.tick();
  assert.deepEqual([...due.keys()], [7]);
  assert.equal(said.length, 1);
});
