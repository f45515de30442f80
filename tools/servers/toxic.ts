// A bad network between a client and a TCP server: slow, narrow, silent or broken, and well again when told.
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';

export interface ToxicSettings {
  /** Every piece of data arrives so much later, in both directions. */
  delayMs: number;
  /** And up to so much later than that, by chance; the order of bytes stays. */
  jitterMs: number;
  /**
   * `drop`: nothing goes through and nobody is told, as when packets are lost (a new connection opens, and then nothing).
   * What was under way arrives when it is over, as TCP would repeat it. `reset`: all connections are cut, new ones too.
   */
  partition: 'none' | 'drop' | 'reset';
  /** Bytes a second and connection, in each direction; 0: no bound. */
  bandwidth: number;
}

export interface Toxic {
  readonly host: string;
  readonly port: number;
  /** `127.0.0.1:port` */
  readonly address: string;
  /** What is given changes, from now on, for open connections too. */
  set(settings: Partial<ToxicSettings>): void;
  readonly settings: Readonly<ToxicSettings>;
  /** Connections that are open. */
  readonly connections: number;
  close(): Promise<void>;
}

const HEALTHY: ToxicSettings = { delayMs: 0, jitterMs: 0, partition: 'none', bandwidth: 0 };

/** `target`: `host:port`, or a URL with both. */
export async function toxic(target: string, settings: Partial<ToxicSettings> = {}): Promise<Toxic> {
  const { hostname, port: targetPort } = new URL(target.includes('://') ? target : `tcp://${target}`);
  const network = new Network({ ...HEALTHY, ...settings });
  const sockets = new Set<Socket>();
  function keep(socket: Socket, other: () => Socket) {
    sockets.add(socket);
    socket.setNoDelay(true);
    // An error of one side ends the other, with a reset as well.
    socket.on('error', () => reset(other()));
    socket.on('close', () => {
      sockets.delete(socket);
      // In order: what it said is still on its way, and the end behind it. Otherwise: the other side is to know.
      if (!socket.readableEnded) reset(other());
    });
  }

  const server = createServer({ allowHalfOpen: true }, (client) => {
    if (network.settings.partition === 'reset') {
      reset(client);
      return;
    }
    const upstream = connect({ host: hostname, port: Number(targetPort), allowHalfOpen: true });
    keep(client, () => upstream);
    keep(upstream, () => client);
    client.pipe(network.way()).pipe(upstream);
    upstream.pipe(network.way()).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };

  return {
    host: '127.0.0.1',
    port,
    address: `127.0.0.1:${port}`,
    set(changes) {
      network.set(changes);
      if (network.settings.partition === 'reset') for (const socket of sockets) reset(socket);
    },
    get settings() {
      return network.settings;
    },
    get connections() {
      return Math.ceil(sockets.size / 2);
    },
    async close() {
      server.close();
      network.set({ partition: 'none' });
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}

/** A socket that is being shut down cannot be reset (libuv: EINVAL), and node then leaves it open for ever. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** The state that all ways through a proxy share. */
export class Network {
  settings: ToxicSettings;
  #healed = Promise.withResolvers<void>();

  constructor(settings: ToxicSettings) {
    this.settings = settings;
  }

  set(changes: Partial<ToxicSettings>): void {
    this.settings = { ...this.settings, ...changes };
    if (this.settings.partition !== 'drop') {
      this.#healed.resolve();
      this.#healed = Promise.withResolvers();
    }
  }

  /** Nothing, as long as packets are lost. */
  async passable(): Promise<void> {
    while (this.settings.partition === 'drop') await this.#healed.promise;
  }

  /** One direction of one connection. The end of the stream goes the same way as its bytes. */
  way(): Transform {
    // When what came before has left: nothing overtakes.
    let before = Promise.resolve();
    let free = 0;
    const pass = (bytes: number): Promise<void> => {
      const { delayMs, jitterMs, bandwidth } = this.settings;
      const now = performance.now();
      // A narrow way: this piece is through when those before it are, and its own time has passed.
      free = bandwidth > 0 ? Math.max(now, free) + (1000 * bytes) / bandwidth : now;
      const due = delayMs + Math.random() * jitterMs + (free - now);
      const arrived = due > 0 ? new Promise<void>((resolve) => setTimeout(resolve, due)) : Promise.resolve();
      before = Promise.all([before, arrived]).then(() => this.passable());
      return before;
    };
    // Bytes under way: as with a real network there is room for some, and then the sender waits.
    let underWay = 0;
    let waiting: (() => void) | undefined;
    return new Transform({
      highWaterMark: PIECE,
      transform(chunk: Buffer, _encoding, done) {
        underWay += chunk.length;
        void pass(chunk.length).then(() => {
          underWay -= chunk.length;
          if (!this.destroyed) this.push(chunk);
          const next = waiting;
          waiting = undefined;
          next?.();
        });
        if (underWay < WINDOW) done();
        else waiting = done;
      },
      flush(done) {
        void pass(0).then(() => done());
      },
    });
  }
}

const PIECE = 64 * 1024;
/** As much as a TCP window of usual size holds: otherwise a delay would be a bandwidth too. */
const WINDOW = 4 * 1024 * 1024;
