import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Archive } from '../ports.ts';
import { shareArchive } from './shared.ts';

const counting = () => {
  const counts = { opened: 0, closed: 0 };
  const open = async (): Promise<Archive> => {
    counts.opened++;
    return { close: async () => void counts.closed++ } as unknown as Archive;
  };
  return { counts, open };
};

test('one archive a place: opened once for whoever comes at once, closed with its last user, opened anew after', async () => {
  const { counts, open } = counting();
  const [a, b] = await Promise.all([shareArchive('here', open), shareArchive('here', open)]);
  assert.deepEqual(counts, { opened: 1, closed: 0 });
  await a.close();
  await a.close(); // twice counts once
  assert.equal(counts.closed, 0, 'somebody still uses it');
  await b.close();
  assert.equal(counts.closed, 1);
  await (await shareArchive('here', open)).close();
  assert.deepEqual(counts, { opened: 2, closed: 2 });
});

test('places do not share, and one that could not be opened is tried again', async () => {
  const { counts, open } = counting();
  const fails = async (): Promise<Archive> => {
    throw new Error('no such bucket');
  };
  await assert.rejects(shareArchive('there', fails), /no such bucket/);
  const archives = [await shareArchive('there', open), await shareArchive('elsewhere', open)];
  assert.equal(counts.opened, 2);
  for (const archive of archives) await archive.close();
});
