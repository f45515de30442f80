// Hostile peers at both doors at once: each gets a clear refusal, and a modality beside them stores all it has.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type Socket, connect as tcp } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { writePart10Prefix } from '#dicom/part10.ts';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { CT, EXPLICIT, makeInstance } from '../chaos/instances.ts';
import { type GantryServer, startServer } from './server.ts';
import { stowRequest } from './stow-request.ts';

const DEFLATED = '1.2.840.10008.1.2.1.99';
const LIMITS = {
  GANTRY_HTTP_HEADERS_TIMEOUT_MS: '1000',
  GANTRY_HTTP_BODY_IDLE_MS: '1500',
  GANTRY_HTTP_HEADERS_MAX: '8KiB',
  GANTRY_HTTP_JSON_BODY_MAX: '2KiB',
  GANTRY_HTTP_CONNECTIONS_MAX: '40',
  GANTRY_HTTP_FRAMES_MAX: '10',
  GANTRY_HTTP_SEARCH_LIMIT: '2',
  GANTRY_HTTP_SEARCH_LIMIT_MAX: '3',
  GANTRY_DIMSE_ARTIM_MS: '1000',
  GANTRY_DIMSE_UNNEGOTIATED_MAX: '20',
};

/** What the server sends until it closes the connection. */
async function until(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => undefined); // a reset is an answer too
  await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}

describe('hostile peers', { timeout: 5 * 60_000 }, () => {
  let server: GantryServer;
  let next = 0;
  before(async () => {
    server = await startServer({ env: LIMITS });
  });
  after(() => server?.close());

  const http = () => tcp(server.httpPort, '127.0.0.1');
  const dimse = () => tcp(server.dimsePort, '127.0.0.1');

  /** A well-behaved modality: every instance is acknowledged. */
  async function modality(count: number): Promise<void> {
    const association = await connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'GOOD',
      calledAeTitle: 'GANTRY',
      contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
    });
    for (let i = 0; i < count; i++) {
      const made = makeInstance(4, next++, 50_000);
      assert.equal(
        (await store(association, { contextId: 1, sopClassUid: CT, sopInstanceUid: made.instance, data: made.dataSet }))
          .status,
        0,
      );
    }
    await association.release();
    await found();
  }
  /** The index follows the log; everything that was acknowledged is found in the end. */
  async function found(): Promise<void> {
    for (const until = Date.now() + 30_000; ; ) {
      const status = (await (await fetch(`${server.origin}/api/v1/status`)).json()) as { index: { instances: number } };
      if (status.index.instances === next) return;
      assert.ok(Date.now() < until, `${status.index.instances} of ${next} instances are found`);
    }
  }
  async function stow(part10: Buffer): Promise<number> {
    const answer = await fetch(`${server.dicomWeb}/studies`, stowRequest([part10]));
    await answer.arrayBuffer();
    return answer.status;
  }
  const part10 = (dataSet: Buffer, transferSyntaxUid: string) =>
    Buffer.concat([writePart10Prefix({ sopClassUid: CT, sopInstanceUid: '1.2.3', transferSyntaxUid }), dataSet]);
  const rss = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.process.pid}/status`, 'utf8'))![1]) * 1024;

  test('one byte a second in the headers of a request: 408', async () => {
    const socket = http();
    const answered = until(socket);
    const bytes = [...'GET /dicom-web/studies HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'];
    const drip = setInterval(() => socket.write(bytes.shift() ?? 'a'), 100);
    const text = await answered;
    clearInterval(drip);
    assert.match(text, /^HTTP\/1\.1 408 |^$/);
  });

  test('a body that stops coming: the connection ends', async () => {
    const socket = http();
    socket.write(
      `POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/related; type="application/dicom"; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n`,
    );
    await until(socket);
  });

  test('headers, bodies, frame lists and pages beyond their limits', async () => {
    const long = await fetch(`${server.origin}/api/v1/status`, { headers: { 'X-Long': 'x'.repeat(10_000) } });
    assert.equal(long.status, 431);
    const body = await fetch(`${server.origin}/api/v1/verify`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ studyInstanceUid: 'x'.repeat(5000) }),
    });
    assert.equal(body.status, 413);
    assert.equal(
      (
        await fetch(`${server.origin}/api/v1/verify`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: '{"nonsense":1}',
        })
      ).status,
      400,
    );
    assert.equal(
      (
        await fetch(`${server.origin}/api/v1/verify`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: '{',
        })
      ).status,
      400,
    );
    await modality(5);
    const many = Array.from({ length: 11 }, (_, i) => i + 1).join(',');
    const made = makeInstance(4, 0, 50_000);
    assert.equal(
      (
        await fetch(
          `${server.dicomWeb}/studies/${made.study}/series/${made.series}/instances/${made.instance}/frames/${many}`,
        )
      ).status,
      400,
    );
    for (const [query, rows] of [
      ['', 2],
      ['?limit=100', 3],
      ['?limit=1', 1],
    ] as const) {
      const page = await fetch(`${server.dicomWeb}/instances${query}`);
      assert.equal(((await page.json()) as unknown[]).length, rows);
      assert.equal(page.headers.get('warning') !== null, query !== '?limit=1', `a page that was cut says so: ${query}`);
    }
  });

  test('connections beyond http.connectionsMax are closed, and places come free again', async () => {
    const sockets = Array.from({ length: 60 }, http);
    const closed = await Promise.race(sockets.map((socket) => until(socket).then(() => true)));
    assert.equal(closed, true);
    for (const socket of sockets) socket.destroy();
    for (;;) {
      // The kernel tells the server about each close in its own time.
      const answer = await fetch(`${server.origin}/healthz`).catch(() => undefined);
      if (answer?.ok) break;
    }
  });

  test('ten thousand idle connections to the DICOM door keep no modality out', async () => {
    const before = rss();
    let opened = 0;
    let live: Socket[] = [];
    for (let round = 0; round < 50; round++) {
      const sockets = Array.from({ length: 200 }, dimse);
      for (const socket of sockets) socket.on('error', () => undefined);
      await Promise.all(sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
      opened += sockets.length;
      if (round % 10 === 0) await modality(3);
      live.push(...sockets);
      if (live.length > 1000) {
        for (const socket of live.slice(0, 600)) socket.destroy();
        live = live.slice(600);
      }
    }
    await modality(3);
    for (const socket of live) socket.destroy();
    assert.equal(opened, 10_000);
    assert.ok(rss() - before < 300 * 2 ** 20, `memory grew by ${Math.round((rss() - before) / 2 ** 20)} MiB`);
  });

  test('no A-ASSOCIATE-RQ, one byte at a time, and a header of 4 GB: the association ends', async () => {
    const silent = until(dimse());
    const giant = dimse();
    giant.write(Buffer.from([4, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]));
    await until(giant);
    const rq = dimse();
    rq.write(Buffer.from([1, 0, 0xff, 0xff, 0xff, 0xf0, 0, 1]));
    await until(rq);
    const slow = dimse();
    const ended = until(slow);
    const drip = setInterval(() => slow.write(Buffer.from([1])), 100);
    await ended;
    clearInterval(drip);
    await silent;
    await modality(2);
  });

  test('data sets that lie: bombs, depth, lengths', async () => {
    const before = rss();
    const bomb = deflateRawSync(Buffer.alloc(400 * 2 ** 20), { level: 9 });
    assert.equal(await stow(part10(bomb, DEFLATED)), 409);
    // A sequence in a sequence in a sequence …: implicit VR, undefined lengths.
    const open = Buffer.from([
      0x08, 0x00, 0x15, 0x11, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff,
    ]);
    assert.equal(await stow(part10(Buffer.concat(Array(100_000).fill(open)), '1.2.840.10008.1.2')), 409);
    const lying = makeInstance(4, 1, 1000).dataSet;
    const lengths = Buffer.from(lying);
    lengths.writeUInt32LE(0x7ffffff0, lengths.length - 1000 - 4);
    assert.equal(await stow(part10(lengths, EXPLICIT)), 409);
    const association = await connect({
      host: '127.0.0.1',
      port: server.dimsePort,
      callingAeTitle: 'LIAR',
      calledAeTitle: 'GANTRY',
      contexts: [
        { abstractSyntax: CT, transferSyntaxes: [EXPLICIT] },
        { abstractSyntax: CT, transferSyntaxes: [DEFLATED] },
      ],
    });
    for (const [contextId, data] of [
      [1, lengths],
      [3, bomb],
      [1, Buffer.alloc(0)],
      [1, part10(lying, EXPLICIT)],
    ] as const) {
      const { status } = await store(association, { contextId, sopClassUid: CT, sopInstanceUid: '1.2.3', data });
      assert.notEqual(status, 0);
    }
    await association.release();
    await modality(3);
    assert.ok(rss() - before < 400 * 2 ** 20, `memory grew by ${Math.round((rss() - before) / 2 ** 20)} MiB`);
  });

  test('broken multipart: an answer, and the server goes on', async () => {
    for (const body of [
      '',
      '--x',
      '--x\r\n',
      '--x\r\n\r\n',
      '--x--',
      'no boundary at all',
      `--x\r\n${'h: v\r\n'.repeat(10_000)}\r\n`,
      '--x\r\nContent-Type: application/dicom\r\n\r\nDICM',
    ]) {
      const answer = await fetch(`${server.dicomWeb}/studies`, {
        method: 'POST',
        headers: { 'Content-Type': 'multipart/related; type="application/dicom"; boundary=x' },
        body,
      });
      await answer.arrayBuffer();
      assert.ok(answer.status >= 400 && answer.status < 500, `${JSON.stringify(body.slice(0, 30))}: ${answer.status}`);
    }
    assert.equal(
      (
        await fetch(`${server.dicomWeb}/studies`, {
          method: 'POST',
          headers: { 'Content-Type': 'multipart/related; type="application/dicom"' },
          body: 'x',
        })
      ).status,
      400,
    );
    await modality(2);
  });

  test('after all of it: one process, ready, and every instance of the modality is found', async () => {
    assert.equal(server.process.exitCode, null);
    assert.equal((await fetch(`${server.origin}/readyz`)).status, 200);
    await modality(1);
    assert.doesNotMatch(server.log(), /"level":"fatal"/);
  });
});
