/**
 * The seven PDUs of PS3.8 §9.3 with every user information sub-item of PS3.7 Annex D: bytes in, values out, no socket.
 * Unknown items are skipped (PS3.8 §9.3.1 "items of unrecognized types shall be ignored"); lying lengths throw PduError.
 */
import { Cursor, item, PduError, text } from './items.ts';
import { ABORT } from './reasons.ts';
import { decodeUserInformation, encodeUserInformation, type UserInformation } from './user-information.ts';

export { PduError } from './items.ts';
export type {
  CommonExtendedNegotiation,
  RoleSelection,
  UserIdentity,
  UserInformation,
} from './user-information.ts';

export const PDU = {
  ASSOCIATE_RQ: 0x01,
  ASSOCIATE_AC: 0x02,
  ASSOCIATE_RJ: 0x03,
  P_DATA_TF: 0x04,
  RELEASE_RQ: 0x05,
  RELEASE_RP: 0x06,
  ABORT: 0x07,
} as const;

export const PDU_NAMES: Record<number, string> = {
  [PDU.ASSOCIATE_RQ]: 'A-ASSOCIATE-RQ',
  [PDU.ASSOCIATE_AC]: 'A-ASSOCIATE-AC',
  [PDU.ASSOCIATE_RJ]: 'A-ASSOCIATE-RJ',
  [PDU.P_DATA_TF]: 'P-DATA-TF',
  [PDU.RELEASE_RQ]: 'A-RELEASE-RQ',
  [PDU.RELEASE_RP]: 'A-RELEASE-RP',
  [PDU.ABORT]: 'A-ABORT',
};

export const PDU_HEADER_LENGTH = 6;
export const PDV_HEADER_LENGTH = 6; // item length (4), presentation context id (1), message control header (1)
export const APPLICATION_CONTEXT = '1.2.840.10008.3.1.1.1';

export interface ProposedContext {
  id: number;
  abstractSyntax: string;
  transferSyntaxes: string[];
}

export interface AnsweredContext {
  id: number;
  /** PS3.8 Table 9-18: 0 acceptance, 1 user rejection, 2 no reason, 3 abstract syntax, 4 transfer syntaxes not supported. */
  result: number;
  transferSyntax: string; // without meaning unless result is 0
}

interface AssociateCommon {
  protocolVersion: number;
  calledAeTitle: string; // trimmed of spaces and NULs
  callingAeTitle: string;
  /** Bytes 11–74 as received: an A-ASSOCIATE-AC returns them unchanged (PS3.8 Table 9-17). */
  titles?: Buffer;
  applicationContext: string;
  user: UserInformation;
}

export interface AssociateRq extends AssociateCommon {
  contexts: ProposedContext[];
}

export interface AssociateAc extends AssociateCommon {
  contexts: AnsweredContext[];
}

export interface Pdv {
  contextId: number;
  command: boolean; // else data set
  last: boolean;
  data: Buffer;
}

export type Pdu =
  | ({ type: typeof PDU.ASSOCIATE_RQ } & AssociateRq)
  | ({ type: typeof PDU.ASSOCIATE_AC } & AssociateAc)
  | { type: typeof PDU.ASSOCIATE_RJ; result: number; source: number; reason: number }
  | { type: typeof PDU.P_DATA_TF; pdvs: Pdv[] }
  | { type: typeof PDU.RELEASE_RQ }
  | { type: typeof PDU.RELEASE_RP }
  | { type: typeof PDU.ABORT; source: number; reason: number };

/** `body` is what follows the six header bytes. Values are copies or views of `body`. */
export function decodePdu(type: number, body: Buffer): Pdu {
  switch (type) {
    case PDU.ASSOCIATE_RQ:
      return { type, ...decodeAssociate(body, 0x20, decodeProposed, 'A-ASSOCIATE-RQ') };
    case PDU.ASSOCIATE_AC:
      return { type, ...decodeAssociate(body, 0x21, decodeAnswered, 'A-ASSOCIATE-AC') };
    case PDU.ASSOCIATE_RJ: {
      const cursor = new Cursor(body, 'A-ASSOCIATE-RJ');
      cursor.u8();
      return { type, result: cursor.u8(), source: cursor.u8(), reason: cursor.u8() };
    }
    case PDU.P_DATA_TF:
      return { type, pdvs: decodePdvs(body) };
    case PDU.RELEASE_RQ:
    case PDU.RELEASE_RP:
      return { type };
    case PDU.ABORT: {
      const cursor = new Cursor(body, 'A-ABORT');
      cursor.take(2);
      return { type, source: cursor.u8(), reason: cursor.u8() };
    }
    default:
      throw new PduError(ABORT.unrecognizedPdu, `PDU type ${type} is not one of PS3.8`);
  }
}

function decodePdvs(body: Buffer): Pdv[] {
  const cursor = new Cursor(body, 'P-DATA-TF');
  const pdvs: Pdv[] = [];
  while (cursor.left > 0) {
    const length = cursor.u32();
    if (length < 2) throw new PduError(ABORT.invalidParameterValue, `PDV item of ${length} bytes`);
    const item = cursor.take(length);
    pdvs.push({
      contextId: item[0]!,
      command: (item[1]! & 1) !== 0,
      last: (item[1]! & 2) !== 0,
      data: item.subarray(2),
    });
  }
  return pdvs;
}

function decodeAssociate<C>(
  body: Buffer,
  contextItem: number,
  decodeContext: (value: Buffer) => C,
  what: string,
): AssociateCommon & { contexts: C[] } {
  const cursor = new Cursor(body, what);
  const protocolVersion = cursor.u16();
  cursor.take(2);
  const titles = Buffer.from(cursor.take(64));
  let applicationContext = '';
  let user: UserInformation = { roles: [], extended: [], commonExtended: [] };
  const contexts: C[] = [];
  for (const { itemType, value } of cursor.items()) {
    if (itemType === 0x10) applicationContext = text(value);
    else if (itemType === contextItem) {
      if (contexts.length === 128)
        throw new PduError(ABORT.invalidParameterValue, `${what} with more than 128 contexts`);
      contexts.push(decodeContext(value));
    } else if (itemType === 0x50) user = decodeUserInformation(value);
  }
  return {
    protocolVersion,
    calledAeTitle: text(titles.subarray(0, 16)),
    callingAeTitle: text(titles.subarray(16, 32)),
    titles,
    applicationContext,
    contexts,
    user,
  };
}

function decodeProposed(value: Buffer): ProposedContext {
  const cursor = new Cursor(value, 'presentation context');
  const id = cursor.u8();
  cursor.take(3);
  let abstractSyntax = '';
  const transferSyntaxes: string[] = [];
  for (const item of cursor.items()) {
    if (item.itemType === 0x30) abstractSyntax = text(item.value);
    else if (item.itemType === 0x40) transferSyntaxes.push(text(item.value));
  }
  return { id, abstractSyntax, transferSyntaxes };
}

function decodeAnswered(value: Buffer): AnsweredContext {
  const cursor = new Cursor(value, 'presentation context');
  const id = cursor.u8();
  cursor.u8();
  const result = cursor.u8();
  cursor.u8();
  let transferSyntax = '';
  for (const item of cursor.items()) if (item.itemType === 0x40) transferSyntax = text(item.value);
  return { id, result, transferSyntax };
}

export function encodePdu(pdu: Pdu): Buffer {
  switch (pdu.type) {
    case PDU.ASSOCIATE_RQ:
      return frame(pdu.type, encodeAssociate(pdu, pdu.contexts.map(encodeProposed)));
    case PDU.ASSOCIATE_AC:
      return frame(pdu.type, encodeAssociate(pdu, pdu.contexts.map(encodeAnswered)));
    case PDU.ASSOCIATE_RJ:
      return frame(pdu.type, Buffer.from([0, pdu.result, pdu.source, pdu.reason]));
    case PDU.P_DATA_TF:
      return frame(pdu.type, Buffer.concat(pdu.pdvs.flatMap((pdv) => [encodePdvHeader(pdv), pdv.data])));
    case PDU.RELEASE_RQ:
    case PDU.RELEASE_RP:
      return frame(pdu.type, Buffer.alloc(4));
    case PDU.ABORT:
      return frame(pdu.type, Buffer.from([0, 0, pdu.source, pdu.reason]));
  }
}

function encodePdvHeader(pdv: Pdv): Buffer {
  const header = Buffer.alloc(PDV_HEADER_LENGTH);
  header.writeUInt32BE(pdv.data.length + 2);
  header[4] = pdv.contextId;
  header[5] = (pdv.command ? 1 : 0) | (pdv.last ? 2 : 0);
  return header;
}

/** The twelve bytes before the payload of a P-DATA-TF that carries one PDV: what the sender writes ahead of each fragment. */
export function writePDataHeader(out: Buffer, at: number, contextId: number, control: number, payload: number): void {
  out[at] = PDU.P_DATA_TF;
  out[at + 1] = 0;
  out.writeUInt32BE(payload + PDV_HEADER_LENGTH, at + 2);
  out.writeUInt32BE(payload + 2, at + 6);
  out[at + 10] = contextId;
  out[at + 11] = control;
}

function frame(type: number, body: Buffer): Buffer {
  const header = Buffer.alloc(PDU_HEADER_LENGTH);
  header[0] = type;
  header.writeUInt32BE(body.length, 2);
  return Buffer.concat([header, body]);
}

function encodeAssociate(common: AssociateCommon, contexts: Buffer[]): Buffer {
  const head = Buffer.alloc(68);
  head.writeUInt16BE(common.protocolVersion);
  if (common.titles !== undefined) common.titles.copy(head, 4, 0, 64);
  else {
    head.write(common.calledAeTitle.padEnd(16).slice(0, 16), 4, 'latin1');
    head.write(common.callingAeTitle.padEnd(16).slice(0, 16), 20, 'latin1');
  }
  return Buffer.concat([
    head,
    item(0x10, common.applicationContext),
    ...contexts,
    item(0x50, encodeUserInformation(common.user)),
  ]);
}

function encodeProposed(context: ProposedContext): Buffer {
  const syntaxes = context.transferSyntaxes.map((uid) => item(0x40, uid));
  return item(
    0x20,
    Buffer.concat([Buffer.from([context.id, 0, 0, 0]), item(0x30, context.abstractSyntax), ...syntaxes]),
  );
}

function encodeAnswered(context: AnsweredContext): Buffer {
  return item(
    0x21,
    Buffer.concat([Buffer.from([context.id, 0, context.result, 0]), item(0x40, context.transferSyntax)]),
  );
}
