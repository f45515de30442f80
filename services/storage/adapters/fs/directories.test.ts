import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Disk, DurableDirectories } from './disk.ts';

/** Says which directories were made and which flushed; fails where it is told to. */
function telling() {
  const said: string[] = [];
  const failing = new Set<string>();
  const tell = async (what: string): Promise<void> => {
    said.push(what);
    if (failing.has(what)) throw Object.assign(new Error('told to fail'), { code: 'EIO' });
  };
  const disk = {
    mkdir: async (path: string) => tell(`mkdir ${path}`).then(() => true),
    flushDirectory: (path: string) => tell(`flush ${path}`),
  } as unknown as Disk;
  return { disk, failing, saidSince: () => said.splice(0) };
}

test('a directory in use is made once; those beyond the bound are forgotten, the longest unused first, and flushed once more', async () => {
  const { disk, saidSince } = telling();
  const directories = new DurableDirectories(disk, '/data', 3);
  for (const name of ['a', 'b']) await directories.ensure(`/data/log/${name}`);
  assert.deepEqual(saidSince(), [
    'mkdir /data/log',
    'flush /data',
    'mkdir /data/log/a',
    'flush /data/log',
    'mkdir /data/log/b',
    'flush /data/log',
  ]);
  await directories.ensure('/data/log/a');
  assert.deepEqual(saidSince(), [], 'nothing is asked of the disk for one that is known');
  await directories.ensure('/data/log/c');
  saidSince();
  await directories.ensure('/data/log/a');
  assert.deepEqual(saidSince(), [], 'it was used lately');
  await directories.ensure('/data/log/b');
  assert.deepEqual(saidSince(), ['mkdir /data/log/b', 'flush /data/log'], 'it was forgotten, and is durable again');
});

test('a failed flush stays failed however many others come after it; a directory that could not be made is tried again', async () => {
  const { disk, failing, saidSince } = telling();
  const directories = new DurableDirectories(disk, '/data', 2);
  failing.add('flush /data');
  await assert.rejects(directories.ensure('/data/pack'), /told to fail/);
  failing.clear();
  for (let n = 0; n < 9; n++) await assert.rejects(directories.ensure(`/data/pack/${n}`), /told to fail/);
  await assert.rejects(directories.ensure('/data/pack'), /told to fail/);
  saidSince();
  failing.add('mkdir /data/log');
  await assert.rejects(directories.ensure('/data/log'), /told to fail/);
  failing.clear();
  await directories.ensure('/data/log');
  assert.deepEqual(saidSince(), ['mkdir /data/log', 'mkdir /data/log', 'flush /data']);
});
