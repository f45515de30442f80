// Hostile peers in a process of their own, until standard input ends. Its orders come as JSON in argv; what it did goes to stdout.
import { type Socket, connect as tcp } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { deflateRawSync } from 'node:zlib';
import { writePart10Prefix } from '#dicom/part10.ts';
import { CT, EXPLICIT, makeInstance } from '../chaos/instances.ts';
import { stowRequest } from '../peers/stow-request.ts';

const { httpPort, dimsePort } = JSON.parse(process.argv[2]!) as { httpPort: number; dimsePort: number };
const DEFLATED = '1.2.840.10008.1.2.1.99';
const IDLE = 2_000;
const did: Record<string, number> = {};
const count = (what: string) => (did[what] = (did[what] ?? 0) + 1);
const ended = new AbortController();
process.stdin.on('end', () => ended.abort()).resume();

const dial = (port: number): Socket => {
  const socket = tcp(port, '127.0.0.1');
  socket.on('error', () => undefined); // what hostile peers get
  socket.resume();
  return socket;
};
async function often(ms: number, work: () => unknown): Promise<void> {
  while (!ended.signal.aborted) {
    await work();
    await sleep(ms, undefined, { signal: ended.signal }).catch(() => undefined); // the end wakes it
  }
}
async function stow(what: string, dataSet: Buffer, transferSyntaxUid: string): Promise<void> {
  count(what);
  const prefix = writePart10Prefix({ sopClassUid: CT, sopInstanceUid: '1.2.3', transferSyntaxUid });
  await fetch(`http://127.0.0.1:${httpPort}/dicom-web/studies`, {
    ...stowRequest([Buffer.concat([prefix, dataSet])]),
    signal: ended.signal,
  })
    .then((answer) => answer.arrayBuffer())
    .catch(() => undefined); // refused or cut off is what an attacker gets
}
const bomb = deflateRawSync(Buffer.alloc(100 * 2 ** 20), { level: 9 });
const item = Buffer.from('08001511fffffffffeff00e0ffffffff', 'hex');
const deep = Buffer.concat(Array(20_000).fill(item));
const lying = Buffer.from(makeInstance(4, 1, 1000).dataSet);
lying.writeUInt32LE(0x7ffffff0, lying.length - 1000 - 4);

/** Connections that say nothing: opened again when they are cut. */
const idle = new Set<Socket>();
const idler = () => {
  if (ended.signal.aborted) return;
  count('idle connections');
  const socket = dial(dimsePort);
  idle.add(socket);
  socket.on('close', () => {
    idle.delete(socket);
    setTimeout(idler, 1_000);
  });
};
for (let n = 0; n < IDLE; n++) idler();
const drips = [httpPort, dimsePort].flatMap((port) => Array.from({ length: 20 }, () => port));
const work = [
  ...drips.map(async (port) => {
    while (!ended.signal.aborted) {
      count('connections of a byte a second');
      const socket = dial(port);
      const bytes =
        port === httpPort ? Buffer.from('GET / HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaa') : Buffer.alloc(64, 1);
      for (let n = 0; !socket.destroyed && !ended.signal.aborted; n++) {
        socket.write(bytes.subarray(n % bytes.length, (n % bytes.length) + 1));
        await sleep(1_000, undefined, { signal: ended.signal }).catch(() => undefined); // the end wakes it
      }
      socket.destroy();
    }
  }),
  often(200, () => {
    count('PDU headers of 4 GB');
    dial(dimsePort).end(Buffer.from([4, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]));
    dial(dimsePort).end(Buffer.from([1, 0, 0xff, 0xff, 0xff, 0xf0, 0, 1]));
  }),
  often(2_000, () => stow('deflate bombs of 100 MB', bomb, DEFLATED)),
  often(500, () => stow('sequences 20,000 deep', deep, '1.2.840.10008.1.2')),
  often(200, () => stow('lengths that lie', lying, EXPLICIT)),
  often(200, () => {
    count('broken multiparts');
    const socket = dial(httpPort);
    socket.end(
      'POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/related; type="application/dicom"; boundary=x\r\nContent-Length: 10\r\n\r\n--x\r\n\r\n--x',
    );
  }),
];
process.stdout.write('begun\n');
await Promise.all(work);
for (const socket of idle) socket.destroy();
process.stdout.write(
  `${Object.entries(did)
    .map(([what, times]) => `${times} ${what}`)
    .join(', ')}\n`,
);
process.exit(0);
