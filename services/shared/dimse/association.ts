/** An association as its users see it: messages in, messages out, one flow of both, back-pressure, cancellation (PS3.7). */
import type { Socket } from 'node:net';
import { COMMAND, type CommandSet, encodeCommand, isResponse } from './command.ts';
import { Deadline } from './deadline.ts';
import { AssociationError, type CloseReason, closedError } from './errors.ts';
import { Exchange, MessageQueue } from './exchange.ts';
import { type Flow, IncomingMessage } from './incoming.ts';
import type { Limits } from './limits.ts';
import { MessageAssembler, MessageError, type MessageSink } from './message.ts';
import type { AssociateAc, AssociateRq, UserInformation } from './pdu.ts';
import { ABORT, ABORT_SOURCE } from './reasons.ts';
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

export class LiveAssociation implements Association, UpperLayerUser, MessageSink, Flow {
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
  private readonly outstanding = new Map<number, Exchange>();
  private unread: IncomingMessage | undefined;
  private releaseAsked = false;
  private draining = false;
  private messageId = 0;

  private queuedBytes = 0;
  private undeliveredBytes = 0;
  private undeliveredMessages = 0;
  private starvingReaders = 0;

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
      this.outstanding.size === 0 &&
      this.sending === 0 &&
      this.arriving.size === 0
    );
  }

  findContext(abstractSyntax: string, transferSyntax?: string, as?: 'scu' | 'scp'): AcceptedContext | undefined {
    for (const context of this.contexts.values()) {
      if (context.abstractSyntax !== abstractSyntax) continue;
      if (transferSyntax !== undefined && context.transferSyntax !== transferSyntax) continue;
      // The requestor plays its own role, the acceptor the other one.
      const asRequestor = (as === 'scu') === (this.role === 'requestor');
      if (as !== undefined && !(asRequestor ? context.requestorScu : context.requestorScp)) continue;
      return context;
    }
    return undefined;
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
    for (const answer of ac.contexts) {
      if (answer.result !== 0) continue;
      const proposed = rq.contexts.find((context) => context.id === answer.id);
      // A context that nobody proposed, or a syntax that was not offered in it, cannot be used: as good as refused.
      if (proposed === undefined || !proposed.transferSyntaxes.includes(answer.transferSyntax)) continue;
      const asked = rq.user.roles.find((role) => role.sopClassUid === proposed.abstractSyntax);
      const granted = ac.user.roles.find((role) => role.sopClassUid === proposed.abstractSyntax);
      this.contexts.set(answer.id, {
        id: answer.id,
        abstractSyntax: proposed.abstractSyntax,
        transferSyntax: answer.transferSyntax,
        // Without an agreed role selection the defaults hold (PS3.7 §D.3.3.4).
        requestorScu: asked !== undefined && granted !== undefined ? asked.scu && granted.scu : true,
        requestorScp: asked !== undefined && granted !== undefined ? asked.scp && granted.scp : false,
      });
    }
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
    const message = new IncomingMessage(this.contexts.get(contextId)!, command, this);
    if (message.data !== undefined) this.arriving.set(contextId, message);
    this.undeliveredMessages++;
    if (!isResponse(command.commandField)) {
      if (command.messageId !== undefined) this.serving.set(command.messageId, message);
      this.requests.push(message);
      return;
    }
    const exchange = this.outstanding.get(command.messageIdBeingRespondedTo ?? -1);
    if (exchange === undefined || (exchange.commandField | 0x8000) !== command.commandField) {
      // Taking it for another request's answer could acknowledge what was not stored.
      throw new MessageError(`response ${command.commandField.toString(16)}H to a request that is not outstanding`);
    }
    exchange.responses.push(message);
  }

  /** MessageSink */
  data(contextId: number, data: Buffer): void {
    const message = this.arriving.get(contextId)!;
    this.queuedBytes += data.length;
    if (!message.delivered) this.undeliveredBytes += data.length;
    message.data!.push(data);
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
    this.regulate();
  }

  private restartMessageDeadline(): void {
    this.messageProgress = 0;
    this.messageDeadline.arm(this.limits.messageTimeoutMs);
  }

  // --- flow control

  /** Flow */
  taken(message: IncomingMessage, bytes: number): void {
    this.queuedBytes -= bytes;
    if (!message.delivered) this.undeliveredBytes -= bytes;
    this.regulate();
  }

  /** Flow */
  starving(delta: 1 | -1): void {
    this.starvingReaders += delta;
    if (delta > 0) this.regulate();
  }

  private deliver(message: IncomingMessage): void {
    message.delivered = true;
    this.undeliveredMessages--;
    this.undeliveredBytes -= message.data?.queuedBytes ?? 0;
    this.regulate();
  }

  /**
   * Reads on, or stops reading. Too much is queued: stop, and TCP stops the sender. But when somebody waits for bytes that can only
   * come after those that nobody has asked for (interleaved contexts, requests ahead of a response), stopping would be a deadlock:
   * read on to a limit, then abort.
   */
  private regulate(): void {
    const { receiveQueueBytes, queuedMessagesMax, interleavedBytesMax } = this.limits;
    const full = this.queuedBytes > receiveQueueBytes || this.undeliveredMessages > queuedMessagesMax;
    if (!full) {
      // Not at every byte taken, but at once when somebody waits.
      if (this.queuedBytes <= receiveQueueBytes / 2 || this.starvingReaders > 0) this.readOn();
      return;
    }
    const theirOwnPace = this.queuedBytes - this.undeliveredBytes > receiveQueueBytes;
    if (this.starvingReaders === 0 || theirOwnPace) {
      this.upper.pause();
      this.messageDeadline.disarm();
      return;
    }
    if (this.undeliveredBytes > interleavedBytesMax || this.undeliveredMessages > queuedMessagesMax) {
      const limit = this.undeliveredBytes > interleavedBytesMax ? 'interleavedBytesMax' : 'queuedMessagesMax';
      const detail = 'the peer sends other messages ahead of the one that is waited for';
      this.abortFor({ kind: 'protocol-error', detail, limit });
      return;
    }
    this.readOn();
  }

  private readOn(): void {
    if (!this.upper.paused) return;
    if (this.assembler !== undefined && this.assembler.incomplete > 0) this.restartMessageDeadline();
    this.upper.resume();
  }

  private idleExpired(): void {
    // A request that was never answered does not count as work for ever.
    const working = this.current !== undefined || this.sending > 0 || this.outstanding.size > 0 || this.upper.paused;
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
      this.deliver(message);
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
    do this.messageId = (this.messageId % 0xffff) + 1;
    while (this.outstanding.has(this.messageId));
    return this.messageId;
  }

  async request(
    contextId: number,
    command: OutgoingCommand,
    data?: DataSource,
    options: RequestOptions = {},
  ): Promise<Incoming> {
    const exchange = this.openExchange(contextId, command, options);
    try {
      await this.send(contextId, { ...command, messageId: exchange.messageId }, data);
      exchange.listen();
      for (;;) {
        const message = await this.nextResponse(exchange);
        if (exchange.final) {
          this.unread = message; // forgotten by the next request if the caller does not read it
          return message;
        }
        message.data?.forget();
      }
    } finally {
      this.closeExchange(exchange);
    }
  }

  async *exchange(
    contextId: number,
    command: OutgoingCommand,
    data?: DataSource,
    options: RequestOptions = {},
  ): AsyncIterableIterator<Incoming> {
    const exchange = this.openExchange(contextId, command, options);
    let message: IncomingMessage | undefined;
    try {
      await this.send(contextId, { ...command, messageId: exchange.messageId }, data);
      exchange.sent = true;
      exchange.listen();
      while (!exchange.final) {
        message = await this.nextResponse(exchange);
        yield message;
        message.data?.forget();
      }
    } finally {
      message?.data?.forget();
      if (exchange.sent && !exchange.final && this.upper.endedBecause === undefined) await this.drain(exchange);
      this.closeExchange(exchange);
    }
  }

  private openExchange(contextId: number, command: OutgoingCommand, options: RequestOptions): Exchange {
    this.unread?.data?.forget();
    this.unread = undefined;
    const messageId = command.messageId ?? this.nextMessageId();
    if (this.outstanding.has(messageId)) throw new RangeError(`message id ${messageId} is in use`);
    const exchange = new Exchange(messageId, command.commandField, options, {
      responseTimeoutMs: this.limits.responseTimeoutMs,
      bytesReceived: () => this.counters.bytesReceived,
      waitingIsOurs: () => this.upper.paused,
      expired: () => this.upper.abortForTimeout('responseTimeoutMs', 'no response came'),
      // It fails only when the association ends, and then the responses tell.
      cancel: () => void this.cancel(contextId, messageId).catch(() => undefined),
    });
    this.outstanding.set(messageId, exchange);
    return exchange;
  }

  private closeExchange(exchange: Exchange): void {
    this.outstanding.delete(exchange.messageId);
    exchange.close();
  }

  private async nextResponse(exchange: Exchange): Promise<IncomingMessage> {
    const starved = exchange.responses.length === 0;
    if (starved) this.starving(1);
    exchange.waiting(true);
    const message = await exchange.responses.next();
    exchange.waiting(false);
    if (starved) this.starving(-1);
    if (message === undefined)
      throw closedError(this.upper.endedBecause ?? { kind: 'connection-lost', detail: 'closed' });
    exchange.final = statusKind(message.command.status) !== 'pending';
    if (exchange.final) this.outstanding.delete(exchange.messageId);
    this.deliver(message);
    return message;
  }

  /** After a C-CANCEL-RQ the responses go on until the final one, which may be success all the same. */
  private async drain(exchange: Exchange): Promise<void> {
    exchange.cancel();
    try {
      while (!exchange.final) (await this.nextResponse(exchange)).data?.forget();
    } catch (error) {
      // The caller has left already; `closed` says how the association ended.
      if (!(error instanceof AssociationError)) throw error;
    }
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
    for (const exchange of this.outstanding.values()) exchange.responses.close();
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
