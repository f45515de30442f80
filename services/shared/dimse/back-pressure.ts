/** When an association reads on, when it stops reading, and when neither helps: the accounts of what has arrived and not been read. */
import type { Flow, IncomingMessage } from './incoming.ts';
import type { Limits } from './limits.ts';

export interface Valve {
  pause(): void;
  resume(): void;
  /** Reading on would take more memory than `limit` allows, and not reading on would be a deadlock. */
  overflow(limit: 'interleavedBytesMax' | 'queuedMessagesMax'): void;
}

type FlowLimits = Pick<Limits, 'receiveQueueBytes' | 'interleavedBytesMax' | 'queuedMessagesMax'>;

export class BackPressure implements Flow {
  private readonly limits: FlowLimits;
  private readonly valve: Valve;
  private queuedBytes = 0;
  /** The part of queuedBytes whose messages nobody has been given yet. */
  private undeliveredBytes = 0;
  private undeliveredMessages = 0;
  private starvingReaders = 0;

  constructor(limits: FlowLimits, valve: Valve) {
    this.limits = limits;
    this.valve = valve;
  }

  /** A command set is complete and waits for somebody. */
  announced(): void {
    this.undeliveredMessages++;
  }

  /** Data was queued. regulate() follows when the socket read has been dealt with. */
  arrived(message: IncomingMessage, bytes: number): void {
    this.queuedBytes += bytes;
    if (!message.delivered) this.undeliveredBytes += bytes;
  }

  /** From now on the message is somebody's to read. */
  deliver(message: IncomingMessage): void {
    message.delivered = true;
    this.undeliveredMessages--;
    this.undeliveredBytes -= message.data?.queuedBytes ?? 0;
    this.regulate();
  }

  taken(message: IncomingMessage, bytes: number): void {
    this.queuedBytes -= bytes;
    if (!message.delivered) this.undeliveredBytes -= bytes;
    this.regulate();
  }

  starving(delta: 1 | -1): void {
    this.starvingReaders += delta;
    if (delta > 0) this.regulate();
  }

  /**
   * Too much is queued: stop, and TCP stops the sender. But when somebody waits for bytes that can only come after those that nobody
   * has asked for (interleaved contexts, requests ahead of a response), stopping would be a deadlock: read on to a limit, then abort.
   */
  regulate(): void {
    const { receiveQueueBytes, queuedMessagesMax, interleavedBytesMax } = this.limits;
    const full = this.queuedBytes > receiveQueueBytes || this.undeliveredMessages > queuedMessagesMax;
    if (!full) {
      // Not at every byte taken, but at once when somebody waits.
      if (this.queuedBytes <= receiveQueueBytes / 2 || this.starvingReaders > 0) this.valve.resume();
      return;
    }
    const theirOwnPace = this.queuedBytes - this.undeliveredBytes > receiveQueueBytes;
    if (this.starvingReaders === 0 || theirOwnPace) this.valve.pause();
    else if (this.undeliveredBytes > interleavedBytesMax) this.valve.overflow('interleavedBytesMax');
    else if (this.undeliveredMessages > queuedMessagesMax) this.valve.overflow('queuedMessagesMax');
    else this.valve.resume();
  }
}
