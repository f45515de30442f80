// Readers that are slow, go away, or are still reading at a shutdown; senders that are refused while they send.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, truncateSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { type Made, make, pathOf, stow } from './dicomweb.testing.ts';
import { type GantryServer, startServer } from './server.ts';

const MIB = 2 ** 20;
const INSTANCE_BYTES = 64 * MIB;
const ON_LINUX = process.platform === 'linux' ? false : 'reads /proc';

/** Reads what has come until `bytes` are there, then stops reading. */
async function readSome(answer: IncomingMessage, bytes: number): Promise<number> {
  let got = 0;
  for await (const chunk of answer.iterator({ destroyOnReturn: false })) {
    got += (chunk as Buffer).length;
    if (got >= bytes) break;
  }
  return got;
}

describe('slow readers', { timeout: 5 * 60_000, skip: ON_LINUX }, () => {
  let server: GantryServer;
  let study: Made;

  before(async () => {
    server = await startServer();
    study = make();
    for (let n = 0; n < 4; n++) {
      const large = make({
        study: study.study,
        series: study.series,
        extra: { '00420011': { vr: 'OB', InlineBinary: Buffer.alloc(INSTANCE_BYTES, n + 1).toString('base64') } },
      });
      assert.equal((await stow(server, [large.bytes])).status, 200);
    }
  });
  after(() => server?.close());

  const download = async (): Promise<IncomingMessage> => {
    const request = httpRequest(`${server.dicomWeb}/studies/${study.study}`, { agent: false });
    request.end();
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    assert.equal(answer.statusCode, 200);
    assert.ok(Number(answer.headers['content-length']) > 4 * INSTANCE_BYTES);
    return answer;
  };
  const rss = (): number =>
    Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.process.pid}/status`, 'utf8'))![1]) * 1024;
  const openArchiveFiles = (): number =>
    readdirSync(`/proc/${server.process.pid}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${server.process.pid}/fd/${fd}`).startsWith(`${server.dataDir}/archive`);
      } catch {
        return false; // closed since the directory was read
      }
    }).length;

  test('three that stop after a megabyte cost no memory, and what they hold is freed when they go', async () => {
    await readSome(await download(), 5 * INSTANCE_BYTES);
    const [before, files] = [rss(), openArchiveFiles()];
    const readers = await Promise.all([download(), download(), download()]);
    await Promise.all(readers.map((reader) => readSome(reader, MIB)));
    // Others are served meanwhile; had the three been read ahead, 768 MiB would be in memory by now.
    for (let n = 0; n < 200; n++)
      await (await fetch(`${server.dicomWeb}/studies/${study.study}/metadata`)).arrayBuffer();
    assert.ok(rss() - before < 200 * MIB, `grew by ${Math.round((rss() - before) / MIB)} MiB`);
    for (const reader of readers) reader.destroy();
    while (openArchiveFiles() > files) await (await fetch(`${server.origin}/readyz`)).arrayBuffer();
    const line = () => server.log().match(/"route":"\/dicom-web\/studies\/:study","status":200/g)?.length ?? 0;
    assert.ok(line() >= 1);
    assert.doesNotMatch(server.log(), /an answer broke off|"level":(50|60)/, 'who goes away is no error of ours');
  });

  test('an archive that breaks off amid an answer: the connection is cut, and the log says why', async () => {
    const spoilt = await startServer();
    const { bytes, study: uid } = make({
      extra: { '00420011': { vr: 'OB', InlineBinary: Buffer.alloc(INSTANCE_BYTES, 7).toString('base64') } },
    });
    assert.equal((await stow(spoilt, [bytes])).status, 200);
    const request = httpRequest(`${spoilt.dicomWeb}/studies/${uid}`, { agent: false });
    request.end();
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    await readSome(answer, MIB);
    const large = join(spoilt.dataDir, 'archive/large');
    for (const file of readdirSync(large, { recursive: true, withFileTypes: true }))
      if (file.isFile()) truncateSync(join(file.parentPath, file.name), INSTANCE_BYTES / 2);
    await assert.rejects(readSome(answer, Number.POSITIVE_INFINITY));
    while (!spoilt.log().includes('an answer broke off')) await once(spoilt.process.stdout!, 'data');
    await spoilt.close();
  });

  test('a download in progress outlives TERM; an idle connection does not delay it, and nothing new is taken', async () => {
    const idle = connect(server.httpPort, '127.0.0.1');
    await once(idle, 'connect');
    idle.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(idle, 'data');
    const closed = once(idle, 'close');
    const answer = await download();
    let got = await readSome(answer, MIB);
    const exit = server.signal('SIGTERM');
    await closed;
    await assert.rejects(fetch(`${server.origin}/healthz`));
    got += await readSome(answer, Number.POSITIVE_INFINITY);
    assert.equal(got, Number(answer.headers['content-length']));
    assert.equal(await exit, 0);
  });
});

describe('refused while sending', { timeout: 2 * 60_000 }, () => {
  let server: GantryServer;
  before(async () => {
    server = await startServer({ env: { GANTRY_HTTP_REFUSED_BODY_MAX: '100 MiB' } });
  });
  after(() => server?.close());

  const open = async (): Promise<Socket> => {
    const socket = connect(server.httpPort, '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  };
  const written = (socket: Socket, chunk: Buffer): Promise<boolean> =>
    new Promise((resolve) => socket.write(chunk, (error) => resolve(!error)));
  /** As a client that looks for the answer only when it has sent everything. */
  const sendAll = async (socket: Socket, head: string, bytes: number): Promise<void> => {
    socket.write(`POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n${head}\r\n`);
    const chunk = Buffer.alloc(MIB, 'x');
    for (let sent = 0; sent < bytes; sent += chunk.length)
      if (socket.destroyed || !(await written(socket, chunk))) return;
  };

  for (const [what, head, status] of [
    ['no Content-Type', '', 415],
    ['a wrong Content-Type', 'Content-Type: text/plain\r\n', 415],
    ['a Content-Encoding', 'Content-Type: application/dicom\r\nContent-Encoding: gzip\r\n', 415],
    ['an Accept that nothing fits', 'Content-Type: application/dicom\r\nAccept: image/png\r\n', 406],
  ] as const) {
    test(`50 MB with ${what}: ${status} arrives, and the connection goes on`, async () => {
      const socket = await open();
      socket.pause();
      await sendAll(socket, head, 50 * MIB);
      socket.resume();
      const [answer] = (await once(socket, 'data')) as [Buffer];
      assert.match(answer.toString(), new RegExp(`^HTTP/1.1 ${status} `));
      socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      assert.match(await text(socket), /HTTP\/1.1 200 OK/);
    });
  }

  test('beyond http.refusedBodyMax the connection is closed', async () => {
    const socket = await open();
    socket.on('error', () => {}); // a reset is what is expected
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await sendAll(socket, '', 200 * MIB);
    await closed;
    assert.ok(socket.bytesWritten < 200 * MIB);
  });

  test('Expect: 100-continue is answered only where the body is wanted', async () => {
    const refused = await open();
    refused.write(
      'POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n',
    );
    const answer = await text(refused);
    assert.match(answer, /^HTTP\/1.1 415 /);
    assert.match(answer, /connection: close/i);

    const made = make();
    const taken = await open();
    taken.write(
      `POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${made.bytes.length}\r\nContent-Type: application/dicom\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`,
    );
    const [first] = (await once(taken, 'data')) as [Buffer];
    assert.match(first.toString(), /^HTTP\/1.1 100 Continue\r\n\r\n$/);
    taken.write(made.bytes);
    assert.match(await text(taken), /^HTTP\/1.1 200 /);
    assert.equal((await fetch(`${server.dicomWeb}${pathOf(made)}`)).status, 200);
  });
});
