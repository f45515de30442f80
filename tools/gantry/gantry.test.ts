// What the command line says and how it ends: usage, help, a server that is not there, tokens, lists, and the shell script before it.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { listen } from '#dimse/acceptor.ts';
import { negotiate } from '#dimse/negotiate.ts';
import type { Acceptor } from '#dimse/types.ts';
import { freePort, type GantryServer, startServer } from '../peers/server.ts';
import { GROUPS, load, NAMES } from './commands.ts';
import { progress } from './progress.ts';
import { run } from './run.testing.ts';
import { table, width } from './table.ts';

const BIN = join(import.meta.dirname, 'bin.sh');

describe('usage', () => {
  test('every command stands in one group of the overview, and its help teaches', async () => {
    assert.deepEqual(Object.values(GROUPS).flat().sort(), [...NAMES].sort());
    const overview = await run(['--help']);
    assert.equal(overview.code, 0);
    for (const name of NAMES) {
      assert.match(overview.out, new RegExp(`^  ${name} +\\S`, 'm'));
      const { code, out } = await run([name, '--help']);
      assert.equal(code, 0, name);
      assert.match(out, /^Usage: gantry /m, name);
      assert.match(out, /^Examples:\n {2}\S/m, name);
      assert.match(out, /^Exit codes:/m, name);
      for (const option of Object.keys((await load(name)).options))
        assert.ok(out.includes(`--${option}`), `${name} --${option}`);
    }
  });

  for (const [args, says] of [
    [['stauts'], /no command stauts; did you mean status\?/],
    [['status', '--jsn'], /--jsn is no option of it; did you mean --json\?/],
    [['--json', 'status'], /the command comes first/],
    [['status', 'extra'], /too many arguments/],
    [['get'], /it takes STUDY/],
    [['find', 'PatientNam=X'], /PatientNam is no DICOM keyword or tag; did you mean PatientName\?/],
    [['find', `${'x'.repeat(100)}=1`], /this is no DICOM keyword/],
    [['find', 'PatientName'], /a key and a value/],
    [['find', '--limit', '0'], /--limit is a whole number from 1 to 10000/],
    [['find', '--level', 'patient'], /study, series or instance/],
    [['import', '/no/such/folder'], /cannot be read \(ENOENT\)/],
    [['delete', '1.2.3'], /say --yes/],
    [['delete', '1.2.3', '--instance', '1'], /--instance needs its --series/],
    [['trash', 'list'], /ls, restore or purge/],
    [['trash', 'restore'], /takes a study/],
    [['trash', 'purge', '1.2.3', '--json'], /say --yes/],
    [['hold', '1.2.3', '--lift', '--reason', 'x'], /goes with a hold/],
    [['queue', 'retry', 'q'], /takes a queue and a key/],
    [['echo'], /name the peers, or say --all/],
    [['echo', 'A', '--all'], /name the peers, or say --all/],
    [['export', '1.2.3'], /say where to/],
    [['export', '--to', 'x'], /name the studies, or say --all/],
    [['export', '1.2.3', '--to', 'x.zip'], /a folder or a \.tar/],
    [['status', '--token-file', '/no/such/file'], /token file cannot be read/],
    [['status', '--server', 'http://:::'], /--server is a URL/],
    [['verify', '--offline', '--server', 'http://localhost:1'], /contradict/],
    [['send', '/tmp', '--port', '0'], /--port is a number/],
    [['send', '/tmp', '--called', 'A-TITLE-OF-17-CHA'.padEnd(17, 'X')], /AE title/],
  ] as [string[], RegExp][]) {
    test(`gantry ${args.join(' ').slice(0, 50)}: exit code 2`, async () => {
      // A delete of what cannot be confirmed asks nobody: none of these needs a server.
      const { code, err, out } = await run(args);
      if (args.includes('--json') && args[0] !== '--json')
        assert.equal((JSON.parse(err) as { error: string }).error, 'usage');
      assert.match(err, says);
      assert.equal(code, 2);
      assert.equal(out, '');
    });
  }

  test('a server that is not there: exit code 3, with what to do about it; as JSON too', async () => {
    const server = `http://127.0.0.1:${await freePort()}`;
    for (const args of [
      ['status'],
      ['find'],
      ['get', '1.2.3'],
      ['trash', 'ls'],
      ['import', import.meta.dirname],
      ['verify'],
      ['rebuild'],
      ['conformance'],
    ]) {
      const { code, err } = await run([...args, '--server', server]);
      assert.equal(code, 3, args.join(' '));
      assert.match(err, /gantry up/);
    }
    const { err, code } = await run(['status', '--json', '--server', server]);
    assert.equal(code, 3);
    assert.equal((JSON.parse(err) as { error: string }).error, 'unreachable');
  });

  test('columns are aligned for wide characters, and no control character reaches the terminal', () => {
    const rows = [
      { a: '山田^太郎', b: 1 },
      { a: 'x\u001b[2J\ny', b: 10 },
    ];
    const text = table(rows, [
      { title: 'NAME', value: (row) => row.a },
      { title: 'NO', value: (row) => row.b, right: true },
    ]);
    assert.equal(text, 'NAME       NO\n山田^太郎   1\nx\ufffd[2J\ufffdy    10\n');
  });
});

test('a bar on a terminal, within its width; nothing in a log file', () => {
  for (const [isTTY, columns] of [
    [true, 80],
    [true, 20],
    [true, 0],
    [false, 80],
  ] as const) {
    let written = '';
    const stream = {
      isTTY,
      columns,
      write: (text: string) => (written += text) !== '',
    } as unknown as NodeJS.WritableStream;
    const bar = progress(stream, false);
    bar.show(50, 100, 1000, 'instances');
    bar.end();
    if (!isTTY) assert.equal(written, '');
    else {
      const line = written.split('\u001b[2K')[1]!.replace('\r', '');
      assert.ok(width(line) < (columns || 80), line);
      assert.match(line, columns === 20 ? /^█+░*$/ : /^█{12}░{12} 50 % {2}50 of 100 {2}instances$/);
      assert.ok(written.endsWith('\r\u001b[2K')); // it leaves no trace
    }
  }
});

describe('with a server', { timeout: 120_000 }, () => {
  let server: GantryServer;
  let peer: Acceptor;
  let env: Record<string, string>;

  before(async () => {
    peer = await listen({
      host: '127.0.0.1',
      port: 0,
      onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
      onAssociation: async (association) => {
        for await (const incoming of association.messages()) await association.respond(incoming, { status: 0 });
      },
    });
    const dead = await freePort();
    server = await startServer({
      yaml: `peers:
  - {aeTitle: ALIVE, host: 127.0.0.1, port: ${peer.port}}
  - {aeTitle: DEAD, host: 127.0.0.1, port: ${dead}}
  - {aeTitle: CALLER}
`,
    });
    env = { GANTRY_HTTP_PORT: String(server.httpPort), GANTRY_DIMSE_PORT: String(server.dimsePort) };
  });
  after(async () => {
    await server?.close();
    await peer?.close(0);
  });

  test('status', async () => {
    const { code, out } = await run(['status'], env);
    assert.equal(code, 0);
    assert.match(out, /0 patients, 0 studies, 0 series, 0 instances/);
    assert.equal((await run(['status', '--json'], env)).json<{ ready: boolean }>().ready, true);
  });

  test('peers and echo', async () => {
    const peers = await run(['peers'], env);
    assert.equal(peers.code, 0);
    assert.match(peers.out, /We are GANTRY at .* port \d+; only these peers may call/);
    assert.match(peers.out, /^ALIVE +127\.0\.0\.1 +\d+ +echo store find move get commitment$/m);
    assert.equal((await run(['echo', 'ALIVE'], env)).code, 0);
    const all = await run(['echo', '--all', '--json'], env);
    assert.equal(all.code, 1);
    assert.deepEqual(
      all.json<{ aeTitle: string; ok: boolean }[]>().map(({ aeTitle, ok }) => [aeTitle, ok]),
      [
        ['ALIVE', true],
        ['DEAD', false],
      ],
    );
    const unknown = await run(['echo', 'NOBODY'], env);
    assert.equal(unknown.code, 1);
    assert.match(unknown.err, /NOBODY is not under peers:/);
  });

  test('lists that are empty say so to people and give [] to scripts', async () => {
    for (const args of [['trash', 'ls'], ['conflicts'], ['queue', 'ls'], ['commitments'], ['find']]) {
      const people = await run(args, env);
      assert.deepEqual([people.code, people.out], [0, ''], args.join(' '));
      assert.match(people.err, /empty|no /, args.join(' '));
      assert.deepEqual((await run([...args, '--json'], env)).json(), [], args.join(' '));
    }
  });

  test('what is not there is a failure', async () => {
    for (const args of [
      ['queue', 'retry', 'no', 'such'],
      ['queue', 'remove', 'no', 'such'],
      ['trash', 'restore', '1.2.3'],
      ['trash', 'purge', '1.2.3', '--yes'],
      ['delete', '1.2.3', '--yes'],
      ['hold', '1.2.3'],
      ['hold', '1.2.3', '--lift'],
      ['get', '1.2.3'],
    ]) {
      const { code, err } = await run(args, env);
      assert.equal(code, 1, args.join(' '));
      assert.match(err, /not in|no such/, args.join(' '));
    }
  });

  test('conformance, compact and reclaim', async () => {
    const statement = await run(['conformance'], env);
    assert.match(statement.out, /^# DICOM conformance statement/);
    assert.equal((await run(['conformance', '--json'], env)).json<{ markdown: string }>().markdown, statement.out);
    assert.equal((await run(['compact', '--json'], env)).json<{ instancesMoved: number }>().instancesMoved, 0);
    assert.match((await run(['reclaim', '--now'], env)).out, /0 objects removed/);
  });

  test('something else at that address', async () => {
    const port = await freePort();
    const other = (await import('node:http'))
      .createServer((_, response) => response.end('hello'))
      .listen(port, '127.0.0.1');
    await once(other, 'listening');
    const { code, err } = await run(['status', '--server', `127.0.0.1:${port}`]);
    other.close();
    assert.equal(code, 3);
    assert.match(err, /not as Gantry does/);
  });

  test('a token: asked for, and taken from a file', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'gantry-token-')), 'tokens');
    writeFileSync(file, '# ours\n0123456789abcdef0123456789abcdef  cli\n');
    const closed = await startServer({ env: { GANTRY_HTTP_TOKEN_FILE: file } });
    try {
      const at = { GANTRY_HTTP_PORT: String(closed.httpPort) };
      const without = await run(['status'], at);
      assert.equal(without.code, 3);
      assert.match(without.err, /--token-file/);
      assert.equal((await run(['import', import.meta.dirname], at)).code, 3);
      assert.equal((await run(['status', '--token-file', file], at)).code, 0);
      assert.equal((await run(['status'], { ...at, GANTRY_TOKEN_FILE: file })).code, 0);
    } finally {
      await closed.close();
    }
  });

  test('bin.sh works through a link, from any folder', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'gantry-link-'));
    symlinkSync(BIN, join(elsewhere, 'first'));
    symlinkSync('first', join(elsewhere, 'gantry'));
    const { stdout } = await promisify(execFile)(join(elsewhere, 'gantry'), ['status', '--json'], {
      cwd: elsewhere,
      env: { ...process.env, ...env },
    });
    assert.equal((JSON.parse(stdout) as { ready: boolean }).ready, true);
    const failed = await promisify(execFile)(join(elsewhere, 'gantry'), ['nonsense'], { cwd: elsewhere }).catch(
      (error) => error,
    );
    assert.equal(failed.code, 2);
  });
});

test('up is the server itself: it answers, and TERM ends it in order', { timeout: 120_000 }, async () => {
  const [http, dimse] = [await freePort(), await freePort()];
  const child = spawn(BIN, ['up'], {
    env: {
      ...process.env,
      GANTRY_DATA_DIR: mkdtempSync(join(tmpdir(), 'gantry-up-')),
      GANTRY_HTTP_PORT: String(http),
      GANTRY_DIMSE_PORT: String(dimse),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  let log = '';
  for await (const chunk of child.stdout) {
    log += String(chunk);
    if (/"msg":"ready"/.test(log)) break;
  }
  child.stdout.resume();
  assert.equal((await run(['status'], { GANTRY_HTTP_PORT: String(http) })).code, 0);
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
});
