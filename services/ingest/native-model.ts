import { GantryError } from '#platform/errors.ts';
import { parseXml, type XmlElement } from './xml.ts';

/** A DICOM JSON Model Object (PS3.18 Annex F), as `#dicom/json-read.ts` takes it. */
export type JsonModel = Record<string, { vr: string; Value?: unknown[]; InlineBinary?: string; BulkDataURI?: string }>;

const wrong = (what: string) => new GantryError('invalid-argument', `the XML of the metadata: ${what}`);

/** The Native DICOM Model (PS3.19 §A.1) says in XML what the JSON model says; so it becomes that, and goes the same way. */
export function nativeModelToJson(text: string): JsonModel {
  const root = parseXml(text);
  if (root.name !== 'NativeDicomModel') throw wrong('the root element is not NativeDicomModel');
  return attributesOf(root);
}

function attributesOf(parent: XmlElement): JsonModel {
  const model: JsonModel = {};
  const creators = new Map<string, number>();
  for (const element of parent.children) {
    if (element.name !== 'DicomAttribute') throw wrong('something else than a DicomAttribute');
    const tag = element.attributes.get('tag')?.toUpperCase() ?? '';
    const vr = element.attributes.get('vr') ?? 'UN';
    if (!/^[0-9A-F]{8}$/.test(tag) || !/^[A-Z]{2}$/.test(vr)) throw wrong('a DicomAttribute without tag or vr');
    model[blockOf(model, creators, tag, element.attributes.get('privateCreator'))] = { vr, ...contentOf(element, vr) };
  }
  return model;
}

/**
 * `privateCreator` beside a tag whose block is not said (`00190008`): the block is ours to reserve (PS3.5 §7.8.1). With a block
 * (`00191008`) the data set carries the creator element itself.
 */
function blockOf(model: JsonModel, creators: Map<string, number>, tag: string, creator: string | undefined): string {
  const group = tag.slice(0, 4);
  if (creator === undefined || Number.parseInt(group, 16) % 2 === 0 || tag.slice(4, 6) !== '00') return tag;
  const key = `${group} ${creator}`;
  let block = creators.get(key);
  if (block === undefined) {
    for (block = 0x10; `${group}00${hex(block)}` in model; block++)
      if (block === 0xff) throw wrong('no private block is free');
    model[`${group}00${hex(block)}`] = { vr: 'LO', Value: [creator] };
    creators.set(key, block);
  }
  return `${group}${hex(block)}${tag.slice(6)}`;
}
const hex = (byte: number) => byte.toString(16).toUpperCase().padStart(2, '0');

function contentOf(
  element: XmlElement,
  vr: string,
): { Value?: unknown[]; InlineBinary?: string; BulkDataURI?: string } {
  const [first] = element.children;
  if (!first) return {};
  if (first.name === 'BulkData')
    return { BulkDataURI: first.attributes.get('uri') ?? first.attributes.get('uuid') ?? '' };
  if (first.name === 'InlineBinary') return { InlineBinary: first.text.replace(/\s+/g, '') };
  const values: unknown[] = [];
  for (const child of element.children) {
    // `number` counts from 1; some leave out empty values.
    const number = Number(child.attributes.get('number') ?? values.length + 1);
    if (!Number.isInteger(number) || number < 1 || number > VALUES_MAX)
      throw wrong('a value with an impossible number');
    while (values.length < number) values.push(vr === 'SQ' ? {} : null);
    values[number - 1] = oneValue(child, vr);
  }
  return { Value: values };
}
/** A number far beyond its siblings must not cost the memory of all that it skips. */
const VALUES_MAX = 1_000_000;

function oneValue(child: XmlElement, vr: string): unknown {
  if (child.name === 'Item') return attributesOf(child);
  if (child.name === 'PersonName') {
    const groups = child.children.map((group) => [
      group.name,
      NAME_PARTS.map((part) => textOf(group, part))
        .join('^')
        .replace(/\^+$/, ''),
    ]);
    const known = groups.filter(([name]) => NAME_GROUPS.has(name!));
    return known.length === 0 ? null : Object.fromEntries(known);
  }
  if (child.name !== 'Value') throw wrong('a value of an unknown kind');
  if (child.text === '') return null;
  return NUMERIC.has(vr) ? numberOf(child.text) : child.text;
}

const NAME_GROUPS = new Set(['Alphabetic', 'Ideographic', 'Phonetic']);
const NAME_PARTS = ['FamilyName', 'GivenName', 'MiddleName', 'NamePrefix', 'NameSuffix'];
const textOf = (parent: XmlElement, name: string) => parent.children.find((child) => child.name === name)?.text ?? '';

const NUMERIC = new Set(['FL', 'FD', 'SL', 'SS', 'UL', 'US']);
function numberOf(text: string): number {
  const number = Number(text);
  if (Number.isNaN(number)) throw wrong('a number that is none');
  return number;
}
