import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { toxic } from './toxic.ts';

/** Says everything twice, so that both directions are seen. */
let echo: Server;
let target: string;

before(async () => {
  echo = createServer((socket) => {
    // A client that is cut off is what is tested.
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  target = `127.0.0.1:${(echo.address() as { port: number }).port}`;
});
after(() => echo.close());

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

/** One listener for all: between two that are for one event each, data would be lost. */
function read(socket: Socket, length: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let got = 0;
  const take = (chunk: Buffer) => {
    chunks.push(chunk);
    got += chunk.length;
    if (got < length) return;
    socket.off('data', take).off('close', early);
    resolve(Buffer.concat(chunks));
  };
  const early = () => reject(new Error(`closed after ${got} of ${length} bytes`));
  socket.on('data', take).once('close', early);
  return promise;
}

const big = Buffer.from(Array.from({ length: 1 << 20 }, (_, at) => (at * 7919) % 251));

test('what goes through comes out the same, with jitter as well, and so does its end', async () => {
  const proxy = await toxic(target, { jitterMs: 3 });
  const socket = await open(proxy.port);
  const answer = read(socket, big.length);
  const closed = once(socket, 'close');
  socket.end(big);
  assert.deepEqual(await answer, big);
  await closed;
  await proxy.close();
});

test('a delay is for both ways', async () => {
  const proxy = await toxic(target, { delayMs: 60 });
  const socket = await open(proxy.port);
  const began = performance.now();
  socket.write('x');
  await read(socket, 1);
  assert.ok(performance.now() - began >= 118);
  socket.destroy();
  await proxy.close();
});

test('a bandwidth bounds, and goes when it is set to nothing', async () => {
  const proxy = await toxic(target, { bandwidth: 1 << 20 });
  const socket = await open(proxy.port);
  const began = performance.now();
  socket.write(big.subarray(0, 1 << 18));
  await read(socket, 1 << 18);
  assert.ok(performance.now() - began >= 240);
  // At this pace what follows would take a quarter of an hour.
  proxy.set({ bandwidth: 1024 });
  proxy.set({ bandwidth: 0 });
  socket.write(big);
  assert.deepEqual(await read(socket, big.length), big);
  socket.destroy();
  await proxy.close();
});

test('dropped: silence, for new connections too; afterwards what was under way arrives', async () => {
  const proxy = await toxic(target);
  const socket = await open(proxy.port);
  proxy.set({ partition: 'drop' });
  let heard = 0;
  socket.on('data', (chunk) => (heard += chunk.length));
  const arrived = read(socket, 5);
  socket.write('lost?');
  const late = await open(proxy.port);
  late.write('and me?');
  // As long as it takes others to go through all of this.
  const other = await toxic(target);
  for (let round = 0; round < 20; round++) {
    const witness = await open(other.port);
    witness.write('x');
    await read(witness, 1);
    witness.destroy();
    await turn();
  }
  assert.equal(heard, 0);
  proxy.set({ partition: 'none' });
  assert.equal((await read(late, 7)).toString(), 'and me?');
  assert.equal((await arrived).toString(), 'lost?');
  socket.destroy();
  late.destroy();
  await Promise.all([proxy.close(), other.close()]);
});

test('reset: open connections are cut, new ones too, until it is over', async () => {
  const proxy = await toxic(target);
  const socket = await open(proxy.port);
  socket.write('x');
  await read(socket, 1);
  const cut = once(socket, 'error');
  proxy.set({ partition: 'reset' });
  assert.equal((await cut)[0].code, 'ECONNRESET');
  const refused = connect(proxy.port, '127.0.0.1');
  const [error] = await once(refused, 'error');
  assert.equal(error.code, 'ECONNRESET');
  proxy.set({ partition: 'none' });
  const again = await open(proxy.port);
  again.write('y');
  assert.equal((await read(again, 1)).toString(), 'y');
  again.destroy();
  await proxy.close();
});

test('nobody behind it: the connection is cut', async () => {
  const gone = createServer().listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as { port: number };
  gone.close();
  await once(gone, 'close');
  const proxy = await toxic(`http://127.0.0.1:${port}`);
  const [error] = await once(connect(proxy.port, '127.0.0.1'), 'error');
  assert.equal(error.code, 'ECONNRESET');
  await proxy.close();
});
