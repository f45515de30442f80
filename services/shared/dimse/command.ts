/**
 * The command set (PS3.7 Annex E): group 0000, always Implicit VR Little Endian. One table; bytes in, values out.
 * Tolerant in what it reads: no group length, any order, odd lengths, NUL or space padding, any CommandDataSetType.
 */

export const COMMAND = {
  C_STORE_RQ: 0x0001,
  C_STORE_RSP: 0x8001,
  C_GET_RQ: 0x0010,
  C_GET_RSP: 0x8010,
  C_FIND_RQ: 0x0020,
  C_FIND_RSP: 0x8020,
  C_MOVE_RQ: 0x0021,
  C_MOVE_RSP: 0x8021,
  C_ECHO_RQ: 0x0030,
  C_ECHO_RSP: 0x8030,
  N_EVENT_REPORT_RQ: 0x0100,
  N_EVENT_REPORT_RSP: 0x8100,
  N_GET_RQ: 0x0110,
  N_GET_RSP: 0x8110,
  N_SET_RQ: 0x0120,
  N_SET_RSP: 0x8120,
  N_ACTION_RQ: 0x0130,
  N_ACTION_RSP: 0x8130,
  N_CREATE_RQ: 0x0140,
  N_CREATE_RSP: 0x8140,
  N_DELETE_RQ: 0x0150,
  N_DELETE_RSP: 0x8150,
  C_CANCEL_RQ: 0x0fff,
} as const;

export const PRIORITY = { MEDIUM: 0, HIGH: 1, LOW: 2 } as const;

export interface CommandSet {
  commandField: number;
  /** CommandDataSetType (0000,0800) other than 0101H. */
  hasData: boolean;
  messageId?: number;
  messageIdBeingRespondedTo?: number;
  affectedSopClassUid?: string;
  requestedSopClassUid?: string;
  affectedSopInstanceUid?: string;
  requestedSopInstanceUid?: string;
  status?: number;
  priority?: number;
  moveDestination?: string;
  moveOriginatorAeTitle?: string;
  moveOriginatorMessageId?: number;
  remainingSubOperations?: number;
  completedSubOperations?: number;
  failedSubOperations?: number;
  warningSubOperations?: number;
  offendingElement?: number[];
  errorComment?: string; // at most 64 characters go out
  errorId?: number;
  attributeIdentifierList?: number[];
  eventTypeId?: number;
  actionTypeId?: number;
}

type CommandName = Exclude<keyof CommandSet, 'hasData'>;
type CommandVr = 'UI' | 'US' | 'AE' | 'AT' | 'LO';

/** PS3.7 Table E.1-1, in the order of tags; all are of group 0000. */
const ELEMENTS: readonly (readonly [element: number, name: CommandName, vr: CommandVr])[] = [
  [0x0002, 'affectedSopClassUid', 'UI'],
  [0x0003, 'requestedSopClassUid', 'UI'],
  [0x0100, 'commandField', 'US'],
  [0x0110, 'messageId', 'US'],
  [0x0120, 'messageIdBeingRespondedTo', 'US'],
  [0x0600, 'moveDestination', 'AE'],
  [0x0700, 'priority', 'US'],
  // (0000,0800) CommandDataSetType is `hasData`
  [0x0900, 'status', 'US'],
  [0x0901, 'offendingElement', 'AT'],
  [0x0902, 'errorComment', 'LO'],
  [0x0903, 'errorId', 'US'],
  [0x1000, 'affectedSopInstanceUid', 'UI'],
  [0x1001, 'requestedSopInstanceUid', 'UI'],
  [0x1002, 'eventTypeId', 'US'],
  [0x1005, 'attributeIdentifierList', 'AT'],
  [0x1008, 'actionTypeId', 'US'],
  [0x1020, 'remainingSubOperations', 'US'],
  [0x1021, 'completedSubOperations', 'US'],
  [0x1022, 'failedSubOperations', 'US'],
  [0x1023, 'warningSubOperations', 'US'],
  [0x1030, 'moveOriginatorAeTitle', 'AE'],
  [0x1031, 'moveOriginatorMessageId', 'US'],
];

const COMMAND_DATA_SET_TYPE = 0x0800;
const NO_DATA_SET = 0x0101; // PS3.7 §E.1: any other value says that there is one
const BY_ELEMENT = new Map(ELEMENTS.map((row) => [row[0], row]));

export class CommandError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CommandError';
  }
}

/** Leading and trailing spaces, and everything from a NUL on, are padding (PS3.5 §6.2). */
function text(bytes: Buffer): string {
  const value = bytes.toString('latin1');
  const nul = value.indexOf('\0');
  return (nul < 0 ? value : value.slice(0, nul)).trim();
}

export function decodeCommand(bytes: Buffer): CommandSet {
  // Collected loosely typed: the table says which name has which type.
  const values: Record<string, unknown> = {};
  let hasData: boolean | undefined;
  let at = 0;
  while (at + 8 <= bytes.length) {
    const group = bytes.readUInt16LE(at);
    const element = bytes.readUInt16LE(at + 2);
    const length = bytes.readUInt32LE(at + 4);
    at += 8;
    if (length > bytes.length - at) {
      throw new CommandError(
        `command element (${hex(group)},${hex(element)}) claims ${length} bytes of ${bytes.length - at}`,
      );
    }
    const end = at + length;
    if (group === 0) {
      if (element === COMMAND_DATA_SET_TYPE) {
        if (length >= 2) hasData = bytes.readUInt16LE(at) !== NO_DATA_SET;
      } else {
        const row = BY_ELEMENT.get(element);
        // Group length and the retired elements (PS3.7 §E.2) carry nothing that we need; an unknown one is skipped.
        if (row !== undefined && length > 0) values[row[1]] = decodeValue(bytes.subarray(at, end), row[2]);
      }
    } else {
      throw new CommandError(`command set holds an element of group ${hex(group)}`);
    }
    at = end;
  }
  if (at !== bytes.length) throw new CommandError(`command set ends with ${bytes.length - at} stray bytes`);
  if (values.commandField === undefined) throw new CommandError('command set without Command Field (0000,0100)');
  if (hasData === undefined) throw new CommandError('command set without Command Data Set Type (0000,0800)');
  values.hasData = hasData;
  return values as unknown as CommandSet;
}

function decodeValue(bytes: Buffer, vr: CommandVr): unknown {
  if (vr === 'US') return bytes.length >= 2 ? bytes.readUInt16LE(0) : undefined;
  if (vr !== 'AT') return text(bytes);
  const tags: number[] = [];
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    tags.push(bytes.readUInt16LE(at) * 0x10000 + bytes.readUInt16LE(at + 2));
  }
  return tags;
}

export function encodeCommand(command: CommandSet): Buffer {
  const parts: { element: number; value: Buffer }[] = [];
  for (const [element, name, vr] of ELEMENTS) {
    const value = command[name];
    if (value === undefined) continue;
    if (element > COMMAND_DATA_SET_TYPE && !parts.some((part) => part.element === COMMAND_DATA_SET_TYPE)) {
      parts.push({ element: COMMAND_DATA_SET_TYPE, value: dataSetType(command.hasData) });
    }
    parts.push({ element, value: encodeValue(value, vr) });
  }
  if (!parts.some((part) => part.element === COMMAND_DATA_SET_TYPE)) {
    parts.push({ element: COMMAND_DATA_SET_TYPE, value: dataSetType(command.hasData) });
  }
  let length = 0;
  for (const part of parts) length += 8 + part.value.length;
  const out = Buffer.alloc(12 + length);
  out.writeUInt32LE(4, 4); // (0000,0000) CommandGroupLength, 4 bytes
  out.writeUInt32LE(length, 8);
  let at = 12;
  for (const { element, value } of parts) {
    out.writeUInt16LE(element, at + 2);
    out.writeUInt32LE(value.length, at + 4);
    value.copy(out, at + 8);
    at += 8 + value.length;
  }
  return out;
}

function dataSetType(hasData: boolean): Buffer {
  const value = Buffer.alloc(2);
  value.writeUInt16LE(hasData ? 0x0001 : NO_DATA_SET);
  return value;
}

function encodeValue(value: string | number | number[], vr: CommandVr): Buffer {
  if (typeof value === 'number') {
    const out = Buffer.alloc(2);
    out.writeUInt16LE(value);
    return out;
  }
  if (typeof value !== 'string') {
    const out = Buffer.alloc(4 * value.length);
    value.forEach((tag, n) => {
      out.writeUInt16LE(tag >>> 16, 4 * n);
      out.writeUInt16LE(tag & 0xffff, 4 * n + 2);
    });
    return out;
  }
  // Error Comment is LO of the default repertoire, at most 64 characters; a backslash would make it two values.
  const chars = vr === 'LO' ? value.replace(/[^\x20-\x5b\x5d-\x7e]/g, '?').slice(0, 64) : value;
  const padding = chars.length % 2 === 0 ? '' : vr === 'UI' ? '\0' : ' ';
  return Buffer.from(chars + padding, 'latin1');
}

function hex(value: number): string {
  return value.toString(16).padStart(4, '0').toUpperCase();
}

export function isResponse(commandField: number): boolean {
  return (commandField & 0x8000) !== 0;
}
