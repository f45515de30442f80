// The image as its users have it: built twice, loaded, run with a read-only root, reached through published ports, and stopped.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort } from '../peers/server.ts';
import { openData, requirePeer, without } from '../setup/peers.ts';
import { ENVIRONMENT } from './archive.ts';
import { type BuildOptions, type Built, build, SIZE_MAX } from './build.ts';
import { ImageError } from './debian.ts';
import { type Dockerd, startDockerd } from './dockerd.testing.ts';
import { architectureHere, CACHE, CHECKOUT, committed, MIRROR } from './options.ts';
import { USER } from './rootfs.ts';

const NAME = 'gantry:test';
const TOKEN = 'a-token-of-this-test';
const work = mkdtempSync(join(tmpdir(), 'gantry-run-'));
after(() => rmSync(work, { recursive: true, force: true }));

/** What is committed, in a folder of its own: the very same commit twice, and nobody's half-written file. */
const options = (out: string): BuildOptions => ({
  ...checkedOut(),
  nodePath: join(CHECKOUT, 'node_modules/node/bin/node'),
  cache: CACHE,
  // Layers are compressed once and kept by the digest of their tar, which each build makes anew.
  store: join(CACHE, 'image/layers'),
  architecture: architectureHere(),
  mirror: MIRROR,
  newest: false,
  name: NAME,
  out,
  say: () => {},
});

function checkedOut(): Pick<BuildOptions, 'checkout' | 'source'> {
  const checkout = mkdtempSync(join(work, 'checkout-'));
  return { checkout, source: committed(CHECKOUT, 'HEAD', checkout) };
}

/** Where Debian's mirror has dropped a pinned package, the tests still run, on what it has; and say so. */
async function built(out: string): Promise<Built> {
  try {
    return await build(options(out));
  } catch (error) {
    if (!(error instanceof ImageError) || !error.message.startsWith('apt-get download')) throw error;
    process.stderr.write(
      `${error.message}\nA pinned package is gone: run node tools/image/pin.run.ts. Testing on the newest.\n`,
    );
    return await build({ ...options(out), newest: true });
  }
}

/** A file that is stored as it is, without a negotiation of its own. */
async function storable(): Promise<{ path: string; sopInstanceUid: string; studyInstanceUid: string }> {
  const { rows } = await openData();
  const row = rows.find((one) => one.class === 'storable' && one.transferSyntaxUid === '1.2.840.10008.1.2.1');
  assert.ok(row, 'no Explicit VR Little Endian among the test data');
  return row;
}

const isRoot = process.getuid?.() === 0 || process.env.CI === 'true';
const dockerSkip = isRoot
  ? without('dockerd', 'docker', 'unshare', 'nsenter', 'ip', 'echoscu', 'storescu')
  : 'dockerd needs root';
const chrootSkip = isRoot ? without('unshare', 'chroot', 'echoscu', 'storescu') : 'chroot needs root';

describe('the image', { timeout: 15 * 60_000, concurrency: 1 }, () => {
  let image: Built;
  before(async () => {
    chmodSync(work, 0o755);
    writeFileSync(join(work, 'token'), `${TOKEN}\n`, { mode: 0o644 });
    image = await built(join(work, 'one'));
  });

  test('built again, from another folder and with another umask, is the same to the last byte', async () => {
    const umask = process.umask(0o077);
    try {
      const again = await build({ ...options(join(work, 'two')), newest: image.debian === 'newest' });
      assert.deepEqual(
        again.layers.map(({ diffId, digest }) => ({ diffId, digest })),
        image.layers.map(({ diffId, digest }) => ({ diffId, digest })),
      );
      assert.equal(again.digest, image.digest);
      assert.ok(readFileSync(again.archive).equals(readFileSync(image.archive)));
      assert.ok(readFileSync(again.sbom).equals(readFileSync(image.sbom)));
    } finally {
      process.umask(umask);
    }
  });

  test('is small enough to pull', () => {
    assert.ok(image.size <= SIZE_MAX, `${image.size}`);
  });

  describe('in docker', { skip: dockerSkip }, () => {
    let dockerd: Dockerd;
    const id = 'gantry';
    before(async () => {
      dockerd = await startDockerd();
      assert.match(await dockerd.docker('load', '-i', image.archive), /Loaded image: gantry:test/);
    });
    after(async () => {
      await dockerd?.docker('rm', '-f', '-v', id);
      await dockerd?.close();
    });
    const answer = async (path: string, token = TOKEN) => {
      const { output } = await dockerd.inside(
        process.execPath,
        '-e',
        "fetch(process.argv[1],{headers:{authorization:'Bearer '+process.argv[2]}}).then(async r=>console.log(r.status,await r.text()),e=>console.log(0,e.message))",
        `http://127.0.0.1:18080${path}`,
        token,
      );
      const [status, ...body] = output.split(' ');
      return { status: Number(status), body: body.join(' ') };
    };
    const state = async () =>
      JSON.parse(await dockerd.docker('inspect', '--format', '{{json .State}}', id)) as {
        Running: boolean;
        ExitCode: number;
        Health: { Status: string };
      };
    /** Its log, which goes on over restarts, says so as often as it started. */
    const started = async (times = 1) => {
      for (;;) {
        const log = await dockerd.docker('logs', id);
        if (log.split('"msg":"ready"').length > times) return;
        assert.ok((await state()).Running, `it ended:\n${log}`);
      }
    };

    test('without settings it does not open itself to everybody: it says what is missing', async () => {
      await assert.rejects(
        dockerd.docker('run', '--rm', '--read-only', '--tmpfs', '/tmp', NAME),
        (error: { code?: number; stderr?: string }) => error.code === 78 && /http\.tokenFile/.test(error.stderr ?? ''),
      );
    });

    test('runs as nobody in particular, read-only, with a volume and a token: echo, store, search, viewer', async () => {
      const { path, studyInstanceUid } = await storable();
      await dockerd.docker(
        ...['run', '-d', '--name', id, '--read-only', '--user', `${USER}`, '--tmpfs', '/tmp', '--stop-timeout', '60'],
        ...['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', '-v', 'gantry-data:/data'],
        ...['-v', `${join(work, 'token')}:/run/secrets/token:ro`, '-e', 'GANTRY_HTTP_TOKEN_FILE=/run/secrets/token'],
        ...[
          '-e',
          'GANTRY_DIMSE_ACCEPT_UNKNOWN=true',
          '-p',
          '127.0.0.1:18080:8080',
          '-p',
          '127.0.0.1:11113:11112',
          NAME,
        ],
      );
      await started();
      assert.equal((await answer('/readyz')).status, 200);
      assert.equal((await answer('/dicom-web/studies', 'wrong')).status, 401);
      const echo = await dockerd.inside(requirePeer('echoscu'), '-aec', 'GANTRY', '127.0.0.1', '11113');
      assert.equal(echo.code, 0, echo.output);
      const store = await dockerd.inside(requirePeer('storescu'), '-aec', 'GANTRY', '127.0.0.1', '11113', path);
      assert.equal(store.code, 0, store.output);
      const found = await answer(`/dicom-web/studies?StudyInstanceUID=${studyInstanceUid}`);
      assert.equal(found.status, 200, found.body);
      assert.equal((JSON.parse(found.body) as unknown[]).length, 1);
      const viewer = await answer('/viewer');
      assert.match(viewer.body, /<html/i);
    });

    test('its command line and health check run in it; a shell does not', async () => {
      assert.match(await dockerd.docker('exec', id, 'gantry', 'status'), /1 instances/);
      const { Healthcheck } = JSON.parse(await dockerd.docker('inspect', '--format', '{{json .Config}}', id)) as {
        Healthcheck: { Test: string[] };
      };
      await dockerd.docker('exec', id, ...Healthcheck.Test.slice(1)); // rejects unless 0
      // 126 and 127: there is no such program (docker-exec(1)).
      for (const shell of ['sh', '/bin/sh', '/bin/bash', 'apt-get', '/bin/busybox'])
        await assert.rejects(dockerd.docker('exec', id, shell), ({ code }) => code === 126 || code === 127, shell);
    });

    test('its process can write its data, and nothing else', async () => {
      const attempt = (path: string) =>
        dockerd.docker('exec', id, '/usr/local/bin/node', '-e', `require('fs').writeFileSync('${path}','x')`);
      for (const path of ['/opt/gantry/services/main.ts', '/usr/local/bin/node', '/etc/passwd', '/x'])
        await assert.rejects(attempt(path), /EROFS|EACCES/, path);
      await attempt('/data/x');
      const who = await dockerd.docker('exec', id, '/usr/local/bin/node', '-p', 'process.getuid()');
      assert.equal(who.trim(), String(USER));
    });

    test("it knows time zones, the system's certificates, and what it is made of", async () => {
      const said = await dockerd.docker(
        ...['exec', '-e', 'TZ=Europe/Berlin', id, '/usr/local/bin/node', '-p'],
        "JSON.stringify([new Date(0).getHours(),require('tls').getCACertificates('system').length,JSON.parse(require('fs').readFileSync('/usr/share/gantry/sbom.spdx.json')).packages.length])",
      );
      const [hour, certificates, packages] = JSON.parse(said) as number[];
      assert.equal(hour, 1);
      assert.ok(certificates! > 100, `${certificates}`);
      assert.ok(packages! > 100, `${packages}`);
    });

    test('every program file loads: roles, command line, and what adapters import only when they are chosen', async () => {
      const script = `
        Promise.all(${JSON.stringify(lazyPackages())}.map((one) => import(require.resolve(one, { paths: ['/opt/gantry/services'] })))).then(
          () => console.log('loaded'), (error) => { console.error(error); process.exit(1); })`;
      assert.match(await dockerd.docker('exec', id, '/usr/local/bin/node', '-e', script), /loaded/);
    });

    test('TERM drains it, and what was stored is there after the next start', async () => {
      await dockerd.docker('stop', id);
      const { ExitCode } = await state();
      assert.equal(ExitCode, 0);
      assert.match(await dockerd.docker('logs', id), /draining[\s\S]*"msg":"stopped"/);
      await dockerd.docker('start', id);
      await started(2);
      assert.match(await dockerd.docker('exec', id, 'gantry', 'status'), /1 instances/);
    });
  });

  // The same content without any container runtime, so that a machine that runs none still tests it.
  test('unpacked, under chroot and read-only', { skip: chrootSkip }, async () => {
    const root = join(work, 'root');
    const layout = join(work, 'layout');
    for (const folder of [root, layout, join(work, 'data')]) mkdirSync(folder);
    execFileSync('tar', ['-xf', image.archive, '-C', layout]);
    const [{ Layers }] = JSON.parse(readFileSync(join(layout, 'manifest.json'), 'utf8')) as [{ Layers: string[] }];
    for (const layer of Layers) execFileSync('tar', ['--numeric-owner', '-xpzf', join(layout, layer), '-C', root]);
    assert.ok(!readdirSync(root).includes('bin'), 'no /bin: nothing to run but Node');
    execFileSync('chown', [`${USER}:${USER}`, join(work, 'data')]);
    const [httpPort, dimsePort] = [await freePort(), await freePort()];
    const mounts = [
      `mount --bind ${root} ${root}`,
      `mount --bind ${join(work, 'data')} ${root}/data`,
      `mount -t tmpfs tmpfs ${root}/tmp`,
      `mount -o remount,bind,ro ${root}`,
      `exec chroot --userspec=${USER}:${USER} ${root} /usr/local/bin/node /opt/gantry/services/main.ts all`,
    ];
    const child = spawn('unshare', ['--mount', 'sh', '-c', mounts.join(' && ')], {
      env: {
        ...ENVIRONMENT,
        PATH: '/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin',
        GANTRY_HTTP_HOST: 'localhost',
        GANTRY_DIMSE_HOST: '127.0.0.1',
        GANTRY_HTTP_PORT: String(httpPort),
        GANTRY_DIMSE_PORT: String(dimsePort),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = once(child, 'exit') as Promise<[number | null]>;
    let log = '';
    const ready = new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => {
          log += chunk.toString();
          if (log.includes('"msg":"ready"')) resolve();
        });
      child.once('exit', () => reject(new Error(`it ended:\n${log}`)));
    });
    await ready;
    try {
      assert.equal((await fetch(`http://127.0.0.1:${httpPort}/readyz`)).status, 200);
      const { path } = await storable();
      execFileSync(requirePeer('echoscu'), ['-aec', 'GANTRY', '127.0.0.1', String(dimsePort)]);
      execFileSync(requirePeer('storescu'), ['-aec', 'GANTRY', '127.0.0.1', String(dimsePort), path]);
      assert.equal((await fetch(`http://127.0.0.1:${httpPort}/viewer`)).status, 200);
    } finally {
      child.kill('SIGTERM');
    }
    assert.deepEqual((await ended)[0], 0, log);
    assert.match(log, /"msg":"stopped"/);
  });
});

/** Every package that package.json names for production: an adapter's, too, is there and whole. */
function lazyPackages(): string[] {
  const { dependencies } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  return Object.keys(dependencies)
    .filter((name) => name !== 'node' && name !== '@bufbuild/protobuf')
    .concat('@bufbuild/protobuf/wire');
}
