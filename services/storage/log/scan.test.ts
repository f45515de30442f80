import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { StampClock } from './clock.ts';
import { layOutCommit } from './commit.ts';
import { sampleEntry, sampleHold } from './sample.testing.ts';
import { type ByteSource, crcHolds, readTocAt, scanFromEnd, scanFromStart } from './scan.ts';
import { TRAILER } from './tar.ts';

const clock = new StampClock();
const sourceOf = (buffer: Buffer): ByteSource => ({
  bytes: buffer.length,
  read: async (offset, length) => buffer.subarray(offset, Math.min(offset + length, buffer.length)),
});

/** A segment of commits, and where each begins. */
function segment(commits: number, first = 1): { buffer: Buffer; starts: number[]; tocs: number[] } {
  const parts: Buffer[] = [];
  const starts: number[] = [];
  const tocs: number[] = [];
  let offset = 0;
  for (let i = 0; i < commits; i++) {
    const items = [sampleEntry(randomBytes(1 + ((i * 997) % 3000))), sampleHold(), sampleEntry(Buffer.alloc(700))];
    const laid = layOutCommit(
      { tenant: 't', lane: 'L', sequence: first + i, object: 'log/t/L/x.tar', offset, previousToc: tocs.at(-1) ?? -1 },
      items,
      () => clock.next(),
    );
    starts.push(offset);
    tocs.push(laid.tocOffset);
    parts.push(...laid.buffers);
    offset += laid.bytes;
  }
  starts.push(offset);
  return { buffer: Buffer.concat(parts), starts, tocs };
}
const sequences = (commits: readonly { sequence: number }[] | undefined) => commits?.map(({ sequence }) => sequence);

test('a sealed segment reads the same from its end and from its start', async () => {
  const { buffer, starts, tocs } = segment(7, 5);
  for (const bytes of [buffer, Buffer.concat([buffer, TRAILER])]) {
    const fromEnd = await scanFromEnd(sourceOf(bytes), 5, 11);
    const fromStart = await scanFromStart(sourceOf(bytes), 5);
    assert.deepEqual(fromEnd?.commits, fromStart.commits);
    assert.equal(fromEnd?.trailer, bytes !== buffer);
    assert.deepEqual(
      fromStart.commits.map(({ tocOffset }) => tocOffset),
      tocs,
    );
    assert.equal(fromStart.end, starts.at(-1));
    assert.deepEqual(fromStart.damage, []);
  }
  assert.equal(await scanFromEnd(sourceOf(buffer), 4, 11), undefined, 'not the segment that its name says');
  assert.equal(await scanFromEnd(sourceOf(buffer), 5, 12), undefined);
});

test('tables hold what was laid out, and places point at the bytes', async () => {
  const { buffer } = segment(3);
  for (const commit of (await scanFromStart(sourceOf(buffer), 1)).commits) {
    assert.ok(await crcHolds(sourceOf(buffer), commit));
    const frame = await readTocAt(sourceOf(buffer), commit.tocOffset);
    assert.ok(typeof frame === 'object');
    const { entries } = TableOfContents.decode(frame.table);
    assert.deepEqual(
      entries.map(({ n, kind }) => [n, kind?.$case]),
      [
        [0, 'instance'],
        [1, 'hold'],
        [2, 'instance'],
      ],
    );
    const zeros = entries[2]!.kind!.value as { place: { offset: number; length: number } };
    assert.deepEqual(buffer.subarray(zeros.place.offset, zeros.place.offset + zeros.place.length), Buffer.alloc(700));
  }
});

test('cut anywhere, what is whole before the cut is found, and nothing is called damage', async () => {
  const { buffer, starts } = segment(4);
  for (let length = 0; length <= buffer.length; length += 64) {
    const scan = await scanFromStart(sourceOf(buffer.subarray(0, length)), 1);
    const whole = starts.slice(1).filter((end) => end <= length).length;
    assert.equal(scan.commits.length, whole, `cut at ${length}`);
    assert.equal(scan.end, starts[whole]);
    assert.deepEqual(scan.damage, []);
    const quick = await scanFromEnd(sourceOf(buffer.subarray(0, length)), 1, undefined);
    if (quick) assert.equal(quick.commits.at(-1)!.end, length, 'from the end only what is complete to the end');
  }
});

test('damage in the middle is told from a torn end, and costs only its commit', async () => {
  const { buffer, tocs, starts } = segment(5);
  const badToc = Buffer.from(buffer);
  badToc[tocs[2]! + 700] = badToc[tocs[2]! + 700]! ^ 1; // in the frame of commit 3
  const toc = await scanFromStart(sourceOf(badToc), 1);
  assert.deepEqual(sequences(toc.commits), [1, 2, 4, 5]);
  assert.equal(toc.damage.length, 1);
  const badHeader = Buffer.from(buffer);
  badHeader.fill(0xaa, starts[2]!, starts[2]! + 512); // the first tar header of commit 3
  const header = await scanFromStart(sourceOf(badHeader), 1);
  assert.deepEqual(sequences(header.commits), [1, 2, 3, 4, 5], 'its table is whole, so it is kept');
  assert.equal(header.damage.length, 1);
  const badLast = Buffer.from(buffer);
  badLast.fill(0xaa, starts[4]!, starts[4]! + 512);
  const last = await scanFromStart(sourceOf(badLast), 1);
  assert.deepEqual(sequences(last.commits), [1, 2, 3, 4], 'nothing proves that the last one was ever whole');
  assert.deepEqual(last.damage, []);
});

test('bytes missing under a whole table are seen by the checksum of the commit', async () => {
  const { buffer, starts } = segment(2);
  buffer.fill(0, starts[1]! + 512, starts[1]! + 513 + 5);
  const { commits } = await scanFromStart(sourceOf(buffer), 1);
  assert.equal(commits.length, 2);
  assert.ok(await crcHolds(sourceOf(buffer), commits[0]!));
  assert.ok(!(await crcHolds(sourceOf(buffer), commits[1]!)));
});

test('a received file that holds commits does not stand for one', async () => {
  const forged = segment(3).buffer; // valid tables, of a lane that the sender could not know
  const laid = layOutCommit(
    { tenant: 't', lane: 'L', sequence: 1, object: 'o', offset: 0, previousToc: -1 },
    [sampleEntry(forged)],
    () => clock.next(),
  );
  const torn = Buffer.concat(laid.buffers).subarray(0, laid.tocOffset);
  torn.fill(0, 0, 512);
  const mine = await scanFromStart(sourceOf(torn), 1, (frame) => TableOfContents.decode(frame.table).lane === 'mine');
  assert.deepEqual(mine.commits, []);
  assert.deepEqual(mine.damage, []);
});

test('any bytes at all are scanned to an end without an error', async () => {
  const { buffer } = segment(2);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(buffer.length - 1), fc.nat(255)), { maxLength: 20 }),
      fc.nat(buffer.length),
      async (flips, length) => {
        const wild = Buffer.from(buffer.subarray(0, length));
        for (const [at, byte] of flips) if (at < wild.length) wild[at] = byte;
        const scan = await scanFromStart(sourceOf(wild), 1);
        assert.ok(scan.end <= wild.length);
        await scanFromEnd(sourceOf(wild), 1, undefined);
      },
    ),
    { numRuns: 300 },
  );
});
