import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ByteWriter } from '#dicom/byte-writer.ts';
import { digestFrom } from '../fold/prefix.ts';
import type { EntryControl, EntryRecord } from '../fold/types.ts';
import { ByteReader } from './bytes.ts';

/**
 * A block: entries column by column, so that what is alike lies together and compresses to nothing; then, outside the compressed part,
 * the digests of each entry, which never compress. Measured: see adr/0031.
 */
const FORMAT = 2;
export const BLOCK_ENTRIES_MAX = 512;
/** A form costs about a hundred bytes, a digest 32. */
const FORM_ENTRIES_MIN = 5;
const DIGEST_BYTES = 32;
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

class Dictionary {
  readonly known = new Map<string, number>();
  add(text: string): number {
    let index = this.known.get(text);
    if (index === undefined) this.known.set(text, (index = this.known.size));
    return index;
  }
}

export function encodeBlock(records: readonly EntryRecord[]): Buffer {
  const out = new ByteWriter();
  const dictionary = new Dictionary();
  const column = (value: (record: EntryRecord) => number): void => {
    let before = 0;
    for (const record of records) {
      const now = value(record);
      out.signed(now - before);
      before = now;
    }
  };
  out.number(records.length);
  // UIDs of a series mostly differ in their last digits.
  let before = '';
  for (const { sopInstanceUid } of records) {
    let shared = 0;
    while (shared < before.length && before[shared] === sopInstanceUid[shared]) shared++;
    if (shared > 0 && /[\udc00-\udfff]/.test(sopInstanceUid[shared] ?? '')) shared--; // never between two halves of one character
    out.number(shared);
    out.text(sopInstanceUid.slice(shared));
    before = sopInstanceUid;
  }
  column((one) => dictionary.add(one.sopClassUid));
  column((one) => dictionary.add(one.transferSyntaxUid));
  column((one) => dictionary.add(one.id.lane));
  column((one) => one.id.sequence);
  column((one) => one.id.n);
  column((one) => Number.parseInt(one.stamp.slice(0, 12), 16));
  column((one) => Number.parseInt(one.stamp.slice(12), 16));
  column((one) => dictionary.add(one.place.object));
  let end = 0; // neighbours in the log lie one after the other
  for (const { place } of records) {
    out.signed(place.offset - end);
    end = place.offset + place.length;
  }
  column((one) => one.place.length);
  column((one) => one.place.encoding);
  column((one) => one.dataSetOffset);
  column((one) => one.numberOfFrames);
  column((one) => one.rows);
  column((one) => one.columns);
  column((one) => one.bitsAllocated);
  column((one) => one.variant);
  const forms = new Map<string, number>();
  for (const { form } of records) if (form !== undefined) forms.set(form, (forms.get(form) ?? 0) + 1);
  const formed = ({ form }: EntryRecord): boolean => form !== undefined && forms.get(form)! >= FORM_ENTRIES_MIN;
  column((one) => (formed(one) ? 1 + dictionary.add(one.form!) : 0));
  for (const { instanceNumber } of records) out.text(instanceNumber);
  const controlled = records.flatMap((one, index) => (one.control ? [{ index, control: one.control }] : []));
  out.number(controlled.length);
  for (const { index, control } of controlled) {
    out.number(index);
    out.text(JSON.stringify(control));
  }
  const words = new ByteWriter();
  words.number(dictionary.known.size);
  for (const text of dictionary.known.keys()) words.text(text);

  const columns = zstdCompressSync(Buffer.concat([words.end(), out.end()]), LEVEL);
  const block = new ByteWriter();
  block.number(FORMAT);
  block.bytes(columns);
  for (const record of records) {
    block.raw(exactly(record.version));
    if (!formed(record)) block.raw(exactly(record.digest));
  }
  return Buffer.from(block.end());
}

/** The fold refuses other lengths before they come here. */
function exactly(digest: Buffer): Buffer {
  if (digest.length !== DIGEST_BYTES) throw new Error(`a digest of ${digest.length} bytes`);
  return digest;
}

export function decodeBlock(data: Uint8Array): EntryRecord[] {
  const block = new ByteReader(data);
  const format = block.number();
  if (format !== FORMAT) throw new Error(`an index block of format ${format}`);
  const read = new ByteReader(zstdDecompressSync(block.bytes()));
  const words = Array.from({ length: read.number() }, () => read.text());
  const count = read.number();
  const column = (): number[] => {
    let value = 0;
    const values = new Array<number>(count);
    for (let i = 0; i < count; i++) values[i] = value += read.signed();
    return values;
  };
  const uids: string[] = [];
  let before = '';
  for (let i = 0; i < count; i++) {
    const shared = read.number();
    uids.push((before = before.slice(0, shared) + read.text()));
  }
  const sopClass = column();
  const syntax = column();
  const lane = column();
  const sequence = column();
  const n = column();
  const ms = column();
  const counter = column();
  const object = column();
  const offset: number[] = readOffsets(read, count);
  const length = column();
  const encoding = column();
  const dataSetOffset = column();
  const frames = column();
  const rows = column();
  const columns = column();
  const bits = column();
  const variant = column();
  const form = column();
  let end = 0;
  const records: EntryRecord[] = [];
  for (let i = 0; i < count; i++) {
    const at = offset[i]! + end;
    end = at + length[i]!;
    const version = Buffer.from(block.raw(DIGEST_BYTES));
    const known = form[i] === 0 ? undefined : words[form[i]! - 1]!;
    const record: EntryRecord = {
      id: { lane: words[lane[i]!]!, sequence: sequence[i]!, n: n[i]! },
      stamp: ms[i]!.toString(16).padStart(12, '0') + counter[i]!.toString(16).padStart(4, '0'),
      sopInstanceUid: uids[i]!,
      sopClassUid: words[sopClass[i]!]!,
      transferSyntaxUid: words[syntax[i]!]!,
      version,
      digest: known === undefined ? Buffer.from(block.raw(DIGEST_BYTES)) : digestFrom(known, uids[i]!, version)!,
      place: { object: words[object[i]!]!, offset: at, length: length[i]!, encoding: encoding[i]! },
      dataSetOffset: dataSetOffset[i]!,
      instanceNumber: read.text(),
      numberOfFrames: frames[i]!,
      rows: rows[i]!,
      columns: columns[i]!,
      bitsAllocated: bits[i]!,
      variant: variant[i]!,
    };
    if (known !== undefined) record.form = known;
    records.push(record);
  }
  for (let controlled = read.number(); controlled > 0; controlled--) {
    const index = read.number();
    records[index]!.control = JSON.parse(read.text()) as EntryControl;
  }
  return records;
}

/** Differences from where the entry before ended; the ends are known once the lengths are. */
function readOffsets(read: ByteReader, count: number): number[] {
  return Array.from({ length: count }, () => read.signed());
}
