import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { GantryError } from '#platform/errors.ts';
import { TableOfContents } from '#proto/storage/v1/log.ts';
import { segmentKey, tocFileName } from '../../log/names.ts';
import { sampleEntry, sampleHold, sha256 } from '../../log/sample.testing.ts';
import { scanFromStart } from '../../log/scan.ts';
import { BLOCK, writeTarHeader } from '../../log/tar.ts';
import { encodeTocFrame, FORMAT_VERSION } from '../../log/toc.ts';
import { entriesOf } from '../../log-store.contract.ts';
import type { Archive } from '../../ports.ts';
import { type ArchiveOptions, openArchiveOn } from './archive.ts';
import { ModelDisk } from './disk.model.ts';
import { realDisk } from './disk.ts';
import { lockDirectory } from './lock.ts';
import { randomOf } from './power-loss.testing.ts';

const OPTIONS: ArchiveOptions = {
  gather: { commitBytes: 2 ** 20, commitEntries: 16, queueBytes: 2 ** 30, queueEntries: 4096 },
  segment: { segmentBytes: 2 ** 20, segmentAgeMs: 2 ** 31, restMs: 0 },
  tableCacheBytes: 0,
  openFiles: 16,
  reserveBytes: () => 0,
};

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'gantry-recovery-'));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** A process writes some commits and is killed; its open segment and where it ends are answered. */
async function killedAfter(directory: string, commits: number): Promise<{ path: string; bytes: number; lane: string }> {
  const archive = await openArchiveOn(realDisk, directory, OPTIONS);
  for (let i = 0; i < commits; i++)
    await archive.log.append('main', 'r', [sampleEntry(randomBytes(2000)), sampleHold(`hold ${i}`)]);
  const segment = (await archive.log.segments('main'))[0]!;
  const path = join(directory, 'archive', segment.object);
  const kept = await readFile(path);
  await archive.close();
  await writeFile(path, kept); // as it was before the orderly end
  return { path, bytes: kept.length, lane: segment.lane };
}

const holdsOf = async (archive: Archive): Promise<string[]> =>
  (await entriesOf(archive.log, 'main')).flatMap(({ kind }) => (kind?.$case === 'hold' ? [kind.value.reason] : []));

test('a torn commit is moved aside and counted, everything before it stays, and the lane is closed', () =>
  inDirectory(async (directory) => {
    const { path, bytes, lane } = await killedAfter(directory, 3);
    const torn = randomBytes(5000);
    const file = await open(path, 'a');
    await file.write(torn);
    await file.close();
    const counted: number[] = [];
    const archive = await openArchiveOn(realDisk, directory, {
      ...OPTIONS,
      onTorn: (_lane, length) => counted.push(length),
    });
    assert.deepEqual(await holdsOf(archive), ['hold 0', 'hold 1', 'hold 2']);
    assert.deepEqual(await archive.log.heads('main'), [{ lane, sequence: 4 }]);
    assert.equal((await entriesOf(archive.log, 'main')).at(-1)!.kind!.$case, 'closed');
    assert.deepEqual(counted, [5000]);
    assert.equal(await archive.log.tornBytes(), 5000);
    const [name] = await readdir(join(directory, 'archive/torn'));
    assert.deepEqual(await readFile(join(directory, 'archive/torn', name!)), torn);
    assert.deepEqual(archive.log.alarms(), [], 'a torn end is no damage');
    assert.ok((await stat(path)).size > bytes);
    await archive.close();
  }));

test('a last commit whose table is whole and whose bytes are not was never acknowledged: it goes aside too', () =>
  inDirectory(async (directory) => {
    const { path } = await killedAfter(directory, 2);
    const file = await open(path, 'r+');
    const all = await readFile(path);
    const { commits } = await scanFromStart(
      { bytes: all.length, read: async (offset, length) => all.subarray(offset, offset + length) },
      1,
    );
    await file.write(Buffer.alloc(512), 0, 512, commits[1]!.offset + 1024);
    await file.close();
    const archive = await openArchiveOn(realDisk, directory, OPTIONS);
    assert.deepEqual(await holdsOf(archive), ['hold 0']);
    assert.ok((await archive.log.tornBytes()) > 2000);
    await archive.close();
  }));

test('damage before a valid commit raises an alarm, and the rest is served', () =>
  inDirectory(async (directory) => {
    const { path } = await killedAfter(directory, 4);
    const bytes = await readFile(path);
    const table = bytes.indexOf(tocFileName(2));
    bytes[table + BLOCK + 60] = bytes[table + BLOCK + 60]! ^ 0xff;
    await writeFile(path, bytes);
    const archive = await openArchiveOn(realDisk, directory, OPTIONS);
    assert.deepEqual(await holdsOf(archive), ['hold 0', 'hold 2', 'hold 3']);
    assert.deepEqual([...new Set(archive.log.alarms().map(({ kind }) => kind))], ['damaged-commit']);
    assert.equal(await archive.log.tornBytes(), 0);
    assert.deepEqual((await readFile(path)).subarray(0, bytes.length), bytes, 'damaged bytes are kept where they are');
    await archive.close();
    // A sealed segment that goes bad later, met by a reader.
    const again = await openArchiveOn(realDisk, directory, OPTIONS);
    assert.deepEqual(await holdsOf(again), ['hold 0', 'hold 2', 'hold 3']);
    assert.ok(again.log.alarms().some(({ kind }) => kind === 'damaged-commit'));
    const sealed = (await again.log.segments('main')).find(({ state }) => state === 'sealed')!;
    await assert.rejects(
      again.log.thin('main', sealed.object),
      (error) => error instanceof GantryError && ['failed-precondition', 'damaged'].includes(error.code),
    );
    await again.close();
  }));

test('a thinned copy that rotted before its original went does not cost the original', () =>
  inDirectory(async (directory) => {
    await killedAfter(directory, 4);
    const archive = await openArchiveOn(realDisk, directory, OPTIONS);
    const sealed = (await archive.log.segments('main')).find(({ state }) => state === 'sealed')!;
    await archive.log.prepareThin('main', sealed.object);
    const copy = join(directory, 'archive', sealed.object.replace(/\.tar$/, '.toc.tar'));
    const bytes = await readFile(copy);
    const table = bytes.indexOf(tocFileName(2));
    bytes[table + BLOCK + 60] = bytes[table + BLOCK + 60]! ^ 0xff;
    await writeFile(copy, bytes);
    await assert.rejects(archive.log.thin('main', sealed.object), { code: 'damaged' });
    assert.deepEqual(await holdsOf(archive), ['hold 0', 'hold 1', 'hold 2', 'hold 3']);
    await stat(join(directory, 'archive', sealed.object));
    await archive.close();
  }));

/** A lane as some other release may have left it: tables as given. */
async function forgeLane(
  directory: string,
  lane: string,
  frames: ((tables: { offset: number; previousToc: number }) => Buffer)[],
): Promise<void> {
  const parts: Buffer[] = [];
  let offset = 0;
  let previousToc = -1;
  for (const [i, make] of frames.entries()) {
    const frame = make({ offset, previousToc });
    const header = Buffer.alloc(BLOCK);
    writeTarHeader(header, 0, tocFileName(i + 1), frame.length, 0);
    parts.push(header, frame);
    previousToc = offset;
    offset += BLOCK + frame.length;
  }
  const object = join(directory, 'archive', segmentKey('main', lane, 1));
  await mkdir(join(object, '..'), { recursive: true });
  await writeFile(object, Buffer.concat(parts));
}

const LANE = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const tableOf = (sequence: number, extra: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([
    TableOfContents.encode({
      formatVersion: FORMAT_VERSION,
      tenant: 'main',
      lane: LANE,
      sequence,
      entries: [{ n: 0, stamp: `00000000000${sequence}0000`, kind: sampleHold(`hold ${sequence}`).kind }],
    }).finish(),
    extra,
  ]);
const frameOf =
  (sequence: number, extra?: Buffer) =>
  ({ offset, previousToc }: { offset: number; previousToc: number }): Buffer =>
    encodeTocFrame({ sequence, commitOffset: offset, previousToc, crc: 0, table: tableOf(sequence, extra) });
/** TableOfContents.entries (5) += Entry { field 99: {} } */
const UNKNOWN_ENTRY = Buffer.from([0x2a, 0x03, 0x9a, 0x06, 0x00]);

for (const [where, frames] of [
  ['in the middle', [frameOf(1), frameOf(2, UNKNOWN_ENTRY), frameOf(3)]],
  ['at the end', [frameOf(1), frameOf(2, UNKNOWN_ENTRY)]],
] as const)
  test(`an entry of an unknown kind ${where} stops its lane with an alarm; other lanes go on`, () =>
    inDirectory(async (directory) => {
      await forgeLane(directory, LANE, [...frames]);
      const archive = await openArchiveOn(realDisk, directory, OPTIONS);
      await archive.log.append('main', 'r', [sampleHold('of today')]);
      assert.deepEqual(await holdsOf(archive), ['hold 1', 'of today'], 'never skipped: nothing beyond it is given');
      assert.deepEqual(
        archive.log.alarms().map(({ kind, lane }) => [kind, lane]),
        [['unknown-entry', LANE]],
      );
      assert.ok(
        (await archive.log.heads('main')).find(({ lane }) => lane === LANE)!.sequence >= frames.length,
        'the head says that there is more',
      );
      await archive.close();
    }));

test('a table of a newer release is not touched: its lane stops there, with an alarm', () =>
  inDirectory(async (directory) => {
    const newer: Parameters<typeof forgeLane>[2][number] = (at) => {
      const frame = frameOf(2)(at);
      frame.writeUInt16BE(2, 4);
      return reseal(frame);
    };
    await forgeLane(directory, LANE, [frameOf(1), newer]);
    const path = join(directory, 'archive', segmentKey('main', LANE, 1));
    const before = await readFile(path);
    const archive = await openArchiveOn(realDisk, directory, OPTIONS);
    assert.deepEqual(await holdsOf(archive), ['hold 1']);
    assert.deepEqual(
      archive.log.alarms().map(({ kind }) => kind),
      ['newer-format'],
    );
    await archive.close();
    assert.deepEqual(await readFile(path), before);
  }));

test('a newer archive format stops the start with a sentence', () =>
  inDirectory(async (directory) => {
    await mkdir(join(directory, 'archive'));
    for (const [content, words] of [
      ['{"format":2}', /has format 2, this release reads format 1: start the release that wrote it/],
      ['', /cannot be read: restore it/],
    ] as const) {
      await writeFile(join(directory, 'archive/format.json'), content);
      await assert.rejects(
        openArchiveOn(realDisk, directory, OPTIONS),
        (error) => error instanceof GantryError && error.code === 'failed-precondition' && words.test(error.message),
      );
    }
  }));

test('one process owns a data directory; a killed owner leaves it at once', () =>
  inDirectory(async (directory) => {
    const lock = lockDirectory(directory);
    assert.throws(
      () => lockDirectory(directory),
      (error) => error instanceof GantryError && /another process is using the data directory/.test(error.message),
    );
    lock.release();
    const code = `const { lockDirectory } = await import(${JSON.stringify(new URL('./lock.ts', import.meta.url).href)}); globalThis.lock = lockDirectory(${JSON.stringify(directory)}); console.log('locked'); setInterval(() => {}, 1000);`;
    const owner = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', code],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(owner.stdout!, 'data');
    assert.throws(() => lockDirectory(directory), GantryError);
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    lockDirectory(directory).release();
  }));

test('a log that was stamped in the future is told, and goes on in order', async () => {
  const disk = new ModelDisk(randomOf(6), ['/data']);
  const future = await openArchiveOn(disk, '/data', { ...OPTIONS, now: () => 4e12 });
  await future.log.append('main', 'r', [sampleHold('stamped in 2096')]);
  await future.close();
  const archive = await openArchiveOn(disk, '/data', OPTIONS);
  assert.deepEqual(
    archive.log.alarms().map(({ kind }) => kind),
    ['clock-ahead'],
  );
  await archive.log.append('main', 'r', [sampleHold('today')]);
  const stamps = (await entriesOf(archive.log, 'main')).map(({ stamp, kind }) => [stamp, kind!.$case] as const).sort();
  assert.equal(stamps.at(-1)![1], 'hold');
  await archive.close();
});

test('a file-by-file copy taken while storing is an archive with everything acknowledged before it began', () =>
  inDirectory(async (directory) => {
    const from = join(directory, 'live');
    const to = join(directory, 'copy');
    await mkdir(from);
    const archive = await openArchiveOn(realDisk, from, {
      ...OPTIONS,
      segment: { ...OPTIONS.segment, segmentBytes: 64 * 1024 },
    });
    let copied = false;
    let sent = 0;
    const acknowledged: string[] = [];
    const sender = async (): Promise<void> => {
      while (!copied) {
        const name = `hold ${sent++}`;
        await archive.log.append('main', 'r', [sampleEntry(randomBytes(5000)), sampleHold(name)]);
        acknowledged.push(name);
      }
    };
    const senders = [sender(), sender()];
    while (acknowledged.length < 30) await archive.log.append('main', 'me', [sampleHold('waiting for some')]);
    const before = [...acknowledged];
    await cp(from, to, { recursive: true });
    copied = true;
    await Promise.all(senders);
    await archive.close();
    const copy = await openArchiveOn(realDisk, to, OPTIONS);
    const found = new Set(await holdsOf(copy));
    for (const name of before) assert.ok(found.has(name), name);
    assert.deepEqual(copy.log.alarms(), []);
    await copy.close();
  }));

/** The least that is a DICOM file: preamble, meta, and one element. */
function part10(): Buffer {
  const element = (group: number, number: number, vr: string, value: Buffer): Buffer => {
    const padded = value.length % 2 === 0 ? value : Buffer.concat([value, Buffer.from([vr === 'UI' ? 0 : 0x20])]);
    const long = vr === 'OB';
    const head = Buffer.alloc(long ? 12 : 8);
    head.writeUInt16LE(group, 0);
    head.writeUInt16LE(number, 2);
    head.write(vr, 4, 'latin1');
    if (long) head.writeUInt32LE(padded.length, 8);
    else head.writeUInt16LE(padded.length, 6);
    return Buffer.concat([head, padded]);
  };
  const rest = Buffer.concat([
    element(2, 1, 'OB', Buffer.from([0, 1])),
    element(2, 2, 'UI', Buffer.from('1.2.840.10008.5.1.4.1.1.7')),
    element(2, 3, 'UI', Buffer.from('1.2.3.4.5')),
    element(2, 0x10, 'UI', Buffer.from('1.2.840.10008.1.2.1')),
    element(2, 0x12, 'UI', Buffer.from('1.2.3')),
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(rest.length);
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from('DICM'),
    element(2, 0, 'UL', length),
    rest,
    element(8, 0x18, 'UI', Buffer.from('1.2.3.4.5')),
    element(8, 0x60, 'CS', Buffer.from('OT')),
  ]);
}

test('tar lists and unpacks open and sealed segments, DCMTK reads what comes out, and nothing climbs out', (t) =>
  inDirectory(async (directory) => {
    const run = promisify(execFile);
    const archive = await openArchiveOn(realDisk, directory, OPTIONS);
    const file = part10();
    await archive.log.append('main', 'r', [sampleEntry(file, { sopInstanceUid: '1.2.3.4.5' }), sampleHold()]);
    await archive.log.append('main', 'r', [
      sampleEntry(file, { studyInstanceUid: '..', seriesInstanceUid: '../../..', sopInstanceUid: '/etc/passwd' }),
    ]);
    const { object } = (await archive.log.segments('main'))[0]!;
    for (const state of ['open', 'sealed']) {
      if (state === 'sealed') await archive.close();
      const out = join(directory, state);
      await mkdir(out);
      const tar = ['--warning=all', '-f', join(directory, 'archive', object)];
      const listing = (await run('tar', ['-tv', ...tar])).stdout.trim().split('\n');
      assert.equal(listing.length, state === 'open' ? 5 : 7);
      assert.ok(listing.some((line) => line.includes(' 1.2.826.0.1/1.2.826.0.1.1/1.2.3.4.5.')));
      const unpacked = await run('tar', ['-x', ...tar, '-C', out]);
      assert.equal(unpacked.stderr, '');
      const files = (await readdir(out, { recursive: true, withFileTypes: true })).filter(
        (entry) => entry.isFile() && entry.name.endsWith('.dcm'),
      );
      assert.equal(files.length, 2);
      for (const { parentPath, name } of files) {
        assert.deepEqual(await readFile(join(parentPath, name)), file);
        try {
          assert.match((await run('dcmdump', [join(parentPath, name)])).stdout, /\(0008,0060\) CS \[OT\]/);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
          t.diagnostic('DCMTK is not installed: dcmdump was not asked');
        }
      }
      const control = JSON.parse(await readFile(join(out, '.gantry/0000000000000001.1.hold.json'), 'utf8'));
      assert.equal(control.kind, 'hold');
    }
  }));

function reseal(frame: Buffer): Buffer {
  const digest = sha256(frame.subarray(0, frame.length - 32));
  digest.copy(frame, frame.length - 32);
  return frame;
}
