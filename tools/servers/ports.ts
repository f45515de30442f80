// Ports for servers that are started and restarted: below the range from which the kernel gives ports to outgoing
// connections (32768 and above), or a restarted server could find its own port taken by somebody's connection.
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

const [FIRST, LAST] = [12_000, 32_000];
const given = new Set<number>();

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    server.close();
    await once(server, 'close');
    return true;
  } catch {
    // Taken (EADDRINUSE): the next one, then.
    return false;
  }
}

export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = randomInt(FIRST, LAST);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}

/** Somebody else can take a port between our look and the server's: then all again with others. */
export async function withFreePorts<T>(count: number, start: (ports: number[]) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePorts(count));
    } catch (error) {
      if (attempt === 3 || !/address already in use|EADDRINUSE|in use/i.test(String(error))) throw error;
    }
  }
}
