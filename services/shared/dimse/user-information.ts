/** The user information item and every sub-item of PS3.7 Annex D.3.3: bytes in, values out. */
import { Cursor, counted, item, text, u16 } from './items.ts';

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

export function decodeUserInformation(value: Buffer): UserInformation {
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

export function encodeUserInformation(user: UserInformation): Buffer {
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
