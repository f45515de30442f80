/** A message into P-DATA-TF PDUs (PS3.8 Annex E): a header before each slice of the caller's buffers, which are not copied. */
import { PDV_HEADER_LENGTH, writePDataHeader } from './pdu.ts';
import type { DataSource } from './types.ts';

const COMMAND_FRAGMENT = 1;
const LAST_FRAGMENT = 2;
const HEADER_LENGTH = 12; // PDU header and PDV header

/** Payload of one PDV: even (PS3.8 §9.3.5.1 wants even fragments), within the peer's maximum (0: none) and ours. */
export function payloadMax(peerMaxPduLength: number, pduLengthSent: number): number {
  const length = peerMaxPduLength === 0 ? pduLengthSent : Math.min(peerMaxPduLength, pduLengthSent);
  return (length - PDV_HEADER_LENGTH) & ~1;
}

export class MessageWriter {
  private readonly write: (buffers: readonly Buffer[]) => Promise<void>;
  private readonly payloadMax: number;
  private readonly batchBytesMax: number;
  private batch: Buffer[] = [];
  private batchBytes = 0;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  /** Of each pending buffer what the caller gave: `pending` may hold only the rest of it. */
  private whole: Buffer[] = [];
  /** Those of which the batch holds the last bytes. */
  private ending: Buffer[] = [];
  private taken: ((buffer: Buffer) => void) | undefined;
  private inFlight: Promise<void> = Promise.resolve();
  /** Some of the present message is out. */
  started = false;

  constructor(write: (buffers: readonly Buffer[]) => Promise<void>, payloadMax: number, batchBytesMax: number) {
    this.write = write;
    this.payloadMax = payloadMax;
    this.batchBytesMax = batchBytesMax;
  }

  /** One message at a time. The command and the first of the data go out in the same writev. */
  async message(contextId: number, command: Buffer, data?: DataSource): Promise<void> {
    this.started = false;
    this.batch = [];
    this.batchBytes = 0;
    this.pending = [];
    this.pendingBytes = 0;
    this.whole = [];
    this.ending = [];
    this.taken = undefined;
    await this.add(contextId, COMMAND_FRAGMENT, command);
    this.cut(contextId, COMMAND_FRAGMENT | LAST_FRAGMENT, this.pendingBytes);
    this.ending = []; // the command is nobody's
    if (data !== undefined) {
      if ('taken' in data) this.taken = data.taken;
      if (Buffer.isBuffer(data)) await this.add(contextId, 0, data);
      else for await (const buffer of data) await this.add(contextId, 0, buffer);
      this.cut(contextId, LAST_FRAGMENT, this.pendingBytes);
    }
    await this.flush();
    await this.inFlight;
  }

  /** Whole fragments go to the batch; at least one byte stays, for the last fragment should not be empty. */
  private async add(contextId: number, control: number, buffer: Buffer): Promise<void> {
    if (buffer.length === 0) return;
    this.pending.push(buffer);
    this.whole.push(buffer);
    this.pendingBytes += buffer.length;
    while (this.pendingBytes > this.payloadMax) {
      this.cut(contextId, control, this.payloadMax);
      if (this.batchBytes >= this.batchBytesMax) await this.flush();
    }
  }

  private cut(contextId: number, control: number, length: number): void {
    const header = Buffer.allocUnsafe(HEADER_LENGTH);
    writePDataHeader(header, 0, contextId, control, length);
    this.batch.push(header);
    let left = length;
    let used = 0;
    while (left > 0) {
      const buffer = this.pending[used]!;
      if (buffer.length <= left) {
        this.batch.push(buffer);
        this.ending.push(this.whole[used]!);
        left -= buffer.length;
        used++;
      } else {
        this.batch.push(buffer.subarray(0, left));
        this.pending[used] = buffer.subarray(left);
        left = 0;
      }
    }
    this.pending.splice(0, used);
    this.whole.splice(0, used);
    this.pendingBytes -= length;
    this.batchBytes += HEADER_LENGTH + length;
  }

  /** One batch is with the kernel while the next is gathered. */
  private async flush(): Promise<void> {
    const { batch, ending, taken } = this;
    this.batch = [];
    this.ending = [];
    this.batchBytes = 0;
    await this.inFlight;
    this.started = true;
    this.inFlight = this.write(batch).then(() => {
      if (taken !== undefined) ending.forEach(taken);
    });
    // The next flush, or the end of the message, awaits it; until then a failure must not count as unhandled.
    this.inFlight.catch(() => undefined);
  }
}
