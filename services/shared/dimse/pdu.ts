/**
 * The seven PDUs of PS3.8 §9.3 with every user information sub-item of PS3.7 Annex D: bytes in, values out, no socket.
 * Unknown items are skipped (PS3.8 §9.3.1 "items of unrecognized types shall be ignored"); lying lengths throw PduError.
 */
import { ABORT } from './reasons.ts';

export const PDU = {
  ASSOCIATE_RQ: 0x01,
  ASSOCIATE_AC: 0x02,
  ASSOCIATE_RJ: 0x03,
  P_DATA_TF: 0x04,
  RELEASE_RQ: 0x05,
  RELEASE_RP: 0x06,
  ABORT: 0x07,
} as const;

export const PDU_HEADER_LENGTH = 6;
export const PDV_HEADER_LENGTH = 6; // item length (4), presentation context id (1), message control header (1)
export const APPLICATION_CONTEXT = '1.2.840.10008.3.1.1.1';

export interface RoleSelection {
  sopClassUid: string;
  scu: boolean;
  scp: boolean;
}

/** PS3.7 §D.3.3.7: 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JWT. Never log primary or secondary. */
export interface UserIdentity {
  type: number;
  positiveResponseRequested: boolean;
  primary: Buffer;
  secondary: Buffer;
}

export interface CommonExtendedNegotiation {
  sopClassUid: string;
  serviceClassUid: string;
  relatedGeneralSopClassUids: string[];
}

export interface UserInformation {
  /** 0 is unlimited (PS3.8 §D.1). */
  maxPduLength?: number;
  implementationClassUid?: string;
  implementationVersionName?: string;
  asyncOperations?: { invoked: number; performed: number }; // 0 is unlimited
  roles: RoleSelection[];
  extended: { sopClassUid: string; info: Buffer }[];
  commonExtended: CommonExtendedNegotiation[];
  userIdentity?: UserIdentity; // A-ASSOCIATE-RQ
  userIdentityResponse?: Buffer; // A-ASSOCIATE-AC
}

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
class Cursor {
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
function text(bytes: Buffer): string {
  const value = bytes.toString('latin1');
  const nul = value.indexOf('\0');
  return (nul < 0 ? value : value.slice(0, nul)).trim();
}

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

function decodeUserInformation(value: Buffer): UserInformation {
  const user: UserInformation = { roles: [], extended: [], commonExtended: [] };
  for (const item of new Cursor(value, 'user information').items()) {
    const cursor = new Cursor(item.value, `user information item ${item.itemType.toString(16)}H`);
    const uid = () => text(cursor.take(cursor.u16()));
    switch (item.itemType) {
      case 0x51:
        user.maxPduLength = cursor.u32();
        break;
      case 0x52:
        user.implementationClassUid = text(item.value);
        break;
      case 0x53:
        user.asyncOperations = { invoked: cursor.u16(), performed: cursor.u16() };
        break;
      case 0x54:
        user.roles.push({ sopClassUid: uid(), scu: cursor.u8() === 1, scp: cursor.u8() === 1 });
        break;
      case 0x55:
        user.implementationVersionName = text(item.value);
        break;
      case 0x56:
        user.extended.push({ sopClassUid: uid(), info: Buffer.from(cursor.take(cursor.left)) });
        break;
      case 0x57: {
        const common: CommonExtendedNegotiation = {
          sopClassUid: uid(),
          serviceClassUid: uid(),
          relatedGeneralSopClassUids: [],
        };
        const related = new Cursor(cursor.take(cursor.left >= 2 ? cursor.u16() : 0), 'related general SOP classes');
        while (related.left > 0) common.relatedGeneralSopClassUids.push(text(related.take(related.u16())));
        user.commonExtended.push(common);
        break;
      }
      case 0x58:
        user.userIdentity = {
          type: cursor.u8(),
          positiveResponseRequested: cursor.u8() !== 0,
          primary: Buffer.from(cursor.take(cursor.u16())),
          // Types 1, 3, 4 and 5 have no secondary field; some peers leave its length out too.
          secondary: Buffer.from(cursor.left >= 2 ? cursor.take(cursor.u16()) : []),
        };
        break;
      case 0x59:
        user.userIdentityResponse = Buffer.from(cursor.take(cursor.u16()));
        break;
    }
  }
  return user;
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

function item(itemType: number, value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const header = Buffer.from([itemType, 0, 0, 0]);
  if (bytes.length > 0xffff)
    throw new RangeError(`item ${itemType.toString(16)}H of ${bytes.length} bytes does not fit`);
  header.writeUInt16BE(bytes.length, 2);
  return Buffer.concat([header, bytes]);
}

function counted(value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function u16(...values: number[]): Buffer {
  const out = Buffer.alloc(2 * values.length);
  values.forEach((value, n) => {
    out.writeUInt16BE(value, 2 * n);
  });
  return out;
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

function encodeUserInformation(user: UserInformation): Buffer {
  const parts: Buffer[] = [];
  if (user.maxPduLength !== undefined) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(user.maxPduLength);
    parts.push(item(0x51, length));
  }
  if (user.implementationClassUid !== undefined) parts.push(item(0x52, user.implementationClassUid));
  if (user.asyncOperations !== undefined) {
    parts.push(item(0x53, u16(user.asyncOperations.invoked, user.asyncOperations.performed)));
  }
  for (const role of user.roles) {
    parts.push(
      item(0x54, Buffer.concat([counted(role.sopClassUid), Buffer.from([Number(role.scu), Number(role.scp)])])),
    );
  }
  if (user.implementationVersionName !== undefined) parts.push(item(0x55, user.implementationVersionName));
  for (const extended of user.extended) {
    parts.push(item(0x56, Buffer.concat([counted(extended.sopClassUid), extended.info])));
  }
  for (const common of user.commonExtended) {
    const related = Buffer.concat(common.relatedGeneralSopClassUids.map(counted));
    parts.push(
      item(0x57, Buffer.concat([counted(common.sopClassUid), counted(common.serviceClassUid), counted(related)])),
    );
  }
  if (user.userIdentity !== undefined) {
    const { type, positiveResponseRequested, primary, secondary } = user.userIdentity;
    parts.push(
      item(
        0x58,
        Buffer.concat([Buffer.from([type, Number(positiveResponseRequested)]), counted(primary), counted(secondary)]),
      ),
    );
  }
  if (user.userIdentityResponse !== undefined) parts.push(item(0x59, counted(user.userIdentityResponse)));
  return Buffer.concat(parts);
}
