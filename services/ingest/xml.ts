import { GantryError } from '#platform/errors.ts';

/**
 * Just enough XML for the Native DICOM Model (PS3.19 §A.1): elements, attributes, text, CDATA. No DTD, hence no entities but the five
 * and the numeric ones: nothing expands, nothing is fetched.
 */
export interface XmlElement {
  name: string; // without its prefix
  attributes: Map<string, string>;
  children: XmlElement[];
  text: string;
}

/** A sequence costs two levels (DicomAttribute, Item). */
const DEPTH_MAX = 2 * 64 + 8;

const wrong = (what: string, at: number) =>
  new GantryError('invalid-argument', `the XML of the metadata: ${what} (at ${at})`);

const TAG = /<(?:(\/)([^\s<>/="']+)\s*>|([^\s<>/="'!?]+)((?:\s+[^\s<>/="']+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/)?>)/y;
const ATTRIBUTE = /([^\s<>/="']+)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/g;
const SKIPPED: readonly [string, string][] = [
  ['<!--', '-->'],
  ['<?', '?>'],
];

export function parseXml(text: string): XmlElement {
  const root: XmlElement = { name: '', attributes: new Map(), children: [], text: '' };
  const open: XmlElement[] = [root];
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  const end = (marker: string, from: number) => {
    const found = text.indexOf(marker, from);
    if (found < 0) throw wrong(`no ${marker}`, from);
    return found;
  };
  while (at < text.length) {
    const current = open.at(-1)!;
    const next = text.indexOf('<', at);
    const chunk = text.slice(at, next < 0 ? text.length : next);
    if (chunk !== '') {
      if (current === root && chunk.trim() !== '') throw wrong('text outside the root element', at);
      current.text += unescaped(chunk, at);
    }
    if (next < 0) break;
    at = next;
    const skipped = SKIPPED.find(([start]) => text.startsWith(start, at));
    if (skipped) {
      at = end(skipped[1], at + skipped[0].length) + skipped[1].length;
      continue;
    }
    if (text.startsWith('<![CDATA[', at)) {
      const close = end(']]>', at);
      current.text += text.slice(at + 9, close);
      at = close + 3;
      continue;
    }
    TAG.lastIndex = at;
    const match = TAG.exec(text);
    if (!match) throw wrong('no element where one begins', at);
    at = TAG.lastIndex;
    if (match[1]) {
      if (current === root || current.name !== local(match[2]!)) throw wrong('an end tag without its start', at);
      open.pop();
      continue;
    }
    const element: XmlElement = { name: local(match[3]!), attributes: new Map(), children: [], text: '' };
    for (const [, name, double, single] of match[4]!.matchAll(ATTRIBUTE))
      element.attributes.set(local(name!), unescaped(double ?? single ?? '', at));
    current.children.push(element);
    if (!match[5]) open.push(element);
    if (open.length > DEPTH_MAX) throw wrong('nested too deeply', at);
  }
  if (open.length > 1) throw wrong('it ends too early', at);
  if (root.children.length !== 1) throw wrong('not one root element', at);
  return root.children[0]!;
}

const local = (name: string) => name.slice(name.indexOf(':') + 1);

const ENTITIES: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function unescaped(text: string, at: number): string {
  if (!text.includes('&')) return text;
  return text.replace(/&([^;&\s]{0,10});?/g, (whole, name: string) => {
    const code = /^#x([0-9a-fA-F]+)$/.exec(name)?.[1] ?? /^#([0-9]+)$/.exec(name)?.[1];
    const value = code === undefined ? ENTITIES[name] : character(Number.parseInt(code, name[1] === 'x' ? 16 : 10));
    if (value === undefined || !whole.endsWith(';')) throw wrong('an unknown entity', at);
    return value;
  });
}

const character = (code: number): string | undefined =>
  code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : undefined;
