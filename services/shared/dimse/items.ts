/** Items: type, reserved, length, value. What variable fields of an A-ASSOCIATE PDU are made of (PS3.8 §9.3, PS3.7 Annex D). */
import { ABORT } from './reasons.ts';

/** The peer sent what PS3.8 does not allow; `abortReason` is what the A-ABORT will say (Table 9-26). */
export class PduError extends Error {
  readonly abortReason: number;
  readonly limit?: string;
  constructor(abortReason: number, message: string, limit?: string) {
    super(message);
    this.name = 'PduError';
    this.abortReason = abortReason;
    this.limit = limit;
  }
}

/** A window on bytes that refuses to look outside itself. */
export class Cursor {
  private readonly bytes: Buffer;
  private at: number;
  private readonly what: string;

  constructor(bytes: Buffer, what: string) {
    this.bytes = bytes;
    this.at = 0;
    this.what = what;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  take(length: number): Buffer {
    if (length > this.left) {
      throw new PduError(ABORT.invalidParameterValue, `${this.what} needs ${length} bytes where ${this.left} are left`);
    }
    const start = this.at;
    this.at += length;
    return this.bytes.subarray(start, this.at);
  }

  u8(): number {
    return this.take(1)[0]!;
  }

  u16(): number {
    return this.take(2).readUInt16BE(0);
  }

  u32(): number {
    return this.take(4).readUInt32BE(0);
  }

  /** type, reserved, length, value: the frame of every item. Trailing bytes too short for a frame are padding of sloppy peers. */
  *items(): Generator<{ itemType: number; second: number; value: Buffer }> {
    while (this.left >= 4) {
      const itemType = this.u8();
      const second = this.u8();
      yield { itemType, second, value: this.take(this.u16()) };
    }
  }
}

/** Titles and UIDs: padded with spaces or NULs by one peer or another. */
export function text(bytes: Buffer): string {
  const value = bytes.toString('latin1');
  const nul = value.indexOf('\0');
  return (nul < 0 ? value : value.slice(0, nul)).trim();
}

export function item(itemType: number, value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const header = Buffer.from([itemType, 0, 0, 0]);
  if (bytes.length > 0xffff)
    throw new RangeError(`item ${itemType.toString(16)}H of ${bytes.length} bytes does not fit`);
  header.writeUInt16BE(bytes.length, 2);
  return Buffer.concat([header, bytes]);
}

export function counted(value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export function u16(...values: number[]): Buffer {
  const out = Buffer.alloc(2 * values.length);
  values.forEach((value, n) => {
    out.writeUInt16BE(value, 2 * n);
  });
  return out;
}
