// Import against a real server: folders and archives, what is skipped and what is refused, interruption and resumption, hostile archives.
import assert from 'node:assert/strict';
import {
  createWriteStream,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { ZipFile } from 'yazl';
import { uidFor } from '../demo/part10.ts';
import { type GantryServer, startServer } from '../peers/server.ts';
import { fileName } from './dicomweb.ts';
import { openJournal } from './journal.ts';
import { folder, instance, run, SECRET, state } from './run.testing.ts';

interface Summary {
  stored: number;
  noDicom: number;
  dicomdir: number;
  earlier: number;
  refused: number;
  failed: number;
  complete: boolean;
  journal: string | null;
  refusals: { label: string; code: string; says: string }[];
  failures: { label: string; code: string; says: string }[];
}

const DICOMDIR = '1.2.840.10008.1.3.10';
/** A study of three, in folders; text, an empty file, a DICOMDIR, one without a Study Instance UID. */
const mixed = (name: string): Record<string, Buffer | string> => ({
  'a/1.dcm': instance(`${name}/1`),
  'a/b/2': instance(`${name}/2`),
  'a/b/c/3.ima': instance(`${name}/3`),
  'a/readme.txt': 'no DICOM at all, '.repeat(20),
  'a/empty': '',
  DICOMDIR: instance(`${name}/dir`, { '00080016': ['UI', DICOMDIR] }),
  'bad.dcm': instance(`${name}/bad`, { '0020000d': ['UI', ''] }),
});
const counts = ({ stored, noDicom, dicomdir, refused, failed }: Summary) => [
  stored,
  noDicom,
  dicomdir,
  refused,
  failed,
];

async function tarOf(files: Record<string, Buffer | string>): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name: 'a/', type: 'directory' });
  archive.entry({ name: 'link', type: 'symlink', linkname: '/etc/passwd' });
  for (const [name, bytes] of Object.entries(files)) archive.entry({ name }, bytes);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive as unknown as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
async function zipOf(path: string, files: Record<string, Buffer | string>): Promise<string> {
  const archive = new ZipFile();
  for (const [name, bytes] of Object.entries(files)) archive.addBuffer(Buffer.from(bytes), name);
  archive.end();
  await pipeline(archive.outputStream, createWriteStream(path));
  return path;
}
function file(name: string, bytes: Buffer): string {
  const path = join(mkdtempSync(join(tmpdir(), 'gantry-archive-')), name);
  writeFileSync(path, bytes);
  return path;
}
const journals = () => (existsSync(join(state, 'gantry/imports')) ? readdirSync(join(state, 'gantry/imports')) : []);

/** A door in front of the server: counts what is posted, and misbehaves when told to. */
async function doorTo(server: GantryServer, onPost: (n: number, answered: boolean, cut: () => void) => void) {
  let posts = 0;
  const door = http.createServer((request, response) => {
    const n = request.url === '/api/v1/instances' ? ++posts : 0;
    const cut = () => request.socket.destroy();
    if (n > 0) onPost(n, false, cut);
    const { method, headers, url } = request;
    const onward = http.request({ port: server.httpPort, host: '127.0.0.1', method, headers, path: url }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
      if (n > 0) response.once('finish', () => onPost(n, true, cut));
    });
    onward.on('error', () => response.destroy()); // the request was cut: that is the point
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  const { port } = door.address() as { port: number };
  return { server: `http://127.0.0.1:${port}`, posts: () => posts, close: () => door.close() };
}

describe('import', { timeout: 240_000 }, () => {
  let server: GantryServer;
  let env: Record<string, string>;
  before(async () => {
    server = await startServer();
    env = { GANTRY_HTTP_PORT: String(server.httpPort) };
  });
  after(() => server?.close());

  const importAs = async (args: string[], more: Record<string, string> = {}) => {
    const ran = await run(['import', '--json', ...args], { ...env, ...more });
    return { ...ran, summary: ran.json<Summary>() };
  };

  test('a folder: kept, skipped, refused, each counted; the refused one with its reason, nobody by name', async () => {
    const root = folder(mixed('folder'));
    const { code, summary, out, err } = await importAs([root]);
    assert.deepEqual(counts(summary), [3, 2, 1, 1, 0]);
    assert.equal(code, 1);
    assert.equal(summary.refusals[0]!.label, join(root, 'bad.dcm'));
    assert.match(summary.refusals[0]!.says, /Study Instance UID missing/);
    assert.ok(!`${out}${err}`.includes(SECRET));
    const found = await run(['find', '--json', 'PatientID=ID-folder'], env);
    assert.equal(found.json<unknown[]>().length, 1);
    assert.deepEqual(journals(), []); // nothing to go on with
  });

  test('for people: the same as sentences', async () => {
    const { code, out } = await run(['import', folder(mixed('people'))], env);
    assert.equal(code, 1);
    assert.match(out, /^3 instances imported, .* in .* s/);
    assert.match(out, /^2 files skipped: no DICOM$/m);
    assert.match(out, /^1 DICOMDIR skipped/m);
    assert.match(out, /^1 file refused:\n {2}.*Study Instance UID missing.*: 1\n {4}\S*bad\.dcm$/m);
  });

  test('a good folder ends with 0, and twice does no harm', async () => {
    const root = folder({ 'x.dcm': instance('good/1') });
    assert.equal((await importAs([root])).code, 0);
    const again = await importAs([root]);
    assert.deepEqual([again.code, again.summary.stored], [0, 1]);
  });

  for (const [name, make] of [
    ['a tar', async (files: Record<string, Buffer | string>) => file('x.tar', await tarOf(files))],
    ['a tar.gz', async (files: Record<string, Buffer | string>) => file('x', gzipSync(await tarOf(files)))],
    [
      'a zip',
      (files: Record<string, Buffer | string>) =>
        zipOf(join(mkdtempSync(join(tmpdir(), 'gantry-zip-')), 'x.dat'), files),
    ],
  ] as const) {
    test(`${name}, told by what it is and not by its name`, async () => {
      // Large ones are streams within the stream: the first, one in the middle and the last.
      const large = (n: number) => Buffer.concat([instance(`${name}/large${n}`), pixels(6_000_000)]);
      const path = await make({
        'large1.dcm': large(1),
        'large2.dcm': large(2),
        ...mixed(name.replace(/\W/g, '')),
        'large3.dcm': large(3),
        'large.txt': Buffer.alloc(5_000_000, 'no DICOM '),
        'small.dcm': instance(`${name}/small`),
        'large4.dcm': large(4),
      });
      const { code, summary } = await importAs([path]);
      assert.deepEqual(counts(summary), [8, 3, 1, 1, 0]);
      assert.equal(code, 1);
      assert.equal(summary.refusals[0]!.label, `${path}:bad.dcm`);
      // Byte for byte, out of the archive within the archive.
      const to = mkdtempSync(join(tmpdir(), 'gantry-exact-'));
      const stored = { study: uidFor(`cli/study/${name}`), series: uidFor(`cli/series/${name}`) };
      assert.equal((await run(['get', stored.study, '--to', to], env)).code, 0);
      for (const n of [1, 2, 3, 4]) {
        const got = readFileSync(join(to, fileName({ ...stored, instance: uidFor(`cli/${name}/large${n}`) })));
        assert.ok(got.equals(large(n)), `large${n}`);
      }
    });
  }

  test('names in archives are only labels: nothing climbs out, no escape sequence reaches the terminal', async () => {
    const inside = mkdtempSync(join(tmpdir(), 'gantry-inside-'));
    const hostile = {
      '../../../../tmp/gantry-climbed.dcm': instance('hostile/1'),
      '/tmp/gantry-climbed.dcm': instance('hostile/2'),
      'x\u001b]0;owned\u0007.dcm': instance('hostile/3', { '0020000d': ['UI', ''] }),
    };
    for (const path of [file('evil.tar', await tarOf(hostile))]) {
      const { out } = await run(['import', path], env);
      assert.match(out, /^2 instances imported/);
      assert.ok(!out.includes('\u001b'));
      assert.equal(existsSync('/tmp/gantry-climbed.dcm'), false);
    }
    assert.deepEqual(readdirSync(inside), []);
  });

  test('a broken archive: what could be read is taken, and the end says so', async () => {
    const files = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`${i}.dcm`, instance(`broken/${i}`)]));
    const tar = file('x.tar', await tarOf(files));
    truncateSync(tar, 512 * 31 + 100);
    const cut = await importAs([tar]);
    assert.equal(cut.code, 1);
    assert.ok(cut.summary.stored > 5 && cut.summary.stored < 20, String(cut.summary.stored));
    assert.match(cut.summary.failures[0]!.says, /no whole tar/);
    truncateSync(tar, 512 * 2 + 1536 * 6); // between two entries: only the end mark is missing
    const between = await importAs([tar]);
    assert.deepEqual([between.code, between.summary.failed], [1, 1]);
    assert.match(between.summary.failures[0]!.says, /end mark/);
    const large = Buffer.concat([instance('broken/large'), pixels(6_000_000)]);
    const within = file('y.tar', await tarOf({ 'a.dcm': instance('broken/a'), 'large.dcm': large }));
    truncateSync(within, 5_000_000);
    const half = await importAs([within]);
    assert.deepEqual([half.code, half.summary.stored, half.summary.complete], [1, 1, false]);
    const gz = gzipSync(await tarOf(files));
    gz.fill(0x55, gz.length >> 1);
    assert.match((await run(['import', file('x.tgz', gz)], env)).out, /no whole tar\.gz/);
    const zip = await zipOf(join(mkdtempSync(join(tmpdir(), 'gantry-zip-')), 'x.zip'), files);
    truncateSync(zip, readFileSync(zip).length - 60);
    const noEnd = await run(['import', zip, folder({ 'good.dcm': instance('broken/good') })], env);
    assert.equal(noEnd.code, 1);
    assert.match(noEnd.out, /^1 instance imported/); // what comes behind it
    assert.match(noEnd.out, /no whole zip/);
  });

  test('a zip that lies about a size: that file fails, the others are taken', async () => {
    const path = await zipOf(join(mkdtempSync(join(tmpdir(), 'gantry-zip-')), 'x.zip'), {
      'a.dcm': instance('lie/a'),
      'b.dcm': instance('lie/b'),
    });
    const bytes = readFileSync(path);
    const second = bytes.lastIndexOf(Buffer.from('504b0102', 'hex')); // its central header
    bytes.writeUInt32LE(10, second + 24); // it says that it inflates to 10 bytes
    writeFileSync(path, bytes);
    const { code, summary } = await importAs([path]);
    assert.deepEqual(counts(summary), [1, 0, 0, 0, 1]);
    assert.equal(code, 1);
    assert.equal(summary.failures[0]!.label, `${path}:b.dcm`);
  });

  test('interrupted, it goes on where it stopped, and offers nothing twice', async () => {
    const N = 40;
    const root = folder(Object.fromEntries(Array.from({ length: N }, (_, i) => [`${i}.dcm`, instance(`resume/${i}`)])));
    const abort = new AbortController();
    const door = await doorTo(server, (n, answered) => {
      if (n === 10 && answered) abort.abort();
    });
    try {
      const args = ['import', '--json', '--workers', '3', '--server', door.server, root];
      const first = await run(args, {}, abort.signal);
      const before = first.json<Summary>();
      assert.equal(first.code, 130);
      assert.equal(before.complete, false);
      assert.ok(before.stored >= 7 && before.stored < N, String(before.stored));
      assert.match(first.err, /Run the same command again to go on/);
      const text = readFileSync(before.journal!, 'latin1');
      assert.match(text, /^gantry-import 1\n([0-9a-f]{20} s\n)+$/); // digests, no names

      const posted = door.posts();
      const second = await run(args);
      const after = second.json<Summary>();
      assert.equal(second.code, 0);
      assert.deepEqual([after.earlier, after.stored], [before.stored, N - before.stored]);
      assert.equal(door.posts() - posted, N - before.stored);
      assert.equal(existsSync(before.journal!), false);
    } finally {
      door.close();
    }
  });

  test('connections that break off are tried again; --restart offers everything anew', async () => {
    const root = folder(Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`${i}.dcm`, instance(`cut/${i}`)])));
    const door = await doorTo(server, (n, answered, cut) => {
      if (!answered && (n === 3 || n === 7)) cut();
    });
    try {
      const { code, summary } = await importAs(['--server', door.server, '--restart', root]);
      assert.equal(code, 0);
      assert.deepEqual(counts(summary), [12, 0, 0, 0, 0]);
      assert.equal(door.posts(), 14);
    } finally {
      door.close();
    }
  });

  test('a server that goes away ends the import with 3, and the next one goes on', async () => {
    const own = await startServer();
    const root = folder(Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`${i}.dcm`, instance(`gone/${i}`)])));
    let dying: Promise<unknown> | undefined;
    const door = await doorTo(own, (n, answered) => {
      if (n === 5 && answered) dying = own.signal('SIGKILL');
    });
    try {
      const args = ['--workers', '1', '--server', door.server, root];
      const first = await importAs(args);
      assert.equal(first.code, 3);
      assert.equal(first.summary.stored, 5);
      await dying;
      await own.restart();
      const second = await importAs(args);
      assert.equal(second.code, 0);
      assert.deepEqual([second.summary.earlier, second.summary.stored], [5, 25]);
      const found = await run(['find', '--json', '--level', 'instance', '--limit', '100'], {
        GANTRY_HTTP_PORT: String(own.httpPort),
      });
      assert.equal(found.json<unknown[]>().length, 30); // nothing acknowledged is missing
    } finally {
      door.close();
      await own.close();
    }
  });

  test('a journal that a kill cut short is read as far as it goes; one of another kind begins anew', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'gantry-journal-')), 'j');
    const journal = await openJournal(path, false);
    journal.note('one', 's');
    journal.note('two', 'r');
    await journal.close();
    writeFileSync(path, readFileSync(path, 'latin1').slice(0, -5), 'latin1');
    const cut = await openJournal(path, false);
    assert.deepEqual([cut.earlier('one'), cut.earlier('two')], ['s', undefined]);
    cut.note('three', 'n');
    await cut.close();
    const again = await openJournal(path, false);
    assert.deepEqual([again.earlier('one'), again.earlier('three'), again.found], ['s', 'n', 2]);
    await again.close();
    writeFileSync(path, 'something else\n');
    const other = await openJournal(path, false);
    assert.equal(other.found, 0);
    await other.close();
  });
});

/** Pixel Data (7FE0,0010) OW of so many bytes, to stand at the end of an instance. */
function pixels(length: number): Buffer {
  const header = Buffer.from('e07f1000' + '4f570000' + '00000000', 'hex');
  header.writeUInt32LE(length, 8);
  return Buffer.concat([header, Buffer.alloc(length, 7)]);
}
