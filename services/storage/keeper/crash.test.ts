import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import type { TestContext } from '#platform/testing.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import { DataService } from '#proto/storage/v1/storage.ts';
import { openArchive } from '../adapters/open.ts';
import type { Archive } from '../ports.ts';
import { createCompact } from './compact.ts';
import { Damage } from './damage.ts';
import {
  all,
  compact,
  house,
  kindsOf,
  locate,
  type Made,
  make,
  purge,
  read,
  reclaim,
  store,
  verified,
} from './house.testing.ts';
import { createReclaim } from './reclaim.ts';

/**
 * A keeper that is killed between any two of its steps. An image is the data directory as the kill leaves it: taken at that moment, opened
 * by another life. What power cuts do to each step's own writes is proven in adapters/fs/power-loss.test.ts.
 */
const A = '1.2.826.0.1.1';
const LIVE: Made[] = [1, 2, 3].map((n) => ({ study: A, sop: `${A}.1.${n}`, text: `picture ${n}` }));
const GONE: Made = { study: A, sop: `${A}.1.9`, text: 'purged' };

let root: string;
const images = new Map<string, string>();
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'gantry-keeper-'));
  await takeImages();
});
after(() => rm(root, { recursive: true, force: true }));

async function image(context: TestContext, name: string, derivedOf?: string): Promise<void> {
  const to = join(root, name.replaceAll(' ', '-'));
  await cp(context.dataDir, to, { recursive: true, dereference: true });
  if (derivedOf !== undefined) {
    await rm(join(to, 'derived'), { recursive: true });
    await cp(join(images.get(derivedOf)!, 'derived'), join(to, 'derived'), { recursive: true });
  }
  images.set(name, to);
}

async function takeImages(): Promise<void> {
  const context = await house();
  try {
    for (const one of LIVE) await store(context, one);
    const gone = await store(context, GONE);
    await store(context, LIVE[0]!); // a copy
    await compact(context, A);
    await store(context, { study: A, sop: `${A}.1.4`, text: 'later' });
    await purge(context, A, gone);
    await image(context, 'not yet packed');

    // One step of it at a time: the keeper on its way, and what it asks of others in our hands.
    const archive = await openArchive(context);
    const data = context.client(DataService);
    const index = context.client(IndexService);
    let appends = 0;
    const watched = {
      ...context,
      client: (service: unknown) =>
        service === DataService
          ? {
              append: async (...args: Parameters<typeof data.append>) => {
                await image(context, `step ${appends} written and not in the log`);
                const answer = await data.append(...args);
                await image(context, `step ${appends} in the log and not folded`, 'not yet packed');
                appends++;
                return answer;
              },
            }
          : index,
    } as unknown as TestContext;
    const work = createCompact(watched, archive, new Damage());
    const done = await work(context.call(), { study: A, limit: 1, packBytes: 2 ** 20 });
    assert.ok(
      done.instancesMoved === 4 && done.copiesDropped === 1 && appends === 2,
      JSON.stringify({ done, appends }),
    );
    await image(context, 'packed');
    await archive.close();

    context.change({ 'keeper.deletionDelayMs': '1h' });
    await reclaim(context, false);
    await image(context, 'thinned form beside the segment');
    await reclaim(context, true);
    await image(context, 'reclaimed');
    await image(context, 'reclaimed, with the index of before', 'not yet packed');
  } finally {
    await context.stop();
  }
}

async function allThere(context: TestContext): Promise<void> {
  const located = await locate(context, A);
  assert.equal(located.length, 4, 'and the purged one does not come back');
  for (const one of [...LIVE, { study: A, sop: `${A}.1.4`, text: 'later' }])
    assert.deepEqual(
      await read(context, located.find(({ sopInstanceUid }) => sopInstanceUid === one.sop)!),
      make(one).file,
    );
}

const NAMES = [
  'not yet packed',
  'step 0 written and not in the log',
  'step 0 in the log and not folded',
  'step 1 written and not in the log',
  'step 1 in the log and not folded',
  'packed',
  'thinned form beside the segment',
  'reclaimed',
  'reclaimed, with the index of before',
];

test('every image was taken', () => assert.deepEqual([...images.keys()].sort(), [...NAMES].sort()));

for (const name of NAMES)
  for (const index of ['as it was', 'deleted'])
    test(`killed: ${name} (index ${index}): nothing is lost, the next life finishes it, and the index says the same`, async () => {
      const dataDir = await mkdtemp(join(tmpdir(), 'gantry-keeper-'));
      try {
        await cp(images.get(name)!, dataDir, { recursive: true });
        if (index === 'deleted') await rm(join(dataDir, 'derived'), { recursive: true });
        const context = await house({ dataDir });
        try {
          const kinds = kindsOf(await verified(context)); // waits for the fold
          await allThere(context);
          const orphaned = name === 'step 0 written and not in the log';
          assert.deepEqual(kinds, orphaned ? ['orphan', 'ok-summary'] : ['ok-summary']);
          await compact(context, A);
          await reclaim(context);
          await allThere(context);
          if (orphaned) {
            assert.deepEqual(
              kindsOf(await verified(context)),
              ['orphan', 'ok-summary'],
              'young: its entry may still come',
            );
            context.change({ 'keeper.orphanAgeMs': 0 });
            assert.equal((await reclaim(context)).objectsRemoved, 1);
            await allThere(context);
          }
          assert.deepEqual(kindsOf(await verified(context)), ['ok-summary']);
          const places = (await locate(context, A)).map(({ sopInstanceUid, place }) => [sopInstanceUid, place]);
          for (const [, place] of places) assert.match((place as { object: string }).object, /^pack\//);
          await all(context.client(IndexService).rebuild(context.call(), {}));
          assert.deepEqual(
            (await locate(context, A)).map(({ sopInstanceUid, place }) => [sopInstanceUid, place]),
            places,
          );
          await allThere(context);
        } finally {
          await context.stop();
        }
      } finally {
        await rm(dataDir, { recursive: true, force: true });
      }
    });

test('while a lane cannot be read nothing is packed or removed', async () => {
  const context = await house();
  try {
    const archive = {
      log: { incomplete: () => ({ unreadableLane: 'L', hiddenEntries: false }) },
    } as unknown as Archive;
    const refused = (error: unknown) => error instanceof GantryError && error.code === 'unavailable';
    const options = { study: '', limit: 1, packBytes: 1 };
    await assert.rejects(createCompact(context, archive, new Damage())(context.call(), options), refused);
    const delays = { deletionDelayMs: () => 0, orphanAgeMs: () => 0 };
    await assert.rejects(createReclaim(context, archive, delays)(context.call(), true), refused);
  } finally {
    await context.stop();
  }
});
