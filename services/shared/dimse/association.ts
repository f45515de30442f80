/** An association as its users see it: messages in, messages out, one flow of both, back-pressure, cancellation (PS3.7). */
import type { Socket } from 'node:net';
import { BackPressure } from './back-pressure.ts';
import { COMMAND, type CommandSet, encodeCommand, isResponse } from './command.ts';
import { acceptedContexts, chooseContext } from './contexts.ts';
import { Deadline } from './deadline.ts';
import { AssociationError, type CloseReason, closedError } from './errors.ts';
import { MessageQueue } from './exchange.ts';
import { IncomingMessage } from './incoming.ts';
import type { Limits } from './limits.ts';
import { MessageAssembler, MessageError, type MessageSink } from './message.ts';
import type { AssociateAc, AssociateRq, UserInformation } from './pdu.ts';
import { ABORT, ABORT_SOURCE } from './reasons.ts';
import { Requests } from './requests.ts';
import { statusKind } from './status.ts';
import type {
  AcceptedContext,
  Association,
  Counters,
  DataSource,
  Incoming,
  OutgoingCommand,
  Peer,
  RequestOptions,
} from './types.ts';
import { UpperLayer, type UpperLayerUser } from './upper-layer.ts';
import { MessageWriter, payloadMax } from './writer.ts';

/** Who made the socket, and wants to know. */
export interface AssociationOwner {
  /** Acceptor: decide with accept() or reject(). */
  requested?(association: LiveAssociation, rq: AssociateRq): void;
  established(association: LiveAssociation): void;
  ended(association: LiveAssociation, reason: CloseReason): void;
  socketClosed(association: LiveAssociation): void;
  failed(association: LiveAssociation, error: unknown): void;
}

/** A peer that gives no maximum length gets what every implementation takes. */
const PEER_MAX_WHEN_ABSENT = 16384;
/** PDU and PDV header, and two bytes: below this nothing can be sent. */
const PEER_MAX_LEAST = 8;
let lastId = 0;

export class LiveAssociation implements Association, UpperLayerUser, MessageSink {
  readonly id = ++lastId;
  readonly role: 'acceptor' | 'requestor';
  readonly peer: Peer;
  readonly upper: UpperLayer;
  readonly contexts = new Map<number, AcceptedContext>();
  readonly closed: Promise<CloseReason>;
  tag?: unknown;
  rq!: AssociateRq;
  ac!: AssociateAc;
  /** Set when the A-ASSOCIATE-AC was sent or received. */
  isEstablished = false;

  private readonly limits: Limits;
  private readonly owner: AssociationOwner;
  private readonly aborter = new AbortController();
  private resolveClosed!: (reason: CloseReason) => void;
  private assembler: MessageAssembler | undefined;
  private writer: MessageWriter | undefined;
  private sendTail: Promise<void> = Promise.resolve();
  private sending = 0;

  /** The message that each context is receiving the data set of. */
  private readonly arriving = new Map<number, IncomingMessage>();
  private readonly requests = new MessageQueue();
  private current: IncomingMessage | undefined;
  private readonly serving = new Map<number, IncomingMessage>();
  private readonly outgoing: Requests;
  private releaseAsked = false;
  private draining = false;

  private readonly flow: BackPressure;

  private messageProgress = 0;
  private readonly messageDeadline: Deadline;
  private readonly idleDeadline: Deadline;
  private readonly releaseDeadline: Deadline;

  constructor(socket: Socket, role: 'acceptor' | 'requestor', peer: Peer, limits: Limits, owner: AssociationOwner) {
    this.role = role;
    this.peer = peer;
    this.limits = limits;
    this.owner = owner;
    this.closed = new Promise((resolve) => {
      this.resolveClosed = resolve;
    });
    this.messageDeadline = new Deadline(() =>
      this.upper.abortForTimeout('messageTimeoutMs', 'a message took too long to arrive'),
    );
    this.idleDeadline = new Deadline(() => this.idleExpired());
    this.releaseDeadline = new Deadline(() =>
      this.upper.abortForTimeout('releaseTimeoutMs', 'the peer did not answer the release'),
    );
    this.upper = new UpperLayer(socket, role, this, limits);
    this.flow = new BackPressure(limits, {
      pause: () => this.stopReading(),
      resume: () => this.readOn(),
      overflow: (limit) => {
        const detail = 'the peer sends other messages ahead of the one that is waited for';
        this.abortFor({ kind: 'protocol-error', detail, limit });
      },
    });
    this.outgoing = new Requests({
      responseTimeoutMs: limits.responseTimeoutMs,
      send: (contextId, command, data) => this.send(contextId, command, data),
      cancel: (contextId, messageId) => this.cancel(contextId, messageId),
      deliver: (message) => this.flow.deliver(message),
      starving: (delta) => this.flow.starving(delta),
      bytesReceived: () => this.counters.bytesReceived,
      isPaused: () => this.upper.paused,
      responseOverdue: () => this.upper.abortForTimeout('responseTimeoutMs', 'no response came'),
      endedError: () => this.upper.endedBecause && closedError(this.upper.endedBecause),
    });
  }

  get callingAeTitle(): string {
    return this.rq.callingAeTitle;
  }

  get calledAeTitle(): string {
    return this.rq.calledAeTitle;
  }

  get peerUser(): UserInformation {
    return this.role === 'acceptor' ? this.rq.user : this.ac.user;
  }

  get counters(): Counters {
    return this.upper.counters;
  }

  get signal(): AbortSignal {
    return this.aborter.signal;
  }

  /** Nothing is being served, sent or waited for. */
  get isIdle(): boolean {
    return (
      this.current === undefined &&
      this.requests.length === 0 &&
      this.serving.size === 0 &&
      this.outgoing.count === 0 &&
      this.sending === 0 &&
      this.arriving.size === 0
    );
  }

  findContext(abstractSyntax: string, transferSyntax?: string, as?: 'scu' | 'scp'): AcceptedContext | undefined {
    return chooseContext(this.contexts.values(), this.role, abstractSyntax, transferSyntax, as);
  }

  // --- establishment

  associateIndication(rq: AssociateRq): void {
    this.rq = rq;
    this.owner.requested!(this, rq);
  }

  associateConfirm(ac: AssociateAc): void {
    this.establish(this.rq, ac);
  }

  /** False: the peer went away while we decided. */
  accept(ac: AssociateAc): boolean {
    if (this.upper.state !== 'Sta3') return false;
    this.prepare(this.rq, ac);
    if (!this.upper.accept(ac)) return false;
    this.announce();
    return true;
  }

  private establish(rq: AssociateRq, ac: AssociateAc): void {
    this.prepare(rq, ac);
    if (this.upper.endedBecause === undefined) this.announce();
  }

  private prepare(rq: AssociateRq, ac: AssociateAc): void {
    this.rq = rq;
    this.ac = ac;
    for (const context of acceptedContexts(rq, ac)) this.contexts.set(context.id, context);
    this.assembler = new MessageAssembler(this.contexts.keys(), this, this.limits.commandLengthMax);
    const peerMax = this.peerUser.maxPduLength ?? PEER_MAX_WHEN_ABSENT;
    if (peerMax !== 0 && peerMax < PEER_MAX_LEAST) {
      this.abortFor({ kind: 'protocol-error', detail: `the peer takes PDUs of at most ${peerMax} bytes: none at all` });
      return;
    }
    this.writer = new MessageWriter(
      (buffers) => this.upper.write(buffers),
      payloadMax(peerMax, this.limits.pduLengthSent),
      this.limits.sendBatchBytes,
    );
  }

  private announce(): void {
    this.isEstablished = true;
    this.idleDeadline.arm(this.limits.idleMs);
    this.owner.established(this);
  }

  // --- what comes in

  fragment(contextId: number, command: boolean, data: Buffer, last: boolean): void {
    if (this.assembler === undefined) return;
    try {
      this.assembler.fragment(contextId, command, data, last);
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      this.abortFor({ kind: 'protocol-error', detail: error.message, limit: error.limit });
    }
  }

  /** MessageSink: a command set is complete. */
  command(contextId: number, command: CommandSet): void {
    this.counters.messagesReceived++;
    this.restartMessageDeadline();
    if (command.commandField === COMMAND.C_CANCEL_RQ) {
      this.serving.get(command.messageIdBeingRespondedTo ?? -1)?.cancel();
      return;
    }
    const message = new IncomingMessage(this.contexts.get(contextId)!, command, this.flow);
    if (message.data !== undefined) this.arriving.set(contextId, message);
    this.flow.announced();
    if (isResponse(command.commandField)) {
      this.outgoing.answer(message);
      return;
    }
    if (command.messageId !== undefined) this.serving.set(command.messageId, message);
    this.requests.push(message);
  }

  /** MessageSink */
  data(contextId: number, data: Buffer): void {
    this.arriving.get(contextId)!.data!.push(data);
  }

  /** MessageSink */
  end(contextId: number): void {
    const message = this.arriving.get(contextId)!;
    this.arriving.delete(contextId);
    this.restartMessageDeadline();
    message.data!.end();
  }

  received(bytes: number): void {
    this.idleDeadline.arm(this.limits.idleMs);
    this.messageProgress += bytes;
    if (this.assembler === undefined || this.assembler.incomplete === 0) this.messageDeadline.disarm();
    else if (!this.messageDeadline.armed || this.messageProgress >= this.limits.progressBytes)
      this.restartMessageDeadline();
    this.flow.regulate();
  }

  private restartMessageDeadline(): void {
    this.messageProgress = 0;
    this.messageDeadline.arm(this.limits.messageTimeoutMs);
  }

  /** Back-pressure; while it lasts, silence is not the peer's. */
  private stopReading(): void {
    this.upper.pause();
    this.messageDeadline.disarm();
  }

  private readOn(): void {
    if (!this.upper.paused) return;
    if (this.assembler !== undefined && this.assembler.incomplete > 0) this.restartMessageDeadline();
    this.upper.resume();
  }

  private idleExpired(): void {
    // A request that was never answered does not count as work for ever.
    const working = this.current !== undefined || this.sending > 0 || this.outgoing.count > 0 || this.upper.paused;
    if (working) this.idleDeadline.arm(this.limits.idleMs);
    else this.upper.abortForTimeout('idleMs', 'nothing happened on the association');
  }

  // --- serving requests

  messages(): AsyncIterableIterator<Incoming> {
    const next = async (): Promise<IteratorResult<Incoming, undefined>> => {
      this.doneWithCurrent();
      if (this.requests.length === 0 && this.draining && this.isIdle) this.abort('this side is shutting down');
      this.maybeAnswerRelease();
      const message = await this.requests.next();
      if (message === undefined) return { done: true, value: undefined };
      this.current = message;
      this.flow.deliver(message);
      return { done: false, value: message };
    };
    const iterator: AsyncIterableIterator<Incoming> = {
      [Symbol.asyncIterator]: () => iterator,
      next,
      return: async () => {
        this.requests.stopWaiting();
        this.doneWithCurrent();
        this.maybeAnswerRelease();
        return { done: true, value: undefined };
      },
    };
    return iterator;
  }

  private doneWithCurrent(): void {
    const message = this.current;
    this.current = undefined;
    message?.data?.forget();
  }

  respond(incoming: Incoming, fields: { status: number } & Partial<CommandSet>, data?: DataSource): Promise<void> {
    const { command } = incoming;
    const response: OutgoingCommand = {
      affectedSopClassUid: command.affectedSopClassUid ?? command.requestedSopClassUid,
      affectedSopInstanceUid: command.affectedSopInstanceUid ?? command.requestedSopInstanceUid,
      eventTypeId: command.eventTypeId,
      actionTypeId: command.actionTypeId,
      ...fields,
      commandField: command.commandField | 0x8000,
      messageIdBeingRespondedTo: command.messageId ?? 0,
    };
    return this.send(incoming.contextId, response, data);
  }

  // --- requests of ours

  nextMessageId(): number {
    return this.outgoing.nextMessageId();
  }

  request(
    contextId: number,
    command: OutgoingCommand,
    data?: DataSource,
    options: RequestOptions = {},
  ): Promise<Incoming> {
    return this.outgoing.request(contextId, command, data, options);
  }

  exchange(
    contextId: number,
    command: OutgoingCommand,
    data?: DataSource,
    options: RequestOptions = {},
  ): AsyncIterableIterator<Incoming> {
    return this.outgoing.exchange(contextId, command, data, options);
  }

  cancel(contextId: number, messageId: number): Promise<void> {
    return this.send(contextId, { commandField: COMMAND.C_CANCEL_RQ, messageIdBeingRespondedTo: messageId });
  }

  async send(contextId: number, command: OutgoingCommand, data?: DataSource): Promise<void> {
    if (!this.contexts.has(contextId))
      throw new AssociationError('no-context', `context ${contextId} was not accepted`);
    const bytes = encodeCommand({ ...command, hasData: data !== undefined });
    const before = this.sendTail;
    let done!: () => void;
    this.sendTail = new Promise((resolve) => {
      done = resolve;
    });
    this.sending++;
    try {
      await before;
      const writer = this.writer;
      if (writer === undefined || this.upper.endedBecause !== undefined) {
        throw closedError(this.upper.endedBecause ?? { kind: 'connection-lost', detail: 'not established' });
      }
      try {
        await writer.message(contextId, bytes, data);
      } catch (error) {
        // Nothing went out yet: only this message is lost. Else half of it is with the peer, and cannot be taken back.
        if (writer.started) this.abort('a message could not be sent in full');
        throw error;
      }
      this.counters.messagesSent++;
      this.idleDeadline.arm(this.limits.idleMs);
    } finally {
      this.sending--;
      done();
      this.answered(command);
    }
  }

  private answered(command: OutgoingCommand): void {
    if (!isResponse(command.commandField) || statusKind(command.status) === 'pending') return;
    this.serving.delete(command.messageIdBeingRespondedTo ?? -1);
    this.maybeAnswerRelease();
  }

  // --- the end

  releaseIndication(): void {
    if (this.upper.state === 'Sta10') return; // the acceptor's turn in a collision comes with the A-RELEASE-RP
    this.releaseAsked = true;
    this.maybeAnswerRelease();
  }

  /** Requests that came before the A-RELEASE-RQ are served and answered first (PS3.8 AR-7 allows it). */
  private maybeAnswerRelease(): void {
    if (!this.releaseAsked || this.current !== undefined || this.requests.length > 0 || this.serving.size > 0) return;
    if (this.sending > 0) return;
    this.releaseAsked = false;
    this.upper.respondRelease();
  }

  async release(): Promise<void> {
    if (this.role !== 'requestor') throw new Error('the acceptor never sends A-RELEASE-RQ');
    await this.sendTail;
    if (this.upper.requestRelease()) this.releaseDeadline.arm(this.limits.releaseTimeoutMs);
    await this.closed;
  }

  abort(detail = 'aborted'): void {
    this.abortFor({ kind: 'aborted', detail });
  }

  private abortFor(reason: CloseReason): void {
    this.upper.abort({ source: ABORT_SOURCE.user, reason: ABORT.notSpecified, ...reason });
  }

  /** Ends when idle; the acceptor calls it on shutdown. */
  drainAndEnd(): void {
    this.draining = true;
    if (this.isIdle) this.abort('this side is shutting down');
  }

  ended(reason: CloseReason): void {
    this.messageDeadline.close();
    this.idleDeadline.close();
    this.releaseDeadline.close();
    const error = closedError(reason);
    for (const message of this.arriving.values()) message.data!.fail(error);
    this.arriving.clear();
    for (const message of this.serving.values()) message.cancel();
    this.serving.clear();
    this.outgoing.end();
    // A released association has served all; of a broken one nobody could answer what is queued.
    this.requests.close();
    this.aborter.abort(error);
    this.resolveClosed(reason);
    this.owner.ended(this, reason);
  }

  socketClosed(): void {
    this.owner.socketClosed(this);
  }

  failed(error: unknown): void {
    this.owner.failed(this, error);
  }
}
