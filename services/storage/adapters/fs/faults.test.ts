import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { sampleHold } from '../../log/sample.testing.ts';
import { entriesOf } from '../../log-store.contract.ts';
import type { Archive } from '../../ports.ts';
import { type ArchiveOptions, openArchiveOn } from './archive.ts';
import { ModelDisk } from './disk.model.ts';
import { randomOf } from './power-loss.testing.ts';

const OPTIONS: ArchiveOptions = {
  gather: { commitBytes: 2 ** 20, commitEntries: 16, queueBytes: 2 ** 30, queueEntries: 4096 },
  segment: { segmentBytes: 2 ** 20, segmentAgeMs: 2 ** 31, restMs: 0 },
  tableCacheBytes: 0,
  openFiles: 16,
  reserveBytes: () => 0,
};

const holdsOf = async (archive: Archive): Promise<string[]> =>
  (await entriesOf(archive.log, 'main')).flatMap(({ kind }) => (kind?.$case === 'hold' ? [kind.value.reason] : []));

test('a failed flush ends the lane, and the waiters are committed in a new one', async () => {
  const disk = new ModelDisk(randomOf(1), ['/data']);
  const archive = await openArchiveOn(disk, '/data', OPTIONS);
  const first = await archive.log.append('main', 'r', [sampleHold('before')]);
  let faults = 1;
  disk.fault = (op) => (op === 'segment' && faults-- > 0 ? 'EIO' : undefined);
  const second = await archive.log.append('main', 'r', [sampleHold('after')]);
  assert.notEqual(second.position.lane, first.position.lane);
  assert.deepEqual(
    archive.log.alarms().map(({ kind, lane }) => [kind, lane]),
    [['flush-failed', first.position.lane]],
  );
  assert.deepEqual((await holdsOf(archive)).sort(), ['after', 'before']);
  disk.powerCut();
  const again = await openArchiveOn(disk, '/data', OPTIONS);
  assert.deepEqual((await holdsOf(again)).filter((reason) => reason === 'after').length, 1);
  await again.close();
});

test('a disk that fails twice refuses with unavailable, rests, and is taken again when it works', async () => {
  const disk = new ModelDisk(randomOf(2), ['/data']);
  let rest = 3_600_000;
  const archive = await openArchiveOn(disk, '/data', {
    ...OPTIONS,
    segment: {
      ...OPTIONS.segment,
      get restMs() {
        return rest;
      },
    },
  });
  const refused = (error: unknown) => error instanceof GantryError && error.code === 'unavailable';
  disk.fault = (op) => (op === 'segment' ? 'EIO' : undefined);
  rest = 0;
  await assert.rejects(archive.log.append('main', 'r', [sampleHold()]), refused);
  rest = 3_600_000;
  await assert.rejects(archive.log.append('main', 'r', [sampleHold()]), refused);
  const writes = disk.counts.get('write');
  await assert.rejects(archive.log.append('main', 'r', [sampleHold()]), refused);
  assert.equal(disk.counts.get('write'), writes, 'while it rests the disk is not touched');
});

test('a full disk refuses with no-space, leaves no litter, raises no alarm, and heals by itself', async () => {
  const disk = new ModelDisk(randomOf(3), ['/data']);
  const archive = await openArchiveOn(disk, '/data', OPTIONS);
  await archive.log.append('main', 'r', [sampleHold('before')]);
  for (const full of [['write'], ['create'], ['mkdir', 'write'], ['segment']] as const) {
    disk.fault = (op) => ((full as readonly string[]).includes(op) ? 'ENOSPC' : undefined);
    for (let i = 0; i < 5; i++)
      await assert.rejects(
        archive.log.append('main', 'r', [sampleHold('refused')]),
        (error) => error instanceof GantryError && error.code === 'no-space',
        full.join(),
      );
  }
  disk.fault = () => undefined;
  await archive.log.append('main', 'r', [sampleHold('after')]);
  assert.deepEqual((await holdsOf(archive)).sort(), ['after', 'before']);
  assert.deepEqual(archive.log.alarms(), []);
  assert.ok((await disk.list('/data/archive/log/main')).length <= 7, 'refused appends do not leave a lane each');
  await archive.close();
});

test('below the reserve there is no room for instances; above it there is again', async () => {
  const disk = new ModelDisk(randomOf(4), ['/data']);
  let reserve = 2 ** 30;
  const archive = await openArchiveOn(disk, '/data', { ...OPTIONS, reserveBytes: () => reserve });
  assert.equal((await archive.room()).accepting, true);
  reserve = 2 ** 41;
  assert.deepEqual(await archive.room(), { freeBytes: 2 ** 40, reserveBytes: 2 ** 41, accepting: false });
  await archive.log.append('main', 'r', [sampleHold('control entries go on')]);
  reserve = 0;
  assert.equal((await archive.room()).accepting, true);
  await archive.close();
});

test('a medium that does not answer stops its lane for now, not for ever', async () => {
  const disk = new ModelDisk(randomOf(5), ['/data']);
  const archive = await openArchiveOn(disk, '/data', OPTIONS);
  await archive.log.append('main', 'r', [sampleHold('one')]);
  disk.fault = (op) => (op === 'read' ? 'EIO' : undefined);
  assert.deepEqual(await holdsOf(archive), []);
  assert.deepEqual(
    archive.log.alarms().map(({ kind }) => kind),
    ['unreadable-lane'],
  );
  disk.fault = () => undefined;
  assert.deepEqual(await holdsOf(archive), ['one']);
  await archive.close();
});
