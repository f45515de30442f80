/** A request of ours and its responses; and the queue that both directions use. */
import { COMMAND } from './command.ts';
import { Deadline } from './deadline.ts';
import type { IncomingMessage } from './incoming.ts';
import type { RequestOptions } from './types.ts';

const CANCELLABLE = new Set<number>([COMMAND.C_FIND_RQ, COMMAND.C_MOVE_RQ, COMMAND.C_GET_RQ]);

export class MessageQueue {
  private messages: IncomingMessage[] = [];
  private waiter: ((message: IncomingMessage | undefined) => void) | undefined;
  private closed = false;

  get length(): number {
    return this.messages.length;
  }

  push(message: IncomingMessage): void {
    const waiter = this.waiter;
    if (waiter === undefined) {
      this.messages.push(message);
      return;
    }
    this.waiter = undefined;
    waiter(message);
  }

  /** Undefined: closed. One caller at a time. */
  next(): Promise<IncomingMessage | undefined> {
    const message = this.messages.shift();
    if (message !== undefined || this.closed) return Promise.resolve(message);
    if (this.waiter !== undefined) throw new Error('a queue of messages has one reader');
    return new Promise((resolve) => {
      this.waiter = resolve;
    });
  }

  /** Lets the reader go; messages may go on to be queued for another one. */
  stopWaiting(): void {
    const waiter = this.waiter;
    this.waiter = undefined;
    waiter?.(undefined);
  }

  /** What is queued is dropped: it could not be answered. */
  close(): void {
    this.closed = true;
    this.messages = [];
    this.stopWaiting();
  }
}

interface ExchangeOwner {
  responseTimeoutMs: number;
  bytesReceived(): number;
  /** We are the ones who do not read. */
  waitingIsOurs(): boolean;
  expired(): void;
  /** Sends a C-CANCEL-RQ. */
  cancel(): void;
}

export class Exchange {
  readonly messageId: number;
  readonly commandField: number;
  readonly responses = new MessageQueue();
  sent = false;
  final = false;
  /** Somebody waits for a response that has not come. */
  starving = false;
  private readonly timeoutMs: number;
  private readonly signal: AbortSignal | undefined;
  private readonly owner: ExchangeOwner;
  private readonly deadline: Deadline;
  private seen = 0;
  private cancelled = false;

  constructor(messageId: number, commandField: number, options: RequestOptions, owner: ExchangeOwner) {
    this.messageId = messageId;
    this.commandField = commandField;
    this.timeoutMs = options.responseTimeoutMs ?? owner.responseTimeoutMs;
    this.signal = options.signal;
    this.owner = owner;
    this.deadline = new Deadline(() => this.look());
  }

  /** From when the request is sent: the caller's signal becomes a C-CANCEL-RQ, where the service has one (PS3.7 §9.3.2.3). */
  listen(): void {
    if (!CANCELLABLE.has(this.commandField)) return;
    if (this.signal?.aborted) this.cancel();
    else this.signal?.addEventListener('abort', this.cancel, { once: true });
  }

  readonly cancel = (): void => {
    if (this.cancelled || !CANCELLABLE.has(this.commandField)) return;
    this.cancelled = true;
    this.owner.cancel();
  };

  waiting(yes: boolean): void {
    if (!yes) {
      this.deadline.disarm();
      return;
    }
    this.seen = this.owner.bytesReceived();
    this.deadline.arm(this.timeoutMs);
  }

  /** Any byte from the peer is life: a C-GET may store for hours before its response. */
  private look(): void {
    if (this.owner.bytesReceived() !== this.seen || this.owner.waitingIsOurs()) this.waiting(true);
    else this.owner.expired();
  }

  close(): void {
    this.signal?.removeEventListener('abort', this.cancel);
    this.deadline.close();
    this.responses.close();
  }
}
