/** Requests of ours on an association: sent, answered, cancelled (PS3.7 §9, §10). */
import { AssociationError } from './errors.ts';
import { Exchange } from './exchange.ts';
import type { IncomingMessage } from './incoming.ts';
import { MessageError } from './message.ts';
import { statusKind } from './status.ts';
import type { DataSource, Incoming, OutgoingCommand, RequestOptions } from './types.ts';

/** What the requests need of their association. */
export interface RequestCarrier {
  readonly responseTimeoutMs: number;
  send(contextId: number, command: OutgoingCommand, data?: DataSource): Promise<void>;
  cancel(contextId: number, messageId: number): Promise<void>;
  deliver(message: IncomingMessage): void;
  starving(delta: 1 | -1): void;
  bytesReceived(): number;
  /** We do not read at the moment, so silence is ours. */
  isPaused(): boolean;
  responseOverdue(): void;
  /** Set when it has ended. */
  endedError(): AssociationError | undefined;
}

export class Requests {
  private readonly carrier: RequestCarrier;
  private readonly outstanding = new Map<number, Exchange>();
  /** The final response of the last request(): forgotten by the next one if its data set was not read. */
  private unread: IncomingMessage | undefined;
  private lastMessageId = 0;

  constructor(carrier: RequestCarrier) {
    this.carrier = carrier;
  }

  get count(): number {
    return this.outstanding.size;
  }

  nextMessageId(): number {
    do this.lastMessageId = (this.lastMessageId % 0xffff) + 1;
    while (this.outstanding.has(this.lastMessageId));
    return this.lastMessageId;
  }

  /** A response came in. */
  answer(message: IncomingMessage): void {
    const { commandField, messageIdBeingRespondedTo } = message.command;
    const exchange = this.outstanding.get(messageIdBeingRespondedTo ?? -1);
    if (exchange === undefined || (exchange.commandField | 0x8000) !== commandField) {
      // Taking it for another request's answer could acknowledge what was not stored.
      throw new MessageError(`response ${commandField.toString(16)}H to a request that is not outstanding`);
    }
    // Satisfied from now on, not from when the promise gets its turn: more may come in this very read of the socket.
    this.starve(exchange, false);
    exchange.responses.push(message);
  }

  private starve(exchange: Exchange, yes: boolean): void {
    if (exchange.starving === yes) return;
    exchange.starving = yes;
    this.carrier.starving(yes ? 1 : -1);
  }

  async request(
    contextId: number,
    command: OutgoingCommand,
    data: DataSource | undefined,
    options: RequestOptions,
  ): Promise<Incoming> {
    const exchange = this.open(contextId, command, options);
    try {
      await this.carrier.send(contextId, { ...command, messageId: exchange.messageId }, data);
      exchange.listen();
      for (;;) {
        const message = await this.next(exchange);
        if (exchange.final) {
          this.unread = message;
          return message;
        }
        message.data?.forget();
      }
    } finally {
      this.close(exchange);
    }
  }

  async *exchange(
    contextId: number,
    command: OutgoingCommand,
    data: DataSource | undefined,
    options: RequestOptions,
  ): AsyncIterableIterator<Incoming> {
    const exchange = this.open(contextId, command, options);
    let message: IncomingMessage | undefined;
    try {
      await this.carrier.send(contextId, { ...command, messageId: exchange.messageId }, data);
      exchange.sent = true;
      exchange.listen();
      while (!exchange.final) {
        message = await this.next(exchange);
        yield message;
        message.data?.forget();
      }
    } finally {
      message?.data?.forget();
      if (exchange.sent && !exchange.final && this.carrier.endedError() === undefined) await this.drain(exchange);
      this.close(exchange);
    }
  }

  /** The association has ended: whoever waits is told. */
  end(): void {
    for (const exchange of this.outstanding.values()) exchange.responses.close();
  }

  private open(contextId: number, command: OutgoingCommand, options: RequestOptions): Exchange {
    this.unread?.data?.forget();
    this.unread = undefined;
    const messageId = command.messageId ?? this.nextMessageId();
    if (this.outstanding.has(messageId)) throw new RangeError(`message id ${messageId} is in use`);
    const { carrier } = this;
    const exchange = new Exchange(messageId, command.commandField, options, {
      responseTimeoutMs: carrier.responseTimeoutMs,
      bytesReceived: () => carrier.bytesReceived(),
      waitingIsOurs: () => carrier.isPaused(),
      expired: () => carrier.responseOverdue(),
      // It fails only when the association ends, and then the responses tell.
      cancel: () => void carrier.cancel(contextId, messageId).catch(() => undefined),
    });
    this.outstanding.set(messageId, exchange);
    return exchange;
  }

  private close(exchange: Exchange): void {
    this.outstanding.delete(exchange.messageId);
    this.starve(exchange, false);
    exchange.close();
  }

  private async next(exchange: Exchange): Promise<IncomingMessage> {
    if (exchange.responses.length === 0) this.starve(exchange, true);
    exchange.waiting(true);
    const message = await exchange.responses.next();
    exchange.waiting(false);
    if (message === undefined) throw this.carrier.endedError() ?? new AssociationError('connection-lost', 'closed');
    exchange.final = statusKind(message.command.status) !== 'pending';
    if (exchange.final) this.outstanding.delete(exchange.messageId);
    this.carrier.deliver(message);
    return message;
  }

  /** After a C-CANCEL-RQ the responses go on until the final one, which may be success all the same. */
  private async drain(exchange: Exchange): Promise<void> {
    exchange.cancel();
    try {
      while (!exchange.final) (await this.next(exchange)).data?.forget();
    } catch (error) {
      // The caller has left already; `closed` says how the association ended.
      if (!(error instanceof AssociationError)) throw error;
    }
  }
}
