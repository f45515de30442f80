// The DIMSE door against DCMTK's tools, and against dcmjs-dimse.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { readPart10Prefix } from '#dicom/part10.ts';
import { requirePeer, without } from '../setup/peers.ts';
import { sha, type TestFile, testFiles } from './files.ts';
import { REFUSALS } from './refused.ts';
import { freePort, type GantryServer, startServer } from './server.ts';

const run = promisify(execFile);
/** DCMTK waits 40 ms for Nagle's algorithm unless told otherwise. */
const ENV = { ...process.env, TCP_NODELAY: '1' };
const dcmtk = (tool: string, ...args: string[]) => dcmtkIn(FOLDER, tool, ...args);
const dcmtkIn = async (cwd: string, tool: string, ...args: string[]) => {
  const { stdout, stderr } = await run(requirePeer(tool), args, { env: ENV, cwd, maxBuffer: 1 << 26 }).catch(
    (error: { stdout: string; stderr: string; code: number }) =>
      assert.fail(`${tool} ended with ${error.code}\n${error.stdout}\n${error.stderr}`),
  );
  return stdout + stderr;
};
const FOLDER = mkdtempSync(join(tmpdir(), 'gantry-dcmtk-'));
after(() => rmSync(FOLDER, { recursive: true, force: true }));
const folder = (name: string) => mkdtempSync(join(FOLDER, `${name}-`));

const dataSetOffset = (bytes: Buffer): number => {
  const prefix = readPart10Prefix(bytes, true);
  assert.ok(prefix.needMoreBytes === undefined);
  return prefix.dataSetOffset;
};

/** What DCMTK kept, as digests of data sets by what it calls its files. */
const keptIn = (dir: string): string[] =>
  readdirSync(dir).map((name) => {
    const bytes = readFileSync(join(dir, name));
    return sha(bytes.subarray(dataSetOffset(bytes)));
  });

const REFUSED = new Set(REFUSALS.flatMap((refusal) => refusal.files));
const SYNTAXES = /^1\.2\.840\.10008\.1\.2(\.1|\.4\.(50|70|90)|\.5)?$/;

describe('DCMTK at the DIMSE door', {
  skip: without('echoscu', 'storescu', 'findscu', 'movescu', 'getscu', 'storescp'),
  timeout: 10 * 60_000,
}, () => {
  let server: GantryServer;
  let own: number; // movescu's own port
  let elsewhere: number; // a storescp of its own
  let files: TestFile[];

  before(async () => {
    [own, elsewhere] = [await freePort(), await freePort()];
    const peer = (title: string, port: number) => `  - aeTitle: ${title}\n    host: 127.0.0.1\n    port: ${port}\n`;
    server = await startServer({ yaml: `peers:\n${peer('MOVESCU', own)}${peer('STORESCP', elsewhere)}` });
    const chosen = new Map<string, TestFile>();
    for (const file of (await testFiles()).files) {
      const { transferSyntaxUid: syntax, row } = file;
      if (row.class !== 'storable' || !file.hasMeta || row.size > 5e6 || !SYNTAXES.test(syntax)) continue;
      if (REFUSED.has(row.name)) continue;
      if (!chosen.has(syntax)) chosen.set(syntax, file);
    }
    files = [...chosen.values()];
    assert.ok(files.length >= 3);
  });
  after(() => server?.close());
  /** As Gantry keeps it: storescu may have written the file's data set anew. */
  const stored = async (file: TestFile): Promise<string> => {
    const path = `studies/${file.studyInstanceUid}/series/${file.seriesInstanceUid}/instances/${file.sopInstanceUid}`;
    const answer = await fetch(`${server.dicomWeb}/${path}`, {
      headers: { Accept: 'application/dicom; transfer-syntax=*' },
    });
    assert.equal(answer.status, 200);
    const bytes = Buffer.from(await answer.arrayBuffer());
    return sha(bytes.subarray(dataSetOffset(bytes)));
  };
  const door = () => ['-aec', 'GANTRY', '127.0.0.1', String(server.dimsePort)];

  test('echoscu: many, and a called title that is not ours', async () => {
    await dcmtk('echoscu', '--repeat', '20', ...door());
    await dcmtk('echoscu', '--max-pdu', '4096', '--propose-pc', '100', ...door());
    await assert.rejects(
      run(requirePeer('echoscu'), ['-v', '-aec', 'OTHER', '127.0.0.1', String(server.dimsePort)], { env: ENV }),
      (error: { stderr: string; stdout: string }) =>
        /Called AE Title Not Recognized/i.test(error.stderr + error.stdout),
    );
  });

  test('storescu: one file of each transfer syntax', async () => {
    for (const file of files) {
      // An association profile that proposes just this class and syntax.
      const profile = join(folder('profile'), 'one.cfg');
      writeFileSync(
        profile,
        `[[TransferSyntaxes]]\n[TS]\nTransferSyntax1 = ${file.transferSyntaxUid}\n[[PresentationContexts]]\n[PC]\n` +
          `PresentationContext1 = ${file.sopClassUid}\\TS\n[[Profiles]]\n[One]\nPresentationContexts = PC\n`,
      );
      await dcmtk('storescu', '-xf', profile, 'One', ...door(), file.row.path);
    }
  });

  test('findscu: Patient Root and Study Root, and a cancel', async () => {
    const [file] = files;
    const keys = ['-k', `0020,000d=${file!.studyInstanceUid}`];
    const count = async (...args: string[]) => {
      const into = folder('found');
      await dcmtk('findscu', ...args, '-X', '-od', into, ...door());
      return readdirSync(into).length;
    };
    assert.equal(await count('-S', '-k', '0008,0052=STUDY', ...keys), 1);
    assert.equal(await count('-S', '-k', '0008,0052=SERIES', ...keys, '-k', '0020,000e'), 1);
    assert.equal(
      await count(
        '-S',
        ...['-k', '0008,0052=IMAGE'],
        ...keys,
        ...['-k', `0020,000e=${file!.seriesInstanceUid}`],
        ...['-k', '0008,0018'],
      ),
      1,
    );
    const studies = new Set(files.map((one) => one.studyInstanceUid)).size;
    assert.equal(await count('-S', '-k', '0008,0052=STUDY', '-k', '0020,000d'), studies);
    assert.ok((await count('-P', '-k', '0008,0052=PATIENT', '-k', '0010,0020')) > 0);
    assert.equal(await count('-S', '-k', '0008,0052=STUDY', '-k', '0020,000d=9.9.9'), 0);
    await dcmtk('findscu', '-S', '-k', '0008,0052=STUDY', '-k', '0020,000d', '--cancel', '1', ...door());
  });

  test('movescu: to itself, byte for byte', async () => {
    for (const file of files) {
      const into = folder('moved');
      // With +B movescu 3.6.7 writes where it stands, whatever -od says.
      await dcmtkIn(
        into,
        'movescu',
        '-S',
        ...['-k', '0008,0052=STUDY', '-k', `0020,000d=${file.studyInstanceUid}`],
        ...['-aet', 'MOVESCU', '-aem', 'MOVESCU', '+P', String(own), '+xa', '+B'],
        ...door(),
      );
      assert.ok(keptIn(into).includes(await stored(file)), file.row.name);
    }
  });

  test('movescu to a storescp elsewhere', async () => {
    const into = folder('elsewhere');
    const child = spawn(requirePeer('storescp'), ['+xa', '+B', '-od', into, String(elsewhere)], {
      env: ENV,
      stdio: 'ignore',
    });
    const gone = once(child, 'exit');
    try {
      for (let open = false; !open; ) {
        assert.equal(child.exitCode, null, 'storescp ended');
        const socket = net.connect({ host: '127.0.0.1', port: elsewhere });
        open = await new Promise<boolean>((resolve) => {
          socket.once('connect', () => resolve(true));
          socket.once('error', () => setTimeout(resolve, 20, false));
        });
        socket.destroy();
      }
      const [file] = files;
      await dcmtk(
        'movescu',
        '-S',
        ...['-k', '0008,0052=STUDY', '-k', `0020,000d=${file!.studyInstanceUid}`, '-aem', 'STORESCP'],
        ...door(),
      );
      assert.ok(keptIn(into).includes(await stored(file!)));
    } finally {
      child.kill('SIGKILL');
      await gone;
    }
  });

  test('getscu: byte for byte', async () => {
    // getscu proposes uncompressed syntaxes; a compressed instance is a failed sub-operation there.
    for (const file of files.filter((one) => one.transferSyntaxUid === '1.2.840.10008.1.2.1')) {
      const into = folder('got');
      const keys = ['-k', '0008,0052=STUDY', '-k', `0020,000d=${file.studyInstanceUid}`];
      await dcmtk('getscu', '-S', ...keys, '+B', '-od', into, ...door());
      assert.ok(keptIn(into).includes(await stored(file)), file.row.name);
    }
  });
});

describe('dcmjs-dimse at the DIMSE door', { timeout: 5 * 60_000 }, () => {
  let server: GantryServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server?.close());

  const dimse = createRequire(import.meta.url)('dcmjs-dimse');
  dimse.log.setLevel('error');
  const ask = async (request: { on(event: 'response', listener: (response: Answer) => void): void }) => {
    const answers: { status: number; dataSet: Record<string, unknown> | undefined }[] = [];
    const client = new dimse.Client();
    request.on('response', (response) =>
      answers.push({ status: response.getStatus(), dataSet: response.getDataset()?.getElements() }),
    );
    client.addRequest(request);
    const ended = once(client, 'closed');
    client.send('127.0.0.1', server.dimsePort, 'DCMJS', 'GANTRY');
    await ended;
    return answers;
  };
  interface Answer {
    getStatus(): number;
    getDataset(): { getElements(): Record<string, unknown> } | undefined;
  }

  test('C-ECHO', async () => {
    const [answer] = await ask(new dimse.requests.CEchoRequest());
    assert.equal(answer!.status, 0);
  });

  test('C-FIND', async () => {
    const { files } = await testFiles();
    const file = files.find(
      (one) => one.row.class === 'storable' && one.hasMeta && !REFUSED.has(one.row.name) && one.row.size < 1e6,
    )!;
    const stored = await fetch(`${server.origin}/api/v1/instances`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/dicom' },
      body: new Uint8Array(file.bytes),
    });
    assert.equal(((await stored.json()) as { status: number }).status, 0);
    const find = () =>
      ask(
        dimse.requests.CFindRequest.createStudyFindRequest({ StudyInstanceUID: file.studyInstanceUid, StudyDate: '' }),
      );
    // It came by another door and sender, so nothing makes this one wait for the index.
    let answers = await find();
    while (answers.length < 2) answers = await find();
    assert.deepEqual(
      answers.map(({ status }) => status),
      [0xff00, 0],
    );
    assert.equal(answers[0]!.dataSet!.StudyInstanceUID, file.studyInstanceUid);
  });
});
