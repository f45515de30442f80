import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { GantryError } from '#platform/errors.ts';
import { type Position, TableOfContents } from '#proto/storage/v1/log.ts';
import { bytesOf, sampleEntry, sampleHold } from './log/sample.testing.ts';
import type { Archive, LogStore } from './ports.ts';

/** One place that archives are opened in, one after the other: what closes cleanly and what is merely let go must both open again. */
export interface ArchiveBed {
  /** Segments of about 64 KiB, so that a few appends fill one. */
  open(): Promise<Archive>;
  /** The process that opened it dies; nothing is closed. */
  abandon(archive: Archive): Promise<void>;
  dispose(): Promise<void>;
}

const NEVER = new AbortController().signal;

export async function entriesOf(log: LogStore, tenant: string, after: Position[] = [], lanes: string[] = []) {
  const entries = [];
  for await (const { lane, sequence, tableOfContents } of log.read(tenant, after, lanes, NEVER))
    for (const entry of TableOfContents.decode(tableOfContents).entries) entries.push({ lane, sequence, ...entry });
  return entries;
}

export function logStoreContract(name: string, make: () => Promise<ArchiveBed>): void {
  const withBed = (title: string, work: (bed: ArchiveBed) => Promise<void>) =>
    test(title, async () => {
      const bed = await make();
      try {
        await work(bed);
      } finally {
        await bed.dispose();
      }
    });

  describe(`LogStore: ${name}`, () => {
    withBed('what was appended is read, in order, with places that give the bytes back', async (bed) => {
      const archive = await bed.open();
      const files = Array.from({ length: 40 }, (_, i) => randomBytes(1 + i * 251));
      const answers = await Promise.all(
        files.map((file, i) => archive.log.append('main', `r${i % 5}`, [sampleEntry(file)])),
      );
      const entries = await entriesOf(archive.log, 'main');
      assert.equal(entries.length, 40);
      for (const [i, { ids, places, position }] of answers.entries()) {
        assert.equal(ids[0]!.sequence, position.sequence);
        assert.deepEqual(
          await bytesOf(archive.objects.read(places[0]!.object, places[0]!.offset, places[0]!.length)),
          files[i],
        );
        const entry = entries.find(
          ({ lane, sequence, n }) => lane === ids[0]!.lane && sequence === ids[0]!.sequence && n === ids[0]!.n,
        );
        assert.deepEqual(entry!.kind!.$case === 'instance' && entry!.kind!.value.place, places[0]);
      }
      for (const [, inLane] of Map.groupBy(entries, ({ lane }) => lane)) {
        const stamps = inLane.map(({ stamp }) => stamp);
        assert.deepEqual(stamps, [...stamps].sort(), 'stamps rise along a lane');
      }
      assert.equal(new Set(entries.map(({ stamp }) => stamp)).size, entries.length);
      await archive.close();
    });

    withBed('entries of one request stay together, in the order given', async (bed) => {
      const archive = await bed.open();
      const { ids } = await archive.log.append('main', 'r', [
        sampleHold('a'),
        sampleHold('b'),
        sampleEntry(Buffer.from('c')),
      ]);
      assert.deepEqual(
        ids.map(({ n }) => n),
        [0, 1, 2],
      );
      assert.equal(new Set(ids.map(({ sequence }) => sequence)).size, 1);
      await archive.close();
    });

    withBed('reading goes on from a position, and can be confined to lanes', async (bed) => {
      const archive = await bed.open();
      const positions: Position[] = [];
      for (let i = 0; i < 12; i++)
        positions.push((await archive.log.append('main', 'r', [sampleEntry(randomBytes(20_000), {})])).position);
      const reasons = (await entriesOf(archive.log, 'main', [positions[7]!])).map(({ sequence }) => sequence);
      assert.deepEqual(
        reasons,
        positions.slice(8).map(({ sequence }) => sequence),
      );
      assert.deepEqual(await entriesOf(archive.log, 'main', [positions.at(-1)!]), []);
      assert.deepEqual(await entriesOf(archive.log, 'main', [], ['01ARZ3NDEKTSV4RRFFQ69G5FAV']), []);
      assert.deepEqual(await archive.log.heads('main'), [positions.at(-1)]);
      await archive.close();
    });

    withBed('a reading can be confined to lanes, and to those with names that are not smaller', async (bed) => {
      const first = await bed.open();
      const { lane: old } = (await first.log.append('main', 'r', [sampleHold()])).position;
      await first.close();
      const archive = await bed.open();
      const { lane: young } = (await archive.log.append('main', 'r', [sampleHold()])).position;
      assert.ok(old < young);
      const lanesOf = async (lanes: string[], since?: string): Promise<string[]> => {
        const found = new Set<string>();
        for await (const { lane } of archive.log.read('main', [], lanes, NEVER, since)) found.add(lane);
        return [...found];
      };
      assert.deepEqual(await lanesOf([]), [old, young]);
      assert.deepEqual(await lanesOf([], young), [young]);
      assert.deepEqual(await lanesOf([], old), [old, young]);
      assert.deepEqual(await lanesOf([old], young), [old, young]);
      assert.deepEqual(await lanesOf([old], `${young}~`), [old]);
      assert.deepEqual(await lanesOf(['01ARZ3NDEKTSV4RRFFQ69G5FAV'], young), [young]);
      // Of heads only those of lanes that have ended: on a file system a lane is written as long as its process lives.
      const headsOf = async (since?: string) => (await archive.log.heads('main', since)).map(({ lane }) => lane).sort();
      assert.deepEqual(await headsOf(), [old, young]);
      assert.deepEqual(await headsOf(young), [young]);
      assert.deepEqual(await headsOf(`${young}~`), [young]);
      await archive.close();
    });

    withBed('a reader that gives up is let go', async (bed) => {
      const archive = await bed.open();
      await archive.log.append('main', 'r', [sampleHold()]);
      await assert.rejects(async () => {
        for await (const _ of archive.log.read('main', [], [], AbortSignal.abort())) assert.fail('nothing is read');
      });
      await archive.close();
    });

    withBed('tenants see nothing of each other', async (bed) => {
      const archive = await bed.open();
      await archive.log.append('main', 'r', [sampleHold('mine')]);
      await archive.log.append('other', 'r', [sampleHold('theirs')]);
      assert.deepEqual((await archive.log.tenants()).sort(), ['main', 'other']);
      assert.equal((await entriesOf(archive.log, 'main')).length, 1);
      assert.deepEqual(await entriesOf(archive.log, 'nobody'), []);
      assert.deepEqual(await archive.log.heads('nobody'), []);
      await assert.rejects(
        archive.log.append('../x', 'r', [sampleHold()]),
        (error) => error instanceof GantryError && error.code === 'invalid-argument',
      );
      await archive.close();
    });

    for (const ending of ['closed', 'abandoned'] as const)
      withBed(
        `an archive that was ${ending} opens with everything, its lane closed, and writes on in a new lane`,
        async (bed) => {
          const first = await bed.open();
          const file = randomBytes(30_000);
          const { places, position } = await first.log.append('main', 'r', [sampleEntry(file)]);
          for (let i = 0; i < 5; i++) await first.log.append('main', 'r', [sampleEntry(randomBytes(30_000))]);
          const before = await entriesOf(first.log, 'main');
          await (ending === 'closed' ? first.close() : bed.abandon(first));
          const second = await bed.open();
          const after = await entriesOf(second.log, 'main');
          assert.deepEqual(after.slice(0, before.length), before);
          assert.deepEqual(
            after.slice(before.length).map(({ kind }) => kind!.$case),
            ['closed'],
          );
          const segments = await second.log.segments('main');
          assert.ok(segments.length >= 2 && segments.every(({ state }) => state === 'sealed'));
          assert.deepEqual(
            await bytesOf(second.objects.read(places[0]!.object, places[0]!.offset, places[0]!.length)),
            file,
          );
          const next = await second.log.append('main', 'r', [sampleHold('later')]);
          assert.notEqual(next.position.lane, position.lane);
          assert.equal(next.position.sequence, 1);
          const stamps = (await entriesOf(second.log, 'main')).sort((a, b) => (a.stamp < b.stamp ? -1 : 1));
          assert.equal(stamps.at(-1)!.lane, next.position.lane, 'later than everything that was there');
          await second.close();
          // Closed and sealed: nothing more happens to them, however often it is opened.
          const third = await bed.open();
          assert.equal(
            (await third.log.heads('main')).find(({ lane }) => lane === position.lane)!.sequence,
            after.at(-1)!.sequence,
          );
          assert.deepEqual(third.log.alarms(), []);
          await third.close();
        },
      );

    withBed('an archive that is opened and closed without an append leaves no lane', async (bed) => {
      for (let i = 0; i < 3; i++) await (await bed.open()).close();
      const archive = await bed.open();
      assert.deepEqual(await archive.log.tenants(), []);
      await archive.close();
    });

    withBed('segments list what the keeper needs, and thinning keeps every table and control entry', async (bed) => {
      const first = await bed.open();
      const { places } = await first.log.append('main', 'r', [sampleEntry(randomBytes(50_000)), sampleHold('kept')]);
      for (let i = 0; i < 3; i++) await first.log.append('main', 'r', [sampleEntry(randomBytes(50_000))]);
      const open = (await first.log.segments('main')).find(({ state }) => state === 'open')!;
      await assert.rejects(
        first.log.thin('main', open.object),
        (error) => error instanceof GantryError && error.code === 'failed-precondition',
      );
      await first.close();
      const archive = await bed.open();
      const before = await entriesOf(archive.log, 'main');
      const sealed = (await archive.log.segments('main'))[0]!;
      assert.equal(sealed.state, 'sealed');
      const listed = [];
      for await (const table of archive.log.commitsOf('main', sealed.object)) listed.push(table.sequence);
      assert.deepEqual(
        listed,
        Array.from({ length: sealed.last - sealed.first + 1 }, (_, i) => sealed.first + i),
      );
      await archive.log.prepareThin('main', sealed.object);
      assert.equal((await archive.log.segments('main'))[0]!.state, 'sealed', 'the old one counts until it is gone');
      assert.equal((await bytesOf(archive.objects.read(places[0]!.object, places[0]!.offset, 10))).length, 10);
      const thinned = await archive.log.thin('main', sealed.object);
      assert.ok(thinned.bytesFreed >= 50_000);
      await assert.rejects(
        bytesOf(archive.objects.read(places[0]!.object, places[0]!.offset, 10)),
        (error) => error instanceof GantryError && error.code === 'not-found',
      );
      assert.deepEqual(await entriesOf(archive.log, 'main'), before);
      assert.equal((await archive.log.segments('main'))[0]!.state, 'thinned');
      await bed.abandon(archive);
      const again = await bed.open();
      assert.deepEqual(await entriesOf(again.log, 'main'), before);
      assert.deepEqual(again.log.alarms(), []);
      await again.close();
    });

    withBed('after close nothing is taken', async (bed) => {
      const archive = await bed.open();
      const pending = archive.log.append('main', 'r', [sampleHold()]);
      await archive.close();
      await pending; // what was queued was finished
      await assert.rejects(
        archive.log.append('main', 'r', [sampleHold()]),
        (error) => error instanceof GantryError && error.code === 'unavailable',
      );
    });
  });
}
