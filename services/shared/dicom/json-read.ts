import { DicomError } from './errors.ts';
import type { JsonAttribute, JsonDataSet, JsonPersonName } from './json.ts';
import { isVr, parseTag, Tag, type VR, VRS, vrOf } from './tags.ts';
import type { Bulk, WriteElement } from './write.ts';

/** DICOM JSON (PS3.18 Annex F) → elements to write: what STOW metadata and query answers come as. */

export interface FromJsonOptions {
  /** What a BulkDataURI stands for. Undefined: there is no such part, which is an error. */
  bulk?: (uri: string, tag: number, vr: VR) => Buffer | Bulk | undefined;
  sequenceDepthMax?: number;
}

export function fromJson(model: unknown, options: FromJsonOptions = {}): WriteElement[] {
  return readDataSet(model, options, options.sequenceDepthMax ?? 64);
}

function readDataSet(model: unknown, options: FromJsonOptions, depthLeft: number): WriteElement[] {
  if (typeof model !== 'object' || model === null || Array.isArray(model))
    throw new DicomError('bad-model', 'a data set that is no JSON object');
  if (depthLeft < 0) throw new DicomError('too-deep', 'sequences nested too deeply');
  const elements: WriteElement[] = [];
  for (const [key, attribute] of Object.entries(model as JsonDataSet)) {
    const tag = parseTag(key);
    if (tag === undefined) throw new DicomError('bad-model', 'an attribute whose name is no tag');
    if (tag >>> 16 <= 2 || (tag & 0xffff) === 0 || tag >>> 16 === 0xfffe) continue; // never part of a data set
    elements.push(readAttribute(tag, attribute, options, depthLeft));
  }
  return elements.sort((a, b) => a.tag - b.tag);
}

function readAttribute(
  tag: number,
  attribute: JsonAttribute,
  options: FromJsonOptions,
  depthLeft: number,
): WriteElement {
  if (typeof attribute !== 'object' || attribute === null)
    throw new DicomError('bad-model', 'an attribute that is no object', { tag });
  const vr = attribute.vr === undefined ? vrOf(tag) : attribute.vr;
  if (typeof vr !== 'string' || !isVr(vr)) throw new DicomError('bad-model', 'an attribute of unknown VR', { tag });
  if (attribute.InlineBinary !== undefined) {
    if (typeof attribute.InlineBinary !== 'string' || !/^[A-Za-z0-9+/\s]*=*\s*$/.test(attribute.InlineBinary)) {
      throw new DicomError('bad-model', 'InlineBinary that is not base64', { tag });
    }
    return { tag, vr, bytes: Buffer.from(attribute.InlineBinary, 'base64') };
  }
  if (attribute.BulkDataURI !== undefined) {
    const bulk = typeof attribute.BulkDataURI === 'string' ? options.bulk?.(attribute.BulkDataURI, tag, vr) : undefined;
    if (bulk === undefined) throw new DicomError('bad-model', 'a BulkDataURI that leads nowhere', { tag });
    return Buffer.isBuffer(bulk) ? { tag, vr, bytes: bulk } : { tag, vr, bulk };
  }
  const values = attribute.Value ?? [];
  if (!Array.isArray(values)) throw new DicomError('bad-model', 'a Value that is no array', { tag });
  if (vr === 'SQ') {
    // An empty item may be {} or null.
    return { tag, vr, items: values.map((item) => readDataSet(item ?? {}, options, depthLeft - 1)) };
  }
  if (VRS[vr].kind === 'binary') {
    if (values.length > 0) throw new DicomError('bad-model', 'a binary attribute with Value', { tag });
    return { tag, vr, bytes: Buffer.alloc(0) };
  }
  return { tag, vr, values: values.map((value) => readValue(value, tag, vr)) };
}

function readValue(value: unknown, tag: number, vr: VR): string | number | bigint | null {
  if (value === null) return null;
  if (vr === 'PN') return readName(value, tag);
  if (vr === 'AT') {
    const at = typeof value === 'string' ? parseTag(value) : undefined;
    if (at === undefined) throw new DicomError('bad-model', 'an AT value that is no tag', { tag });
    return at;
  }
  if (vr === 'IS' || vr === 'DS') {
    if (typeof value === 'number' || typeof value === 'string') return value;
  } else if (VRS[vr].kind === 'number') {
    if (typeof value === 'number') return value;
    if (typeof value === 'string') {
      if ((vr === 'SV' || vr === 'UV') && /^[+-]?\d{1,20}$/.test(value)) return BigInt(value);
      const number = value.trim() === '' ? Number.NaN : Number(value);
      if (!Number.isNaN(number) || value === 'NaN') return number;
    }
  } else if (typeof value === 'string') return value;
  else if (typeof value === 'number') return String(value);
  throw new DicomError('bad-model', `a ${vr} value of the wrong type`, { tag });
}

function readName(value: unknown, tag: number): string {
  if (typeof value === 'string') return value; // older senders
  if (typeof value !== 'object' || Array.isArray(value))
    throw new DicomError('bad-model', 'a PN value of the wrong type', { tag });
  const { Alphabetic = '', Ideographic = '', Phonetic = '' } = value as JsonPersonName;
  const groups = [Alphabetic, Ideographic, Phonetic];
  if (groups.some((group) => typeof group !== 'string'))
    throw new DicomError('bad-model', 'a PN group of the wrong type', { tag });
  while (groups.length > 0 && groups.at(-1) === '') groups.pop();
  return groups.join('=');
}

/** (0008,0005) of a model, as its encoder should take it. */
export const charsetOfModel = (elements: readonly WriteElement[]): string[] =>
  (elements.find((element) => element.tag === Tag.SpecificCharacterSet)?.values ?? []).map((value) =>
    String(value ?? ''),
  );
