import { DataSet, type Element } from '#dicom/dataset.ts';
import { decodeHead } from '#dicom/head.ts';
import { elementToJson } from '#dicom/json.ts';
import { Tag } from '#dicom/tags.ts';
import type { Instance } from '#proto/storage/v1/log.ts';
import type { Description } from './commit.ts';
import { hexTag, VARIANT_TAGS } from './levels.ts';
import type { JsonAttributes, JsonElement } from './types.ts';

const WANTED = new Map(VARIANT_TAGS.map((tag) => [tag, hexTag(tag)]));

export const dataSetOf = (head: Uint8Array, charsetDefault: string): DataSet => {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  return new DataSet(decodeHead(bytes), charsetDefault === '' ? {} : { charsetDefault });
};

/**
 * Attributes by the bytes that say them: most instances of a series say the same, and comparing bytes costs a fifth of reading them. Whoever
 * is given attributes that another instance has too may rely on nothing but their being equal; nobody may change them.
 */
const read = new Map<string, JsonAttributes>();
const READ_MAX = 1_000;
/** A scanner says a tenth of this. */
const SAID_MAX = 16_384;

/** What the rows and blocks keep of a header. */
export function describe(instance: Instance): Description {
  const charset = instance.source?.defaultCharset ?? '';
  const description = { instanceNumber: '', numberOfFrames: 0, rows: 0, columns: 0, bitsAllocated: 0 };
  const wanted: Element[] = [];
  const seen = new Set<number>();
  let said = charset;
  for (const element of dataSetOf(instance.head, charset)) {
    const { tag } = element;
    const isWanted = WANTED.has(tag);
    if (isWanted) wanted.push(element);
    if (isWanted || tag === Tag.SpecificCharacterSet) {
      said += signatureOf(element);
      continue;
    }
    const number = NUMBERS.get(tag);
    if ((number === undefined && tag !== Tag.InstanceNumber) || seen.has(tag)) continue;
    seen.add(tag); // twice in the data set: the first counts
    if (number !== undefined) description[number] = natural(Number(element.numbers()[0]));
    else description.instanceNumber = element.strings()[0] ?? '';
  }
  let attributes = read.get(said);
  if (!attributes) {
    attributes = attributesOf(wanted);
    if (read.size >= READ_MAX) read.clear();
    if (said.length <= SAID_MAX) read.set(said, attributes);
  }
  return { attributes, ...description };
}
const NUMBERS = new Map<number, 'numberOfFrames' | 'rows' | 'columns' | 'bitsAllocated'>([
  [Tag.NumberOfFrames, 'numberOfFrames'],
  [Tag.Rows, 'rows'],
  [Tag.Columns, 'columns'],
  [Tag.BitsAllocated, 'bitsAllocated'],
]);

/** Two elements of one signature read the same. What is inside a sequence hangs on what is around it, and is read. */
function signatureOf(element: Element): string {
  const { tag, vr, bigEndian } = element;
  const value = element.cut
    ? 'cut'
    : element.items
      ? JSON.stringify(elementToJson(element))
      : `${bigEndian ? '>' : '<'}${element.latin1()}`;
  return `\u0000${tag} ${vr} ${value.length} ${value}`;
}

function attributesOf(wanted: readonly Element[]): JsonAttributes {
  const found: JsonAttributes = {};
  for (const element of wanted) {
    const key = WANTED.get(element.tag)!;
    if (key in found) continue; // twice in the data set: the first counts
    const attribute = elementToJson(element) as JsonElement | undefined;
    if (attribute) found[key] = attribute;
  }
  const attributes: JsonAttributes = {};
  for (const key of WANTED.values()) if (found[key]) attributes[key] = found[key];
  return attributes;
}

const natural = (value: number): number => (Number.isSafeInteger(value) && value > 0 ? value : 0);
