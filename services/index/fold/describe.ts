import { DataSet } from '#dicom/dataset.ts';
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

/** What the rows and blocks keep of a header. */
export function describe(instance: Instance): Description {
  const dataSet = dataSetOf(instance.head, instance.source?.defaultCharset ?? '');
  const found: JsonAttributes = {};
  for (const element of dataSet) {
    const key = WANTED.get(element.tag);
    if (key === undefined || key in found) continue; // twice in the data set: the first counts
    const attribute = elementToJson(element) as JsonElement | undefined;
    if (attribute) found[key] = attribute;
  }
  const attributes: JsonAttributes = {};
  for (const key of WANTED.values()) if (found[key]) attributes[key] = found[key];
  return {
    attributes,
    instanceNumber: dataSet.string(Tag.InstanceNumber) ?? '',
    numberOfFrames: natural(dataSet.number(Tag.NumberOfFrames)),
    rows: natural(dataSet.number(Tag.Rows)),
    columns: natural(dataSet.number(Tag.Columns)),
    bitsAllocated: natural(dataSet.number(Tag.BitsAllocated)),
  };
}

const natural = (value: number | undefined): number =>
  value !== undefined && Number.isSafeInteger(value) && value > 0 ? value : 0;
