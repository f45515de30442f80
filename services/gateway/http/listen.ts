import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import { GantryError } from '#platform/errors.ts';
import type { Settings } from '#platform/module.ts';

export interface Listening {
  port: number; // the same on every address
  hosts: string[];
  /** Takes no new connection; resolves when every answer in progress is at its end. */
  drain(): Promise<void>;
  /** Cuts off what is still there. */
  close(): void;
}

/** Listens on every address that `http.host` names. */
export async function listen(
  settings: Settings,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Listening> {
  const host = settings.string('http.host');
  const hosts = host === 'localhost' ? ['127.0.0.1', '::1'] : [host];
  const servers: Server[] = [];
  const connections = new Map<Socket, { answering: number }>();
  let draining = false;
  let port = settings.number('http.port');

  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    const connection = connections.get(socket);
    if (connection !== undefined) {
      connection.answering++;
      // Of the answer, not of the connection: its last byte has been given to the system.
      response.once('close', () => {
        if (--connection.answering === 0 && draining) socket.destroySoon();
      });
    }
    if (draining) response.setHeader('Connection', 'close');
    answer(request, response);
  };

  for (const one of hosts) {
    const server = createServer(
      {
        maxHeaderSize: settings.number('http.headersMax'),
        headersTimeout: settings.number('http.headersTimeoutMs'),
        requestTimeout: 0, // bodies of any size: the idle limit below watches them instead
        keepAliveTimeout: settings.number('http.keepAliveMs'),
        connectionsCheckingInterval: Math.min(5000, settings.number('http.headersTimeoutMs')),
        noDelay: true,
      },
      serve,
    );
    server.on('checkContinue', serve); // refused-body.ts says when the client may go on
    server.on('connection', (socket) => {
      connections.set(socket, { answering: 0 });
      socket.once('close', () => connections.delete(socket));
    });
    server.maxConnections = settings.number('http.connectionsMax');
    server.timeout = settings.number('http.bodyIdleMs');
    server.on('clientError', answerClientError);
    try {
      port = await new Promise<number>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ port, host: one, reusePort: settings.boolean('platform.reusePort') }, () =>
          resolve((server.address() as AddressInfo).port),
        );
      });
      servers.push(server);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      if (one === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) continue; // no IPv6 on this machine
      for (const open of servers) open.close();
      throw new GantryError(
        'unavailable',
        `cannot listen on ${one} port ${port} (${code}): is another Gantry running? Set http.port to another port.`,
        { cause },
      );
    }
  }

  return {
    port,
    hosts,
    async drain() {
      draining = true;
      // Not http's own close(): it destroys connections whose answer was written to its end and lies unsent in a buffer.
      const closed = servers
        .filter((server) => server.listening)
        .map((server) => new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve())));
      for (const [socket, { answering }] of connections) if (answering === 0) socket.destroy();
      await Promise.all(closed);
    },
    close() {
      for (const server of servers) server.close();
      for (const socket of connections.keys()) socket.destroy();
    },
  };
}

export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
