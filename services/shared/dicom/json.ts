import type { DataSet, Element } from './dataset.ts';
import type { Cut } from './head.ts';
import { hexOf, Tag, type VR, VRS } from './tags.ts';
import { splitNames, trimEnd } from './value-text.ts';

/** The DICOM JSON model (PS3.18 Annex F). */
export interface JsonPersonName {
  Alphabetic?: string;
  Ideographic?: string;
  Phonetic?: string;
}
export type JsonValue = string | number | null | JsonPersonName | JsonDataSet;
export interface JsonAttribute {
  vr: string;
  Value?: JsonValue[];
  BulkDataURI?: string;
  InlineBinary?: string;
}
export interface JsonDataSet {
  [tag: string]: JsonAttribute;
}

export interface ToJsonOptions {
  /**
   * The URI of a value that was cut. `path`: tags and item numbers (from 0) by turns, [tag] at the top, [tag, item, tag] below.
   * Undefined: the attribute is left out, for an empty one would be untrue.
   */
  bulkDataUri?: (path: readonly number[], cut: Cut, element: Element) => string | undefined;
  /** Only these top-level attributes. */
  only?: ReadonlySet<number>;
}

export function toJson(dataSet: DataSet, options: ToJsonOptions = {}): JsonDataSet {
  return JSON.parse(toJsonText(dataSet, options)) as JsonDataSet;
}

/** One attribute as an object; undefined where it does not belong into the model. */
export function elementToJson(element: Element, options: ToJsonOptions = {}): JsonAttribute | undefined {
  const text = attributeText(element, options, [element.tag]);
  return text === undefined ? undefined : (JSON.parse(text) as JsonAttribute);
}

/** The same as text, without the objects between. */
export function toJsonText(dataSet: DataSet, options: ToJsonOptions = {}): string {
  return dataSetText(dataSet, options, []);
}

function dataSetText(dataSet: DataSet, options: ToJsonOptions, path: number[]): string {
  let text = '{';
  let last = -1;
  for (const element of inOrder(dataSet.elements)) {
    const { tag } = element;
    if (tag === last) continue; // twice in the data set: the first counts
    if ((tag & 0xffff) === 0 || tag >>> 16 === 0x0002) continue; // group lengths, file meta
    if (path.length === 0 && options.only && !options.only.has(tag)) continue;
    path.push(tag);
    const attribute = attributeText(element, options, path);
    path.pop();
    if (attribute === undefined) continue;
    text += `${last < 0 ? '' : ','}"${hexOf(tag)}":${attribute}`;
    last = tag;
  }
  return `${text}}`;
}

function inOrder(elements: readonly Element[]): readonly Element[] {
  for (let n = 1; n < elements.length; n++) {
    if (elements[n]!.tag < elements[n - 1]!.tag) return [...elements].sort((a, b) => a.tag - b.tag);
  }
  return elements;
}

function attributeText(element: Element, options: ToJsonOptions, path: number[]): string | undefined {
  const { vr, tag } = element;
  if (element.cut) {
    const uri = options.bulkDataUri?.(path, element.cut, element);
    return uri === undefined ? undefined : `{"vr":"${vr}","BulkDataURI":${JSON.stringify(uri)}}`;
  }
  if (element.isEmpty) return `{"vr":"${vr}"}`;
  if (element.items) {
    let items = '';
    for (const [n, item] of element.items.entries()) {
      path.push(n);
      items += `${n ? ',' : ''}${dataSetText(item, options, path)}`;
      path.pop();
    }
    return `{"vr":"SQ","Value":[${items}]}`;
  }
  if (VRS[vr].kind === 'binary') return `{"vr":"${vr}","InlineBinary":"${littleEndian(element).toString('base64')}"}`;
  if (tag === Tag.SpecificCharacterSet) return '{"vr":"CS","Value":["ISO_IR 192"]}'; // JSON is UTF-8
  const values = VRS[vr].kind === 'number' ? numbersText(element) : textsText(element);
  return values === '' ? `{"vr":"${vr}"}` : `{"vr":"${vr}","Value":[${values}]}`;
}

/** Bulk and inline binary are little endian (PS3.18 §F.2.7). */
export function littleEndian(element: Element): Buffer {
  const { bytes, bigEndian, vr } = element;
  const size = VRS[vr].swap;
  if (!bigEndian || size === 1) return bytes;
  return swapBytes(Buffer.from(bytes.subarray(0, bytes.length - (bytes.length % size))), size);
}

export function swapBytes(bytes: Buffer, size: 2 | 4 | 8): Buffer {
  return size === 2 ? bytes.swap16() : size === 4 ? bytes.swap32() : bytes.swap64();
}

function numbersText(element: Element): string {
  let text = '';
  for (const value of element.numbers()) {
    if (text) text += ',';
    if (element.vr === 'AT') text += `"${hexOf(value as number)}"`;
    // Not numbers in JSON; and integers that a JSON reader's double would falsify (PS3.18 Table F.2.3-1 allows strings).
    else if (typeof value === 'bigint' || !Number.isFinite(value)) text += `"${value}"`;
    else text += Object.is(value, -0) ? '-0' : String(value);
  }
  return text;
}

function textsText(element: Element): string {
  const { vr } = element;
  if (vr === 'PN') return namesText(element);
  let text = '';
  for (const [n, value] of element.strings().entries()) {
    if (n) text += ',';
    if (value === '') text += 'null';
    else if (vr === 'IS' || vr === 'DS') text += numericText(value, vr);
    else text += quoted(value);
  }
  return text;
}

/** IS and DS as numbers where the number says the same, else as the string that was sent. */
function numericText(value: string, vr: VR): string {
  if (vr === 'IS') {
    if (/^[+-]?\d{1,16}$/.test(value)) {
      const number = Number(value);
      if (Number.isSafeInteger(number)) return String(number === 0 ? 0 : number);
    }
    return quoted(value);
  }
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(value)) return quoted(value);
  const number = Number(value);
  if (!Number.isFinite(number)) return quoted(value);
  // A double carries 15 digits always, 17 sometimes.
  if (value.length > 15 && digitsOf(value).length > 15 && digitsOf(value) !== digitsOf(String(number)))
    return quoted(value);
  if (number === 0 && digitsOf(value) !== '') return quoted(value); // underflow
  return String(number === 0 ? 0 : number);
}
const digitsOf = (value: string): string =>
  value
    .replace(/[eE].*$/, '')
    .replace(/[^0-9]/g, '')
    .replace(/^0+/, '')
    .replace(/0+$/, '');

/** Most strings need no escape, and this is what JSON.stringify spends its time on. */
const quoted = (value: string): string => (NEEDS_NO_ESCAPE.test(value) ? `"${value}"` : JSON.stringify(value));
const NEEDS_NO_ESCAPE = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

const GROUPS = ['Alphabetic', 'Ideographic', 'Phonetic'] as const;

function namesText(element: Element): string {
  let text = '';
  for (const [n, name] of splitNames(element.text()).entries()) {
    if (n) text += ',';
    let groups = '';
    for (const [g, group] of name.split('=').entries()) {
      if (g > 2) break; // PS3.5 §6.2.1: three component groups
      const value = trimEnd(group);
      if (value !== '') groups += `${groups ? ',' : ''}"${GROUPS[g]!}":${quoted(value)}`;
    }
    text += groups ? `{${groups}}` : 'null';
  }
  return text;
}
