import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import type { CommandSet } from '#dimse/command.ts';
import type { Incoming } from '#dimse/types.ts';
import type { Session } from './session.ts';
import { createSubOperations } from './sub-operations.ts';

const EXPLICIT = '1.2.840.10008.1.2.1';

type Said = Partial<CommandSet> & { identifier?: Buffer };
function begin(total: number, options: { pendingMs?: number; taken?: () => Promise<void> } = {}) {
  const said: Said[] = [];
  const session = {
    call: { requestId: 'r' },
    association: {
      respond: async (_: Incoming, fields: Partial<CommandSet>, identifier?: Buffer) => {
        said.push({ ...fields, ...(identifier ? { identifier } : {}) });
        await options.taken?.();
      },
    },
    door: { context: { log: { info: () => {} }, settings: { number: () => options.pendingMs ?? 1e6 } } },
  } as unknown as Session;
  const incoming = { transferSyntax: EXPLICIT } as Incoming;
  return { said, operations: createSubOperations(session, incoming, total) };
}
const one = (n: number) => ({ studyInstanceUid: '1', sopInstanceUid: `1.2.${n}`, kept: [] });
const statusAfter = async (...outcomes: ('completed' | 'warning' | 'failed')[]) => {
  const { said, operations } = begin(outcomes.length);
  for (const [n, outcome] of outcomes.entries()) await operations.done(one(n), { outcome });
  await operations.finish();
  return said.at(-1)!;
};

test('the final status: PS3.4 Table C.4-2', async () => {
  assert.equal((await statusAfter()).status, 0);
  assert.equal((await statusAfter('completed', 'completed')).status, 0);
  assert.equal((await statusAfter('completed', 'warning')).status, 0xb000);
  assert.equal((await statusAfter('completed', 'failed')).status, 0xb000);
  assert.equal((await statusAfter('warning', 'failed')).status, 0xb000);
  assert.equal((await statusAfter('failed', 'failed')).status, 0xa702);
  const final = await statusAfter('completed', 'warning', 'failed');
  assert.deepEqual(
    [final.completedSubOperations, final.warningSubOperations, final.failedSubOperations, final.remainingSubOperations],
    [1, 1, 1, undefined],
  );
  assert.deepEqual(new DataSet({ buffer: final.identifier!, transferSyntaxUid: EXPLICIT }).strings(0x00080058), [
    '1.2.2',
  ]);
  assert.equal((await statusAfter('completed')).identifier, undefined);
});

test('pending after each but the last, with what remains; cancelled: FE00 with what remains', async () => {
  const { said, operations } = begin(3);
  await operations.done(one(1), { outcome: 'completed' });
  await operations.done(one(2), { outcome: 'failed' });
  assert.deepEqual(
    said.map((response) => [response.status, response.remainingSubOperations]),
    [
      [0xff00, 2],
      [0xff00, 1],
    ],
  );
  assert.equal(await operations.finish(), 0xfe00);
  assert.equal(said.at(-1)!.remainingSubOperations, 1);
  assert.ok(said.at(-1)!.identifier);
});

test('counters are US: 100,000 sub-operations show as 65,535, and the list of failed ones ends at 10,000', async () => {
  const { said, operations } = begin(100_000);
  for (let n = 0; n < 100_000; n++) await operations.done(one(n), { outcome: 'failed' });
  await operations.finish();
  assert.equal(said[0]!.remainingSubOperations, 65_535);
  const final = said.at(-1)!;
  assert.equal(final.failedSubOperations, 65_535);
  // Longer than UI can say in Explicit VR: written as UN (PS3.5 §6.2.2 Note 1), which keeps it readable.
  const identifier = new DataSet({ buffer: final.identifier!, transferSyntaxUid: EXPLICIT });
  assert.equal(identifier.strings(0x00080058).length, 10_000);
});

test('the clock says pending when nothing else does, but never twice behind a caller that is not reading', async () => {
  let take = () => {};
  const { said, operations } = begin(2, {
    pendingMs: 1,
    taken: () =>
      new Promise((resolve) => {
        take = resolve;
      }),
  });
  while (said.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  for (let n = 0; n < 20; n++) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(said.length, 1);
  take();
  while (said.length === 1) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual([said[1]!.status, said[1]!.remainingSubOperations], [0xff00, 2]);
  operations.stop();
});
