/** Test support: a peer that says exactly the bytes it is told to (after pynetdicom's parrot), and hears whole PDUs. */
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { after } from 'node:test';
import { type CommandSet, encodeCommand } from './command.ts';
import { APPLICATION_CONTEXT, type AssociateRq, encodePdu, PDU, type Pdu, type Pdv } from './pdu.ts';
import { PduReader } from './reader.ts';

// A test that fails half-way must not keep the process alive.
const closers: (() => void)[] = [];
after(() => {
  for (const close of closers) close();
});

export class Parrot {
  readonly socket: Socket;
  readonly heard: Pdu[] = [];
  private pdvs: Pdv[] = [];
  private partial: Buffer[] = [];
  private waiters: (() => void)[] = [];
  isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    const reader = new PduReader(
      {
        begin: () => {},
        fragment: (contextId, command, data, last) => {
          this.partial.push(data);
          // Good enough for what Gantry sends: one PDV a PDU, and the reader says when a PDV that is the last one ends.
          if (last) this.endPdv(contextId, command, true);
          else this.openPdv = { contextId, command };
        },
        endOfData: () => {
          if (this.openPdv !== undefined && this.partial.length > 0) {
            this.endPdv(this.openPdv.contextId, this.openPdv.command, false);
          }
          this.hear({ type: PDU.P_DATA_TF, pdvs: this.pdvs });
          this.pdvs = [];
        },
        pdu: (pdu) => this.hear(pdu),
      },
      { controlPduLengthMax: 1 << 20, pduLengthReceived: 1 << 26 },
    );
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => {}); // a reset is one of the things that peers of a parrot do
    socket.on('close', () => {
      this.isClosed = true;
      this.wake();
    });
  }

  private openPdv: { contextId: number; command: boolean } | undefined;

  private endPdv(contextId: number, command: boolean, last: boolean): void {
    this.pdvs.push({ contextId, command, last, data: Buffer.concat(this.partial) });
    this.partial = [];
    this.openPdv = undefined;
  }

  private hear(pdu: Pdu): void {
    this.heard.push(pdu);
    this.wake();
  }

  private wake(): void {
    for (const waiter of this.waiters.splice(0)) waiter();
  }

  say(...what: (Buffer | Pdu)[]): void {
    this.socket.write(Buffer.concat(what.map((one) => (Buffer.isBuffer(one) ? one : encodePdu(one)))));
  }

  /** The next PDU that was heard; undefined when the connection closed instead. */
  async hearNext(): Promise<Pdu | undefined> {
    while (this.heard.length === 0 && !this.isClosed) await new Promise<void>((resolve) => this.waiters.push(resolve));
    return this.heard.shift();
  }

  async closed(): Promise<void> {
    while (!this.isClosed) await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  close(): void {
    this.socket.destroy();
  }
}

export async function parrotTo(port: number): Promise<Parrot> {
  const socket = net.connect({ host: '127.0.0.1', port });
  await once(socket, 'connect');
  closers.push(() => socket.destroy());
  return new Parrot(socket);
}

/** A scripted SCP: `script` is run for each connection. */
export async function parrotServer(
  script: (parrot: Parrot) => Promise<void>,
): Promise<{ port: number; close(): void }> {
  const parrots = new Set<Parrot>();
  const server = net.createServer((socket) => {
    const parrot = new Parrot(socket);
    parrots.add(parrot);
    script(parrot).catch((error: unknown) => socket.destroy(error as Error));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.close();
    for (const parrot of parrots) parrot.close();
  };
  closers.push(close);
  return { port: (server.address() as net.AddressInfo).port, close };
}

export const VERIFICATION = '1.2.840.10008.1.1';
export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const FIND = '1.2.840.10008.5.1.4.1.2.2.1';
export const GET = '1.2.840.10008.5.1.4.1.2.2.3';
export const EXPLICIT = '1.2.840.10008.1.2.1';
export const IMPLICIT = '1.2.840.10008.1.2';

export function associateRq(changes: Partial<AssociateRq> = {}): Pdu {
  return {
    type: PDU.ASSOCIATE_RQ,
    protocolVersion: 1,
    calledAeTitle: 'SCP',
    callingAeTitle: 'PARROT',
    applicationContext: APPLICATION_CONTEXT,
    contexts: [
      { id: 1, abstractSyntax: VERIFICATION, transferSyntaxes: [IMPLICIT] },
      { id: 3, abstractSyntax: CT, transferSyntaxes: [EXPLICIT] },
      { id: 5, abstractSyntax: FIND, transferSyntaxes: [IMPLICIT] },
    ],
    user: { maxPduLength: 16384, implementationClassUid: '1.2.3', roles: [], extended: [], commonExtended: [] },
    ...changes,
  };
}

export function pData(...pdvs: Pdv[]): Pdu {
  return { type: PDU.P_DATA_TF, pdvs };
}

export function commandPdv(contextId: number, command: CommandSet): Pdv {
  return { contextId, command: true, last: true, data: encodeCommand(command) };
}

export function dataPdv(contextId: number, data: Buffer | string, last = true): Pdv {
  return { contextId, command: false, last, data: Buffer.from(data as string) };
}
