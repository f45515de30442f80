import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { bytesOf } from './fake-storage.testing.ts';
import { chunked, pixels } from './sample.testing.ts';
import { Spool } from './spool.ts';

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gantry-spool-'));
});
after(() => rm(directory, { recursive: true, force: true }));

const spoolOf = async (memoryBytes: number, diskBytes: number) => {
  const spool = new Spool(join(directory, 'stow'), () => ({ memoryBytes, diskBytes }));
  await spool.start();
  return spool;
};
const files = () => readdir(join(directory, 'stow'));

test('small parts wait in memory, others in files, and both come back whole, twice', async () => {
  const spool = await spoolOf(200_000, 10_000_000);
  for (const [length, inFile] of [
    [0, false],
    [100_000, false],
    [1_500_000, true],
    [200_001, true],
  ] as const)
    for (const size of [1_000_000, 999]) {
      const bytes = pixels(length);
      const spooled = await spool.put(chunked(bytes, size));
      assert.equal(spooled.length, length);
      assert.deepEqual([spool.memoryBytes, spool.diskBytes], inFile ? [0, length] : [length, 0]);
      assert.equal((await files()).length, inFile ? 1 : 0);
      assert.ok((await bytesOf(spooled.read())).equals(bytes));
      assert.ok((await bytesOf(spooled.read())).equals(bytes));
      await spooled.dispose();
      await spooled.dispose();
      assert.deepEqual([spool.memoryBytes, spool.diskBytes, (await files()).length], [0, 0, 0]);
    }
});

test('the disk is bounded: for all together, and for one alone', async () => {
  const spool = await spoolOf(0, 100_000);
  await assert.rejects(spool.put(chunked(pixels(100_004), 1000)), { code: 'too-large' });
  const first = await spool.put(chunked(pixels(60_000), 1000));
  await assert.rejects(spool.put(chunked(pixels(60_000), 1000)), { code: 'no-permit' });
  assert.equal(spool.diskBytes, 60_000, 'what was refused is not counted any more');
  assert.equal((await files()).length, 1);
  await first.dispose();
  await (await spool.put(chunked(pixels(60_000), 1000))).dispose();
});

test('a body that fails leaves nothing', async () => {
  const spool = await spoolOf(1000, 1_000_000);
  for (const length of [500, 100_000]) {
    async function* failing() {
      yield* chunked(pixels(length), 100);
      throw new Error('gone');
    }
    await assert.rejects(spool.put(failing()), /gone/);
    assert.deepEqual([spool.memoryBytes, spool.diskBytes, await files()], [0, 0, []]);
  }
});

test('what an earlier process left is swept at the start', async () => {
  await spoolOf(0, 1);
  await writeFile(join(directory, 'stow', '17'), 'left');
  await spoolOf(0, 1);
  assert.deepEqual(await files(), []);
});

test('a disk that cannot be written to is said so', async () => {
  const spool = new Spool(join(directory, 'absent'), () => ({ memoryBytes: 0, diskBytes: 1_000_000 }));
  await assert.rejects(spool.put(chunked(pixels(1000), 100)), { code: 'unavailable' });
  assert.equal(spool.diskBytes, 0);
});
