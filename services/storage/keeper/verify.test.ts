import assert from 'node:assert/strict';
import { appendFile, cp, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import type { TestContext } from '#platform/testing.ts';
import type { Place } from '#proto/storage/v1/log.ts';
import {
  compact,
  ground,
  house,
  kindsOf,
  locate,
  purge,
  reclaim,
  store,
  storeLarge,
  verified,
} from './house.testing.ts';

const A = '1.2.826.0.1.1';
const B = '1.2.826.0.1.2';

/** A data directory with two studies, one of them packed, and what a test does to it while nobody has it open. */
async function afterwards(
  spoil: (dataDir: string, places: Map<string, Place>) => Promise<void> | void,
  check: (context: TestContext) => Promise<void>,
): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-verify-'));
  try {
    const places = new Map<string, Place>();
    const first = await house({ dataDir });
    try {
      for (let n = 1; n <= 3; n++) {
        await store(first, { study: A, sop: `${A}.1.${n}` });
        await store(first, { study: B, sop: `${B}.1.${n}` });
      }
      await storeLarge(first, { study: B, sop: `${B}.1.4` });
      await compact(first, A);
      await reclaim(first);
      for (const study of [A, B])
        for (const { sopInstanceUid, place } of await locate(first, study)) places.set(sopInstanceUid, place!);
      assert.deepEqual(kindsOf(await verified(first)), ['ok-summary']);
    } finally {
      await first.stop();
    }
    await spoil(dataDir, places);
    const second = await house({ dataDir });
    try {
      await check(second);
    } finally {
      await second.stop();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function flip(dataDir: string, object: string, offset: number): Promise<void> {
  const path = join(dataDir, 'archive', object);
  const bytes = await readFile(path);
  bytes[offset] = bytes[offset]! ^ 0x80;
  await writeFile(path, bytes);
}

for (const [where, sop] of [
  ['segment', `${B}.1.2`],
  ['pack', `${A}.1.2`],
  ['large object', `${B}.1.4`],
] as const) {
  for (const at of ['first', 'last'] as const)
    test(`a flipped bit in the ${at} byte of an instance in a ${where} is found, by its name`, () =>
      afterwards(
        (dataDir, places) => {
          const { object, offset, length } = places.get(sop)!;
          return flip(dataDir, object, at === 'first' ? offset : offset + length - 1);
        },
        async (context) => {
          const findings = await verified(context);
          assert.deepEqual(kindsOf(findings), ['bad-digest', 'summary']);
          assert.match(findings[0]!.detail, new RegExp(`instance ${sop.replaceAll('.', '\\.')} of study`));
          assert.equal(findings[1]!.checked, 7);
          const one = await verified(context, sop.startsWith(A) ? A : B);
          assert.deepEqual(kindsOf(one), ['bad-digest', 'summary']);
          assert.deepEqual(kindsOf(await verified(context, sop.startsWith(A) ? B : A)), ['ok-summary']);
          assert.deepEqual(
            kindsOf(await verified(context, '', false)),
            ['ok-summary'],
            'without digests nothing is read',
          );
        },
      ));
  test(`a missing or shortened ${where} is found`, async () => {
    for (const how of ['missing', 'short'])
      await afterwards(
        async (dataDir, places) => {
          const path = join(dataDir, 'archive', places.get(sop)!.object);
          // A segment that is gone is a lane with a hole: see below.
          if (how === 'missing' && where !== 'segment') await rm(path);
          else if (where !== 'segment') await writeFile(path, (await readFile(path)).subarray(0, 600));
          else await flip(dataDir, places.get(sop)!.object, places.get(sop)!.offset + 1);
        },
        async (context) => {
          const kinds = new Set(kindsOf(await verified(context, '', where === 'segment')));
          assert.deepEqual([...kinds].sort(), [where === 'segment' ? 'bad-digest' : 'missing-bytes', 'summary']);
        },
      );
  });
}

test('a segment that somebody removed, and a damaged table, are reported; the rest is checked', () =>
  afterwards(
    async (dataDir, places) => {
      await rm(join(dataDir, 'archive', places.get(`${B}.1.2`)!.object));
      const { object, offset, length } = places.get(`${B}.1.3`)!;
      // Behind the padding stands the header of the table, then the table.
      await flip(dataDir, object, Math.ceil((offset + length) / 512) * 512 + 512 + 70);
    },
    async (context) => {
      const kinds = new Set(kindsOf(await verified(context)));
      assert.ok(
        kinds.has(ground.tears ? 'damaged-commit' : 'unreadable-log') &&
          kinds.has('not-in-log') &&
          kinds.has('summary'),
        [...kinds].join(),
      );
    },
  ));

async function onIndex(dataDir: string, change: (db: DatabaseSync) => void): Promise<void> {
  const directory = join(dataDir, 'derived');
  const files = (await readdir(directory)).filter((name) => /^index.*\.(sqlite|db)$/.test(name));
  assert.equal(files.length, 1, files.join());
  const db = new DatabaseSync(join(directory, files[0]!));
  change(db);
  db.close();
}

test('an index that lost a block says so, entry by entry', () =>
  afterwards(
    (dataDir) =>
      onIndex(dataDir, (db) => {
        db.exec(
          `DELETE FROM blocks WHERE id / 1048576 IN (SELECT series.id FROM series JOIN studies ON studies.id = study WHERE study_instance_uid = '${A}')`,
        );
      }),
    async (context) => {
      const findings = await verified(context);
      assert.deepEqual(kindsOf(findings), ['missing-in-index', 'missing-in-index', 'missing-in-index', 'summary']);
      assert.ok(findings.slice(0, 3).every(({ entry }) => entry !== undefined));
    },
  ));

test('an index that lost a study says so', () =>
  afterwards(
    (dataDir) => onIndex(dataDir, (db) => db.exec(`DELETE FROM studies WHERE study_instance_uid = '${B}'`)),
    async (context) => {
      assert.deepEqual(kindsOf(await verified(context)), [...Array<string>(4).fill('missing-in-index'), 'summary']);
    },
  ));

test('an index that shows what the log never held says so', () =>
  afterwards(
    async (dataDir) => {
      // Another archive's index, on top of ours: one more study.
      const other = await mkdtemp(join(tmpdir(), 'gantry-verify-'));
      try {
        await cp(dataDir, other, { recursive: true });
        const context = await house({ dataDir: other });
        await store(context, { study: '1.5', sop: '1.5.1' });
        await store(context, { study: A, sop: `${A}.1.7` });
        await context.stop();
        await rm(join(dataDir, 'derived'), { recursive: true });
        await cp(join(other, 'derived'), join(dataDir, 'derived'), { recursive: true });
      } finally {
        await rm(other, { recursive: true });
      }
    },
    async (context) => {
      const findings = await verified(context);
      assert.deepEqual(kindsOf(findings), ['not-in-log', 'not-in-log', 'summary']);
      assert.match(findings.map(({ detail }) => detail).join(), /1\.5: the index has 1 entries, the log 0/);
    },
  ));

// An object of a bucket is put whole, or not at all.
if (ground.tears)
  test('torn bytes are told, and are no fault', () =>
    afterwards(
      async (dataDir) => {
        const lane = join(dataDir, 'archive/log/main');
        const [name] = await readdir(lane);
        const segments = (await readdir(join(lane, name!))).sort();
        // As a kill leaves it: no closing, half a commit.
        const last = join(lane, name!, segments.at(-1)!);
        await writeFile(last, (await readFile(last)).subarray(0, 700));
        await appendFile(last, Buffer.alloc(10));
      },
      async (context) => {
        const findings = await verified(context);
        assert.deepEqual(kindsOf(findings), ['torn-tail', 'ok-summary']);
      },
    ));

test('what comes in while it looks is no finding', () =>
  afterwards(
    () => {},
    async (context) => {
      const call = context.call();
      const { KeeperService } = await import('#proto/storage/v1/storage.ts');
      const kinds: string[] = [];
      let n = 10;
      await storeLarge(context, { study: B, sop: `${B}.1.99` });
      const rows = context.client(KeeperService).verify(call, { studyInstanceUid: '', digests: true });
      const iterator = rows[Symbol.asyncIterator]();
      const adding = (async () => {
        for (; n < 30; n++) await store(context, { study: n % 2 ? A : B, sop: `${B}.1.${n}` });
        await compact(context, B);
        await reclaim(context);
      })();
      for (let row = await iterator.next(); !row.done; row = await iterator.next()) kinds.push(row.value.kind);
      await adding;
      assert.deepEqual(kinds, ['ok-summary']);
    },
  ));

test('an object that no entry names is noted, but not one that was put since the look began: its entry may be on its way', async () => {
  const put = async (dataDir: string, places: Map<string, Place>, at: Date): Promise<void> => {
    const path = join(dataDir, 'archive', `${places.get(`${B}.1.4`)!.object}x`);
    await writeFile(path, 'an upload that runs, or broke off');
    await utimes(path, at, at);
  };
  const seen = (at: Date, kinds: string[]) =>
    afterwards(
      (dataDir, places) => put(dataDir, places, at),
      async (context) => assert.deepEqual(kindsOf(await verified(context)), kinds),
    );
  await Promise.all([
    seen(new Date(Date.now() - 60_000), ['orphan', 'ok-summary']),
    seen(new Date(Date.now() + 3_600_000), ['ok-summary']),
  ]);
});

test('the bytes that a living copy rests on are checked, though the entry that brought them was purged', async () => {
  const context = await house();
  try {
    const twin = { study: A, sop: `${A}.1.1` };
    const first = await store(context, twin);
    await store(context, twin);
    await compact(context, A); // drops the second
    await purge(context, A, first);
    const place = (await locate(context, A))[0]!.place!;
    await flip(context.dataDir, place.object, place.offset);
    assert.deepEqual(kindsOf(await verified(context)), ['bad-digest', 'summary']);
  } finally {
    await context.stop();
  }
});

test('where a commit is damaged nothing is an orphan: it may be the one that names it', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'gantry-verify-'));
  try {
    const first = await house({ dataDir });
    const { object } = await storeLarge(first, { study: A, sop: `${A}.1.1` });
    await store(first, { study: A, sop: `${A}.1.2` });
    await first.stop();
    const root = join(dataDir, 'archive/log/main');
    let spoiled = 0;
    for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const bytes = await readFile(path);
      const table = bytes.indexOf('.large.json') < 0 ? -1 : bytes.indexOf('.toc\u0000');
      if (table < 0) continue;
      const at = Math.ceil(table / 512) * 512 + 70;
      bytes[at] = bytes[at]! ^ 0x80;
      await writeFile(path, bytes);
      spoiled++;
    }
    assert.equal(spoiled, 1);
    const second = await house({ dataDir, settings: { 'keeper.orphanAgeMs': 0 } });
    try {
      await reclaim(second);
      assert.ok((await readFile(join(dataDir, 'archive', object))).length > 600);
      assert.ok(kindsOf(await verified(second)).includes('damaged-commit'));
    } finally {
      await second.stop();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});
