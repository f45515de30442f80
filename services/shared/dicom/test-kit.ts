import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readPart10Prefix } from './part10.ts';
import { type VR, VRS } from './tags.ts';

/** For tests only: data sets by hand, and the real files of ../shared/data/open. */

export interface Form {
  explicit: boolean;
  bigEndian: boolean;
}
export const EXPLICIT_LE: Form = { explicit: true, bigEndian: false };
export const IMPLICIT_LE: Form = { explicit: false, bigEndian: false };
export const EXPLICIT_BE: Form = { explicit: true, bigEndian: true };

const u16 = (value: number, form: Form): Buffer => {
  const bytes = Buffer.alloc(2);
  if (form.bigEndian) bytes.writeUInt16BE(value);
  else bytes.writeUInt16LE(value);
  return bytes;
};
const u32 = (value: number, form: Form): Buffer => {
  const bytes = Buffer.alloc(4);
  if (form.bigEndian) bytes.writeUInt32BE(value);
  else bytes.writeUInt32LE(value);
  return bytes;
};
const tagBytes = (tag: number, form: Form): Buffer => Buffer.concat([u16(tag >>> 16, form), u16(tag & 0xffff, form)]);

/** `length`: what the header says instead of the truth. */
export function element(tag: number, vr: string, value: Buffer | string, form = EXPLICIT_LE, length?: number): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const stated = length ?? bytes.length;
  if (!form.explicit) return Buffer.concat([tagBytes(tag, form), u32(stated, form), bytes]);
  const long = (VRS as Record<string, { long: boolean }>)[vr]?.long ?? true;
  const header = long
    ? [Buffer.from(`${vr}\0\0`, 'latin1'), u32(stated, form)]
    : [Buffer.from(vr, 'latin1'), u16(stated, form)];
  return Buffer.concat([tagBytes(tag, form), ...header, bytes]);
}

export const item = (content: Buffer, form = EXPLICIT_LE, length = content.length): Buffer =>
  Buffer.concat([tagBytes(0xfffee000, form), u32(length, form), content]);
export const openItem = (content: Buffer, form = EXPLICIT_LE): Buffer =>
  Buffer.concat([item(content, form, 0xffffffff), tagBytes(0xfffee00d, form), u32(0, form)]);
export const sequenceEnd = (form = EXPLICIT_LE): Buffer => Buffer.concat([tagBytes(0xfffee0dd, form), u32(0, form)]);
export const sequence = (tag: number, items: Buffer[], form = EXPLICIT_LE): Buffer =>
  element(tag, 'SQ', Buffer.concat(items), form);
export const openSequence = (tag: number, items: Buffer[], form = EXPLICIT_LE, vr: VR = 'SQ'): Buffer =>
  Buffer.concat([element(tag, vr, Buffer.concat(items), form, 0xffffffff), sequenceEnd(form)]);

/** What every instance has. */
export const identity = (form = EXPLICIT_LE): Buffer =>
  Buffer.concat([
    element(0x00080016, 'UI', '1.2.840.10008.5.1.4.1.1.7\0', form),
    element(0x00080018, 'UI', '2.25.1', form),
    element(0x00100010, 'PN', 'A^B ', form),
    element(0x0020000d, 'UI', '2.25.2', form),
    element(0x0020000e, 'UI', '2.25.3', form),
  ]);

/** With native and with encapsulated pixel data. */
export const PIXEL = Buffer.alloc(5000, 7);
export const native = (form = EXPLICIT_LE): Buffer =>
  Buffer.concat([identity(form), element(0x7fe00010, 'OW', PIXEL, form)]);
export const fragments = (...lengths: number[]): Buffer =>
  Buffer.concat(lengths.map((length) => item(Buffer.alloc(length, 1))));
export const encapsulated = (table: number[], ...lengths: number[]): Buffer => {
  const bot = Buffer.alloc(table.length * 4);
  for (const [n, offset] of table.entries()) bot.writeUInt32LE(offset, n * 4);
  return Buffer.concat([
    identity(),
    element(0x7fe00010, 'OB', Buffer.concat([item(bot), fragments(...lengths)]), EXPLICIT_LE, 0xffffffff),
    sequenceEnd(),
  ]);
};

export const EXPLICIT = '1.2.840.10008.1.2.1';
export const IMPLICIT = '1.2.840.10008.1.2';
export const BIG_ENDIAN = '1.2.840.10008.1.2.2';
export const DEFLATED = '1.2.840.10008.1.2.1.99';
export const JPEG = '1.2.840.10008.1.2.4.50';

const OPEN = join(import.meta.dirname, '../../../../shared/data/open');

export interface OpenFile {
  path: string;
  class: string;
  read(): Buffer;
  /** The data set after group 0002; throws what readPart10Prefix throws. */
  dataSet(): { bytes: Buffer; transferSyntaxUid: string };
}

/** The real files, or nothing where the folder is absent; in CI its absence fails. */
export function openFiles(): OpenFile[] {
  const table = `${OPEN}.tsv`;
  if (!existsSync(table)) {
    if (process.env.CI) throw new Error(`${table} is missing, and CI=${process.env.CI}`);
    return [];
  }
  const [columns, ...rows] = readFileSync(table, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t'));
  const kind = columns!.indexOf('class');
  return rows.map((row) => {
    const read = (): Buffer => readFileSync(join(OPEN, row[0]!));
    return {
      path: row[0]!,
      class: row[kind]!,
      read,
      dataSet() {
        const file = read();
        const prefix = readPart10Prefix(file, true);
        if (prefix.needMoreBytes !== undefined) throw new Error('a whole file, and it wants more');
        return { bytes: file.subarray(prefix.dataSetOffset), transferSyntaxUid: prefix.transferSyntaxUid };
      },
    };
  });
}
