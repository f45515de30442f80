/** The upper layer of one connection (PS3.8): a socket driven by the table of fsm.ts, with its timers. Knows nothing of messages. */
import type { Socket } from 'node:net';
import { Deadline } from './deadline.ts';
import { AssociationError, type CloseReason, closedError } from './errors.ts';
import { type Effect, type Event, STATES, type State, transition } from './fsm.ts';
import type { Limits } from './limits.ts';
import { unacceptable } from './negotiate.ts';
import { type AssociateAc, type AssociateRq, encodePdu, PDU, PDU_NAMES, type Pdu, PduError } from './pdu.ts';
import { PduReader, type PduSink } from './reader.ts';
import { ABORT, ABORT_SOURCE, abortWords, rejected } from './reasons.ts';
import type { Counters } from './types.ts';

export interface UpperLayerUser {
  associateIndication(rq: AssociateRq): void;
  associateConfirm(ac: AssociateAc): void;
  /** A part of a PDV; see PduSink. */
  fragment(contextId: number, command: boolean, data: Buffer, last: boolean): void;
  /** A socket read has been dealt with. */
  received(bytes: number): void;
  releaseIndication(): void;
  /** Nothing more comes and nothing more can be sent. Called once; the socket may linger a little (Sta13). */
  ended(reason: CloseReason): void;
  socketClosed(): void;
  /** Our own code threw while it dealt with the peer's bytes; the association is aborted. */
  failed(error: unknown): void;
}

/** What an effect may need to know. */
interface Parameters {
  rq?: AssociateRq;
  ac?: AssociateAc;
  rj?: { result: number; source: number; reason: number };
  abort?: { source: number; reason: number };
  reason?: CloseReason;
  otherwise?: boolean;
}

const EVENT_OF_PDU: Record<number, Event> = {
  [PDU.ASSOCIATE_RQ]: 'Evt6',
  [PDU.ASSOCIATE_AC]: 'Evt3',
  [PDU.ASSOCIATE_RJ]: 'Evt4',
  [PDU.P_DATA_TF]: 'Evt10',
  [PDU.RELEASE_RQ]: 'Evt12',
  [PDU.RELEASE_RP]: 'Evt13',
  [PDU.ABORT]: 'Evt16',
};

/** More than a whole A-ASSOCIATE-RQ of any real peer. */
const STRANGER_LINGER_BYTES = 64 * 1024;

export class UpperLayer implements PduSink {
  readonly counters: Counters = {
    bytesReceived: 0,
    bytesSent: 0,
    pdusReceived: 0,
    messagesReceived: 0,
    messagesSent: 0,
  };
  private readonly socket: Socket;
  private readonly role: 'acceptor' | 'requestor';
  private readonly user: UpperLayerUser;
  private readonly limits: Limits;
  private readonly reader: PduReader;
  private currentState: State = 'Sta1';
  private indicatingData = false;
  private framingLost = false;
  private reason: CloseReason | undefined;
  private socketError: Error | undefined;
  private isPaused = false;
  private lingered = 0;
  private hadAssociation = false;
  private pdusAtArming = -1;
  private progressSinceArming = 0;
  private readonly pendingWrites = new Set<(error: Error) => void>();
  private readonly artim: Deadline;
  private readonly pduDeadline: Deadline;
  private readonly sendDeadline: Deadline;

  constructor(socket: Socket, role: 'acceptor' | 'requestor', user: UpperLayerUser, limits: Limits) {
    this.socket = socket;
    this.role = role;
    this.user = user;
    this.limits = limits;
    this.reader = new PduReader(this, limits);
    this.artim = new Deadline(() => this.event('Evt18', { reason: this.timeout('artimMs', 'no PDU came in time') }));
    this.pduDeadline = new Deadline(() => this.abortForTimeout('pduTimeoutMs', 'a PDU took too long to arrive'));
    this.sendDeadline = new Deadline(() => this.abortForTimeout('sendTimeoutMs', 'the peer did not take our data'));
    socket.setNoDelay(true);
    socket.setKeepAlive(true, limits.keepAliveMs);
    socket.on('data', (chunk: Buffer) => this.chunk(chunk));
    socket.on('error', (error: Error) => {
      this.socketError = error;
    });
    socket.on('end', () => this.transportClosed());
    socket.on('close', () => {
      this.transportClosed();
      this.artim.close();
      this.pduDeadline.close();
      this.sendDeadline.close();
      this.user.socketClosed();
    });
  }

  get state(): State {
    return this.currentState;
  }

  get endedBecause(): CloseReason | undefined {
    return this.reason;
  }

  get paused(): boolean {
    return this.isPaused;
  }

  // --- what the user asks for (request and response primitives)

  /** The acceptor's side of a new connection. */
  accepted(): void {
    this.event('Evt5');
  }

  /** The requestor's side, once the socket is connected. */
  associate(rq: AssociateRq): void {
    this.event('Evt1');
    this.event('Evt2', { rq });
  }

  /** False: the peer is gone meanwhile. */
  accept(ac: AssociateAc): boolean {
    if (this.currentState !== 'Sta3') return false;
    this.event('Evt7', { ac });
    return true;
  }

  reject(rj: { result: number; source: number; reason: number }): void {
    if (this.currentState === 'Sta3') this.event('Evt8', { rj, reason: rejected(rj) });
  }

  requestRelease(): boolean {
    return this.event('Evt11');
  }

  respondRelease(): void {
    this.event('Evt14', { reason: { kind: 'released', detail: 'released by the peer' } });
  }

  abort(reason: CloseReason): void {
    if (this.reason === undefined && transition(this.currentState, 'Evt15') !== undefined) {
      this.event('Evt15', { reason, abort: { source: ABORT_SOURCE.user, reason: ABORT.notSpecified } });
    } else if (this.reason === undefined) this.destroy(reason); // Sta2: nobody to tell yet
  }

  /** One of our deadlines: from the service provider, for no reason of Table 9-26. */
  abortForTimeout(limit: keyof Limits, detail: string): void {
    if (this.reason !== undefined) return;
    const abort = { source: ABORT_SOURCE.provider, reason: ABORT.notSpecified };
    this.event('Evt19', { reason: this.timeout(limit, detail), abort });
  }

  destroy(reason: CloseReason): void {
    this.end(reason);
    this.socket.destroy();
  }

  /** Encoded P-DATA-TF PDUs. Resolves when the kernel has taken them; rejects when the association ends. */
  write(buffers: readonly Buffer[]): Promise<void> {
    const step = transition(this.currentState, 'Evt9');
    if (step === undefined || this.reason !== undefined) {
      return Promise.reject(
        this.reason === undefined
          ? new AssociationError('released', `nothing can be sent now: ${STATES[this.currentState]}`)
          : closedError(this.reason),
      );
    }
    this.currentState = step.next;
    return new Promise((resolve, reject) => {
      this.pendingWrites.add(reject);
      this.sendDeadline.arm(this.limits.sendTimeoutMs);
      this.socket.cork();
      const lastOne = buffers.length - 1;
      for (let n = 0; n < lastOne; n++) this.socket.write(buffers[n]!);
      this.socket.write(buffers[lastOne]!, (error) => {
        this.pendingWrites.delete(reject);
        if (this.pendingWrites.size === 0) this.sendDeadline.disarm();
        if (error == null) resolve();
        else reject(this.lost(error));
      });
      this.socket.uncork();
      for (const buffer of buffers) this.counters.bytesSent += buffer.length;
    });
  }

  /** Back-pressure: the socket is not read, so the peer's TCP window closes. No receive deadline runs meanwhile. */
  pause(): void {
    if (this.isPaused || this.reason !== undefined) return;
    this.isPaused = true;
    this.socket.pause();
    this.pduDeadline.disarm();
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    if (this.reader.insidePdu && this.reason === undefined) this.armPduDeadline();
    this.socket.resume();
  }

  // --- what the peer sends

  private chunk(chunk: Buffer): void {
    this.counters.bytesReceived += chunk.length;
    if (this.currentState === 'Sta13') {
      this.lingered += chunk.length;
      // Whoever never had an association is owed less.
      const most = this.hadAssociation
        ? this.limits.lingerBytes
        : Math.min(this.limits.lingerBytes, STRANGER_LINGER_BYTES);
      if (this.lingered > most) this.socket.destroy();
    }
    if (this.framingLost || this.socket.destroyed) return;
    try {
      this.reader.push(chunk);
    } catch (error) {
      this.framingLost = true;
      if (error instanceof PduError) {
        const detail = this.reason === undefined ? error.message : this.reason.detail;
        this.event('Evt19', {
          reason: { kind: 'protocol-error', detail, limit: error.limit },
          abort: { source: ABORT_SOURCE.provider, reason: error.abortReason },
        });
      } else {
        this.abort({ kind: 'aborted', detail: 'internal error' });
        this.user.failed(error);
      }
    }
    this.watchPdu(chunk.length);
    if (this.reason === undefined) this.user.received(chunk.length);
  }

  private watchPdu(bytes: number): void {
    if (this.reason !== undefined || !this.reader.insidePdu) this.pduDeadline.disarm();
    else if (!this.isPaused) {
      this.progressSinceArming += bytes;
      const another = this.pdusAtArming !== this.counters.pdusReceived;
      if (another || !this.pduDeadline.armed || this.progressSinceArming >= this.limits.progressBytes)
        this.armPduDeadline();
    }
  }

  private armPduDeadline(): void {
    this.pdusAtArming = this.counters.pdusReceived;
    this.progressSinceArming = 0;
    this.pduDeadline.arm(this.limits.pduTimeoutMs);
  }

  /** PduSink. Only P-DATA-TF and what cannot be right now is decided by the header; the rest when it is whole. */
  begin(type: number): void {
    this.counters.pdusReceived++;
    if (type !== PDU.P_DATA_TF) return;
    this.indicatingData = false;
    this.peerEvent(type, {});
  }

  fragment(contextId: number, command: boolean, data: Buffer, last: boolean): void {
    if (this.indicatingData && this.reason === undefined) this.user.fragment(contextId, command, data, last);
  }

  endOfData(): void {}

  pdu(pdu: Pdu): void {
    switch (pdu.type) {
      case PDU.ASSOCIATE_RQ: {
        const rj = this.currentState === 'Sta2' ? unacceptable(pdu) : undefined;
        this.peerEvent(pdu.type, { rq: pdu, otherwise: rj !== undefined, rj, reason: rj && rejected(rj) });
        break;
      }
      case PDU.ASSOCIATE_AC:
        this.peerEvent(pdu.type, { ac: pdu });
        break;
      case PDU.ASSOCIATE_RJ:
        this.peerEvent(pdu.type, { reason: rejected(pdu), rj: pdu });
        break;
      case PDU.RELEASE_RQ:
        this.peerEvent(pdu.type, { otherwise: this.role === 'acceptor' });
        break;
      case PDU.RELEASE_RP:
        this.peerEvent(pdu.type, { reason: { kind: 'released', detail: 'released' } });
        break;
      case PDU.ABORT: {
        const { source, reason } = pdu;
        this.peerEvent(pdu.type, {
          reason: { kind: 'aborted-by-peer', detail: abortWords(source, reason), source, reason },
        });
        break;
      }
    }
  }

  /** An AA-1 or AA-8 that follows is the peer's fault, and this says which. */
  private peerEvent(type: number, parameters: Parameters): void {
    const unexpected: CloseReason = {
      kind: 'protocol-error',
      detail: `${PDU_NAMES[type]} while ${STATES[this.currentState]}`,
    };
    const event = EVENT_OF_PDU[type]!;
    const action = transition(this.currentState, event)?.action;
    const reason = action === 'AA-1' || action === 'AA-8' ? unexpected : parameters.reason;
    const abort = { source: ABORT_SOURCE.provider, reason: ABORT.unexpectedPdu };
    this.event(event, { ...parameters, reason, abort });
  }

  private transportClosed(): void {
    const detail =
      this.socketError === undefined
        ? 'the peer closed the connection'
        : `connection failed: ${errorCode(this.socketError)}`;
    this.event('Evt17', { reason: { kind: 'connection-lost', detail } });
  }

  // --- the machine

  /** False when the table has no such cell: for what we ask that means "too late". */
  private event(event: Event, parameters: Parameters = {}): boolean {
    const step = transition(this.currentState, event, parameters.otherwise);
    if (step === undefined) return false;
    this.currentState = step.next;
    if (step.next === 'Sta6') this.hadAssociation = true;
    for (const effect of step.effects) this.perform(effect, parameters);
    return true;
  }

  private perform(effect: Effect, parameters: Parameters): void {
    switch (effect) {
      case 'connect': // done by whoever made the socket
      case 'send-data': // write() does it
        break;
      case 'send-rq':
        this.sendControl({ type: PDU.ASSOCIATE_RQ, ...parameters.rq! });
        break;
      case 'send-ac':
        this.sendControl({ type: PDU.ASSOCIATE_AC, ...parameters.ac! });
        break;
      case 'send-rj': {
        const { result, source, reason } = parameters.rj!;
        this.sendControl({ type: PDU.ASSOCIATE_RJ, result, source, reason });
        this.end(parameters.reason!);
        break;
      }
      case 'send-release-rq':
        this.sendControl({ type: PDU.RELEASE_RQ });
        break;
      case 'send-release-rp':
        this.sendControl({ type: PDU.RELEASE_RP });
        if (this.currentState === 'Sta13') this.end(parameters.reason!);
        break;
      case 'send-abort-user':
        this.sendControl({ type: PDU.ABORT, source: ABORT_SOURCE.user, reason: ABORT.notSpecified });
        this.end({ source: ABORT_SOURCE.user, reason: ABORT.notSpecified, ...parameters.reason! });
        break;
      case 'send-abort-provider': {
        const { source, reason } = parameters.abort ?? { source: ABORT_SOURCE.provider, reason: ABORT.notSpecified };
        this.sendControl({ type: PDU.ABORT, source, reason });
        if (parameters.reason !== undefined) this.end({ source, reason, ...parameters.reason });
        break;
      }
      case 'close':
        this.close();
        break;
      case 'start-artim':
        this.artim.arm(this.limits.artimMs);
        break;
      case 'stop-artim':
        this.artim.disarm();
        break;
      case 'indicate-associate':
        this.user.associateIndication(parameters.rq!);
        break;
      case 'confirm-accept':
        this.user.associateConfirm(parameters.ac!);
        break;
      case 'indicate-data':
        this.indicatingData = true;
        break;
      case 'indicate-release':
        this.user.releaseIndication();
        break;
      case 'confirm-release':
        if (this.currentState === 'Sta1') this.end(parameters.reason!);
        else this.user.releaseIndication(); // AR-10: now the acceptor may answer the collision
        break;
      case 'confirm-reject':
      case 'indicate-abort':
      case 'indicate-closed':
        if (parameters.reason !== undefined) this.end(parameters.reason);
        break;
    }
  }

  private sendControl(pdu: Pdu): void {
    const bytes = encodePdu(pdu);
    this.counters.bytesSent += bytes.length;
    if (this.socket.writable) this.socket.write(bytes);
  }

  private end(reason: CloseReason): void {
    if (this.reason !== undefined) return;
    this.reason = reason;
    this.pduDeadline.disarm();
    this.sendDeadline.disarm();
    const error = closedError(reason);
    for (const reject of this.pendingWrites) reject(error);
    this.pendingWrites.clear();
    this.user.ended(reason);
    // Sta13 waits for the peer to close, and sees it only while it reads.
    this.isPaused = false;
    this.socket.resume();
  }

  private close(): void {
    if (this.socket.writableLength === 0) this.socket.destroySoon();
    else this.socket.destroy();
  }

  private timeout(limit: keyof Limits, detail: string): CloseReason {
    return { kind: 'timeout', detail: `${detail} (${limit} ${this.limits[limit]})`, limit };
  }

  private lost(error: Error): AssociationError {
    if (this.reason !== undefined) return closedError(this.reason);
    return new AssociationError('connection-lost', `connection failed: ${errorCode(error)}`, { cause: error });
  }
}

function errorCode(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.name;
}
