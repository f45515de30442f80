/** A message on its way in: its command set is complete, its data set is pulled. */
import type { CommandSet } from './command.ts';
import { AssociationError } from './errors.ts';
import { Gathered } from './gathered.ts';
import type { DataStream, Incoming } from './types.ts';

/** What the association wants to know of the data sets it has delivered. */
export interface Flow {
  /** Bytes were queued. */
  arrived(message: IncomingMessage, bytes: number): void;
  /** Bytes left the queue (read, or forgotten). */
  taken(message: IncomingMessage, bytes: number): void;
  /** Somebody began (+1) or ceased (-1) to wait for bytes. */
  starving(delta: 1 | -1): void;
}

/** Fragments up to this are copied together: a million PDVs of one byte must not become a million buffers. */
const SMALL_BYTES = 512;
const GATHERED_BYTES_MAX = 64 * 1024;

export class DataQueue implements DataStream {
  private readonly message: IncomingMessage;
  private readonly flow: Flow;
  private buffers: Buffer[] = [];
  /** Small fragments at the end of the queue. */
  private readonly small = new Gathered();
  private waiter: (() => void) | undefined;
  private ended = false;
  private forgotten = false;
  private error: Error | undefined;
  queuedBytes = 0;
  bytesReceived = 0;

  constructor(message: IncomingMessage, flow: Flow) {
    this.message = message;
    this.flow = flow;
  }

  get finished(): boolean {
    return this.ended || this.error !== undefined;
  }

  push(data: Buffer): void {
    this.bytesReceived += data.length;
    if (this.forgotten) return;
    this.queuedBytes += data.length;
    if (data.length <= SMALL_BYTES) {
      this.small.append(data);
      if (this.small.length >= GATHERED_BYTES_MAX) this.closeSmall();
    } else {
      this.closeSmall();
      this.buffers.push(data);
    }
    this.flow.arrived(this.message, data.length);
    this.wake();
  }

  private closeSmall(): void {
    if (this.small.length > 0) this.buffers.push(this.small.take());
  }

  end(): void {
    this.ended = true;
    this.wake();
  }

  /** What is complete can still be read: only the answer to it is lost. */
  fail(error: Error): void {
    if (this.ended) return;
    this.error = error;
    this.forget();
    this.wake();
  }

  /** Drops what is here and what is to come. */
  forget(): void {
    this.forgotten = true;
    const bytes = this.queuedBytes;
    this.buffers = [];
    this.small.take();
    this.queuedBytes = 0;
    if (bytes > 0) this.flow.taken(this.message, bytes);
  }

  private wake(): void {
    const waiter = this.waiter;
    if (waiter === undefined) return;
    this.waiter = undefined;
    this.flow.starving(-1);
    waiter();
  }

  private wait(): Promise<void> {
    if (this.waiter !== undefined) throw new Error('a data set has one reader');
    const woken = new Promise<void>((resolve) => {
      this.waiter = resolve;
    });
    this.flow.starving(1); // may end the association, and with it this wait
    return woken;
  }

  async take(): Promise<Buffer[] | undefined> {
    while (this.queuedBytes === 0) {
      if (this.error !== undefined) throw this.error;
      if (this.ended) return undefined;
      if (this.forgotten) throw new AssociationError('cancelled', 'the data set was discarded');
      await this.wait();
    }
    this.closeSmall();
    const taken = this.buffers;
    const bytes = this.queuedBytes;
    this.buffers = [];
    this.queuedBytes = 0;
    this.flow.taken(this.message, bytes);
    return taken;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      const buffers = await this.take();
      if (buffers === undefined) return;
      yield* buffers;
    }
  }

  async whole(maxBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let length = 0;
    for (;;) {
      const buffers = await this.take();
      if (buffers === undefined) break;
      for (const buffer of buffers) length += buffer.length;
      if (length > maxBytes) {
        this.forget();
        throw new AssociationError('too-large', `data set longer than ${maxBytes} bytes`);
      }
      parts.push(...buffers);
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts, length);
  }

  async discard(): Promise<void> {
    this.forget();
    while (!this.finished) await this.wait();
    if (this.error !== undefined) throw this.error;
  }
}

export class IncomingMessage implements Incoming {
  readonly contextId: number;
  readonly abstractSyntax: string;
  readonly transferSyntax: string;
  readonly command: CommandSet;
  readonly data: DataQueue | undefined;
  /** Given to whoever serves it: from then on it is theirs to read, and waiting for them is back-pressure. */
  delivered = false;
  private cancelled = false;
  private controller: AbortController | undefined;

  constructor(
    context: { id: number; abstractSyntax: string; transferSyntax: string },
    command: CommandSet,
    flow: Flow,
  ) {
    this.contextId = context.id;
    this.abstractSyntax = context.abstractSyntax;
    this.transferSyntax = context.transferSyntax;
    this.command = command;
    this.data = command.hasData ? new DataQueue(this, flow) : undefined;
  }

  /** Made when somebody asks: an AbortController for each of a thousand instances a second is not free. */
  get cancelSignal(): AbortSignal {
    this.controller ??= new AbortController();
    if (this.cancelled) this.controller.abort();
    return this.controller.signal;
  }

  cancel(): void {
    this.cancelled = true;
    this.controller?.abort();
  }

  whole(maxBytes: number): Promise<Buffer> {
    return this.data === undefined ? Promise.resolve(Buffer.alloc(0)) : this.data.whole(maxBytes);
  }
}
