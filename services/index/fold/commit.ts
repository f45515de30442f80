import { type Entry, type EntryId, type Instance, TableOfContents } from '#proto/storage/v1/log.ts';
import { isStamp } from './order.ts';
import type { JsonAttributes } from './types.ts';

/** As `DataService.readLog` gives it. */
export interface RawCommit {
  lane: string;
  sequence: number;
  tableOfContents: Uint8Array;
}
export interface ReadableCommit {
  lane: string;
  sequence: number;
  entries: { id: EntryId; entry: Entry }[];
}

/** What the fold wants to know of a header; `fold/describe.ts` reads it. */
export interface Description {
  attributes: JsonAttributes; // VARIANT_TAGS
  instanceNumber: string;
  numberOfFrames: number;
  rows: number;
  columns: number;
  bitsAllocated: number;
}
/** Pure. Throws where a header cannot be read. */
export type Describe = (instance: Instance) => Description;

export const TOC_FORMAT_VERSION = 1;

/** A commit that this release cannot understand stops its lane: skipping it would show a state that never was. */
export class StrangeCommit extends Error {
  constructor(lane: string, sequence: number, why: string) {
    super(`lane ${lane} stops at ${sequence}: ${why}`);
    this.name = 'StrangeCommit';
  }
}

export function readCommit(raw: RawCommit): ReadableCommit {
  const strange = (why: string) => new StrangeCommit(raw.lane, raw.sequence, why);
  let toc: TableOfContents;
  try {
    toc = TableOfContents.decode(raw.tableOfContents);
  } catch {
    throw strange('its table of contents cannot be decoded'); // the decoder's message may quote the bytes
  }
  if (toc.formatVersion > TOC_FORMAT_VERSION)
    throw strange(`format version ${toc.formatVersion} is newer than this release`);
  const entries: ReadableCommit['entries'] = [];
  for (const entry of toc.entries) {
    const { n, kind } = entry;
    if (!kind) throw strange(`entry ${n} is of a kind that this release does not know`);
    if (!isStamp(entry.stamp)) throw strange(`entry ${n} has no stamp`);
    if (kind.$case === 'instance' || kind.$case === 'large') {
      const { version, digest, place } = kind.value;
      if (version.length !== 32 || digest.length !== 32 || !place)
        throw strange(`entry ${n} lacks a digest or a place`);
    }
    entries.push({ id: { lane: raw.lane, sequence: raw.sequence, n }, entry });
  }
  return { lane: raw.lane, sequence: raw.sequence, entries };
}

/** An overlay's data set: only what looks like DICOM JSON is taken; keys come from outside. */
export function overlayAttributes(json: Uint8Array): JsonAttributes | undefined {
  let model: unknown;
  try {
    model = JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8'));
  } catch {
    return undefined; // counted by the caller; the text may hold patient data
  }
  if (typeof model !== 'object' || model === null || Array.isArray(model)) return undefined;
  const attributes: JsonAttributes = {};
  for (const [key, element] of Object.entries(model)) {
    if (!/^[0-9A-Fa-f]{8}$/.test(key) || typeof element !== 'object' || element === null) continue;
    if (typeof (element as { vr?: unknown }).vr === 'string') attributes[key.toUpperCase()] = element;
  }
  return attributes;
}
