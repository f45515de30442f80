// verify and rebuild: by a running server, and on a stopped archive; sound and damaged.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort, type GantryServer, startServer } from '../peers/server.ts';
import { folder, instance, run } from './run.testing.ts';

interface Finding {
  kind: string;
  detail: string;
}
const lines = <T>(text: string): T[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);

describe('verify and rebuild', { timeout: 240_000 }, () => {
  let server: GantryServer;
  let env: Record<string, string>;
  const dataDir = mkdtempSync(join(tmpdir(), 'gantry-upkeep-'));
  const MARK = 'MARKEDBYTES';
  before(async () => {
    server = await startServer({ dataDir });
    env = {
      GANTRY_HTTP_PORT: String(server.httpPort),
      GANTRY_DIMSE_PORT: String(await freePort()),
      GANTRY_DATA_DIR: dataDir,
    };
    const files = Object.fromEntries(
      Array.from({ length: 5 }, (_, i) => [`${i}.dcm`, instance(`upkeep/${i}`, { '00081030': ['LO', `${MARK}${i}`] })]),
    );
    assert.equal((await run(['import', folder(files)], env)).code, 0);
  });
  after(() => server?.close());

  test('a sound archive, asked of the server', async () => {
    const people = await run(['verify'], env);
    assert.equal(people.code, 0, people.err);
    assert.equal(people.out, '5 instances checked: all is well\n');
    assert.equal((await run(['verify', '--no-digests', '--json'], env)).code, 0);
    const rebuilt = await run(['rebuild', '--json'], env);
    assert.equal(rebuilt.code, 0);
    assert.equal(lines<{ done: boolean; instances: number }>(rebuilt.out).at(-1)!.done, true);
    assert.match((await run(['rebuild'], env)).out, /^rebuilt: 5 instances from/);
  });

  test('--offline beside a running server is refused: one process owns a data directory', async () => {
    const { code, err } = await run(['verify', '--offline'], env);
    assert.equal(code, 1);
    assert.doesNotMatch(err, /all is well/);
  });

  test('stopped: the archive is opened here, without being told', async () => {
    await server.signal('SIGTERM');
    const { code, out, err } = await run(['verify'], env);
    assert.equal(code, 0, err);
    assert.match(err, /working on the stopped archive/);
    assert.equal(out, '5 instances checked: all is well\n');
    assert.equal((await run(['rebuild', '--offline'], env)).code, 0);
    // An explicit server is never replaced by what lies on this disk.
    assert.equal((await run(['verify', '--server', `http://127.0.0.1:${server.httpPort}`], env)).code, 3);
    const nowhere = await run(['verify', '--offline'], { ...env, GANTRY_DATA_DIR: join(dataDir, 'none') });
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.err, /there is no archive in/);
    const wrong = await run(['verify', '--offline'], { ...env, GANTRY_NO_SUCH: '1' });
    assert.equal(wrong.code, 1);
    assert.match(wrong.err, /GANTRY_NO_SUCH/);
  });

  test('a flipped byte is found, on the stopped archive and by the server', async () => {
    const log = join(dataDir, 'archive');
    const segment = readdirSync(log, { recursive: true, encoding: 'utf8' })
      .map((name) => join(log, name))
      .find((path) => isFile(path) && readFileSync(path).includes(`${MARK}3`))!;
    const bytes = readFileSync(segment);
    bytes[bytes.indexOf(`${MARK}3`)]! ^= 1;
    writeFileSync(segment, bytes);
    const offline = await run(['verify', '--json'], env);
    assert.equal(offline.code, 1);
    assert.ok(
      lines<Finding>(offline.out).some(({ kind }) => kind === 'bad-digest'),
      offline.out,
    );
    await server.restart();
    const online = await run(['verify'], env);
    assert.equal(online.code, 1);
    assert.match(online.out, /^bad-digest: instance [\d.]+ of study/m);
    assert.match(online.out, /5 instances checked, 1 found wrong/);
    assert.equal((await run(['verify', '--no-digests'], env)).code, 0); // the quick look does not read bytes
  });
});

function isFile(path: string): boolean {
  try {
    return readFileSync(path).length > 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EISDIR') return false;
    throw error;
  }
}
