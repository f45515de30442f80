/**
 * POSIX ustar headers (IEEE Std 1003.1, pax §"ustar Interchange Format"): the one container that anybody can open in thirty years.
 */
export const BLOCK = 512;
/** Two zero blocks end a tar; a segment without them (still open, or cut) reads just as well. */
export const TRAILER = Buffer.alloc(2 * BLOCK);
const ZEROS = Buffer.alloc(BLOCK);

export interface TarHeader {
  readonly name: string;
  readonly bytes: number;
}

export function paddingOf(bytes: number): Buffer {
  const over = bytes % BLOCK;
  return over === 0 ? ZEROS.subarray(0, 0) : ZEROS.subarray(0, BLOCK - over);
}

export const paddedLength = (bytes: number): number => Math.ceil(bytes / BLOCK) * BLOCK;

/** Writes a header of one block into `target` at `at`. The name must fit name (100) and prefix (155), split at a slash. */
export function writeTarHeader(target: Buffer, at: number, name: string, bytes: number, modifiedSeconds: number): void {
  target.fill(0, at, at + BLOCK);
  const split = splitName(name);
  target.write(split.name, at, 'latin1');
  target.write('0000644\u00000000000\u00000000000\u0000', at + 100, 'latin1'); // mode, uid, gid
  if (bytes < 8 ** 11) target.write(bytes.toString(8).padStart(11, '0'), at + 124, 'latin1');
  else {
    target[at + 124] = 0x80; // GNU base-256, where octal ends at 8 GiB
    target.writeUIntBE(bytes, at + 130, 6);
  }
  target.write(Math.floor(modifiedSeconds).toString(8).padStart(11, '0'), at + 136, 'latin1');
  target.write('        0', at + 148, 'latin1'); // checksum as spaces while it is summed; typeflag '0', a regular file
  target.write('ustar\u000000', at + 257, 'latin1');
  target.write(split.prefix, at + 345, 'latin1');
  target.write(checksum(target, at).toString(8).padStart(6, '0') + '\u0000 ', at + 148, 'latin1');
}

/** Undefined: not a header (zeros, garbage, a torn block). Never throws, whatever the bytes are. */
export function parseTarHeader(block: Buffer, at = 0): TarHeader | undefined {
  if (block.length < at + BLOCK || block.toString('latin1', at + 257, at + 262) !== 'ustar') return undefined;
  const sum = octal(block, at + 148, 8);
  if (sum === undefined || sum !== checksum(block, at)) return undefined;
  let bytes: number | undefined;
  if (block[at + 124] === 0x80)
    bytes = block.readUInt32BE(at + 126) > 0xffff ? undefined : block.readUIntBE(at + 130, 6);
  else bytes = octal(block, at + 124, 12);
  if (bytes === undefined || !Number.isSafeInteger(bytes)) return undefined;
  const prefix = text(block, at + 345, 155);
  const name = text(block, at, 100);
  return { name: prefix === '' ? name : `${prefix}/${name}`, bytes };
}

function splitName(path: string): { prefix: string; name: string } {
  if (path.length <= 100) return { prefix: '', name: path };
  const slash = path.lastIndexOf('/');
  const split = { prefix: path.slice(0, Math.max(slash, 0)), name: path.slice(slash + 1) };
  if (split.prefix.length > 155 || split.name.length > 100 || split.name === '')
    throw new RangeError('a tar name does not fit ustar');
  return split;
}

/** The sum of all bytes, with the checksum's own eight taken as spaces. */
function checksum(block: Buffer, at: number): number {
  let sum = 8 * 32;
  for (let i = at; i < at + 148; i++) sum += block[i]!;
  for (let i = at + 156; i < at + BLOCK; i++) sum += block[i]!;
  return sum;
}

function text(block: Buffer, at: number, length: number): string {
  const end = block.subarray(at, at + length).indexOf(0);
  return block.toString('latin1', at, at + (end < 0 ? length : end));
}

function octal(block: Buffer, at: number, length: number): number | undefined {
  const digits = text(block, at, length).trim();
  return /^[0-7]{1,12}$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}
