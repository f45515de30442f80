/**
 * PDUs out of a byte stream cut anywhere. P-DATA-TF is never assembled: its fragments are handed on as views of the chunk, so a
 * header that claims 4 GB costs nothing. The other PDUs are gathered whole, up to a limit.
 */
import { Gathered } from './gathered.ts';
import { decodePdu, PDU, PDU_HEADER_LENGTH, PDV_HEADER_LENGTH, type Pdu, PduError } from './pdu.ts';
import { ABORT } from './reasons.ts';

export interface PduSink {
  /** A header was read. Throw PduError to refuse the PDU before its body. */
  begin(type: number, length: number): void;
  /** Part of a PDV. `last` (of its command or data set) is only ever set on the part that ends a PDV. */
  fragment(contextId: number, command: boolean, data: Buffer, last: boolean): void;
  /** A P-DATA-TF is over. */
  endOfData(): void;
  /** Any other PDU, whole. */
  pdu(pdu: Pdu): void;
}

export interface ReaderLimits {
  controlPduLengthMax: number;
  pduLengthReceived: number;
}

type Place = 'pdu-header' | 'control-body' | 'pdv-header' | 'pdv-body';

export class PduReader {
  private readonly sink: PduSink;
  private readonly limits: ReaderLimits;
  private place: Place = 'pdu-header';
  private readonly header = Buffer.alloc(Math.max(PDU_HEADER_LENGTH, PDV_HEADER_LENGTH));
  private headerFilled = 0;
  private type = 0;
  private pduLeft = 0;
  private pdvLeft = 0;
  private contextId = 0;
  private control = 0;
  private readonly body = new Gathered();
  private stopped = false;

  constructor(sink: PduSink, limits: ReaderLimits) {
    this.sink = sink;
    this.limits = limits;
  }

  /** True while a PDU has begun and not ended: what the per-PDU deadline watches. */
  get insidePdu(): boolean {
    return this.place !== 'pdu-header' || this.headerFilled > 0;
  }

  /** Whatever comes after this is ignored. A sink calls it from inside `push` when it has given up on the peer. */
  stop(): void {
    this.stopped = true;
  }

  /** Throws PduError; the reader is of no use after that. */
  push(chunk: Buffer): void {
    let at = 0;
    // The empty bodies (a PDV without payload, a PDU without PDVs) end in the same turn as their header.
    while (at < chunk.length && !this.stopped) {
      switch (this.place) {
        case 'pdu-header':
          at = this.fill(chunk, at);
          if (this.headerFilled === PDU_HEADER_LENGTH) this.beginPdu();
          break;
        case 'control-body': {
          const end = Math.min(chunk.length, at + this.pduLeft);
          this.body.append(chunk.subarray(at, end));
          this.pduLeft -= end - at;
          at = end;
          if (this.pduLeft === 0) this.endControl();
          break;
        }
        case 'pdv-header':
          at = this.fill(chunk, at);
          if (this.headerFilled === PDV_HEADER_LENGTH) this.beginPdv();
          break;
        case 'pdv-body': {
          const end = Math.min(chunk.length, at + this.pdvLeft);
          this.pdvLeft -= end - at;
          this.pduLeft -= end - at;
          this.endOfFragment(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
          at = end;
          break;
        }
      }
    }
  }

  private fill(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + PDU_HEADER_LENGTH - this.headerFilled);
    // Byte by byte: six at most, and cheaper than a copy() call.
    while (at < end) this.header[this.headerFilled++] = chunk[at++]!;
    return at;
  }

  private beginPdu(): void {
    this.headerFilled = 0;
    this.type = this.header[0]!;
    const length = this.header.readUInt32BE(2);
    if (this.type < PDU.ASSOCIATE_RQ || this.type > PDU.ABORT) {
      throw new PduError(ABORT.unrecognizedPdu, `PDU type ${this.type} is not one of PS3.8`);
    }
    const limit = this.type === PDU.P_DATA_TF ? 'pduLengthReceived' : 'controlPduLengthMax';
    if (length > this.limits[limit]) {
      throw new PduError(ABORT.invalidParameterValue, `PDU type ${this.type} claims ${length} bytes`, limit);
    }
    this.sink.begin(this.type, length);
    this.pduLeft = length;
    if (this.type === PDU.P_DATA_TF) {
      if (length === 0) this.sink.endOfData();
      else this.nextPdv();
    } else {
      this.place = 'control-body';
      if (length === 0) this.endControl();
    }
  }

  private endControl(): void {
    this.place = 'pdu-header';
    this.sink.pdu(decodePdu(this.type, this.body.take()));
  }

  private nextPdv(): void {
    if (this.pduLeft < PDV_HEADER_LENGTH) {
      throw new PduError(ABORT.invalidParameterValue, `P-DATA-TF with ${this.pduLeft} bytes where a PDV should begin`);
    }
    this.place = 'pdv-header';
  }

  private beginPdv(): void {
    this.headerFilled = 0;
    this.pduLeft -= PDV_HEADER_LENGTH;
    const length = this.header.readUInt32BE(0);
    if (length < 2 || length - 2 > this.pduLeft) {
      throw new PduError(ABORT.invalidParameterValue, `PDV claims ${length} bytes where ${this.pduLeft + 2} are left`);
    }
    this.contextId = this.header[4]!;
    this.control = this.header[5]!;
    this.pdvLeft = length - 2;
    this.place = 'pdv-body';
    if (this.pdvLeft === 0) this.endOfFragment(Buffer.alloc(0));
  }

  private endOfFragment(data: Buffer): void {
    const endOfPdv = this.pdvLeft === 0;
    this.sink.fragment(this.contextId, (this.control & 1) !== 0, data, endOfPdv && (this.control & 2) !== 0);
    if (!endOfPdv) return;
    if (this.pduLeft > 0) {
      this.nextPdv();
      return;
    }
    this.place = 'pdu-header';
    this.sink.endOfData();
  }
}
