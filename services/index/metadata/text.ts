import { formatBulkPath } from '#dicom/bulk-path.ts';
import type { DataSet } from '#dicom/dataset.ts';
import { toJsonText } from '#dicom/json.ts';
import { type Correction, correct, identify, type Merge } from '../fold/correct.ts';
import type { JsonAttributes } from '../fold/types.ts';

/**
 * Where the root of BulkDataURIs goes. JSON never holds a bare control character (RFC 8259 §7), so this byte is found by one search and
 * is never a value's own.
 */
export const ROOT_MARK = 1;
const MARK = String.fromCharCode(ROOT_MARK);

export interface InstancePath {
  studyInstanceUid: string;
  seriesInstanceUid: string;
  sopInstanceUid: string;
}

/** An instance's DICOM JSON (PS3.18 §10.4.1.1.2), bulk as URIs without their root. */
export function instanceText(dataSet: DataSet, at: InstancePath): Buffer {
  const base = `/studies/${encodeURIComponent(at.studyInstanceUid)}/series/${encodeURIComponent(at.seriesInstanceUid)}/instances/${encodeURIComponent(at.sopInstanceUid)}/bulkdata/`;
  const text = toJsonText(dataSet, {
    // A mark of two characters that JSON.stringify leaves alone, made one byte below.
    bulkDataUri: (path) => `\u{10ffff}${base}${bulkPathOf(path)}`,
  });
  return Buffer.from(text.replaceAll('"BulkDataURI":"\u{10ffff}', `"BulkDataURI":"${MARK}`));
}

/** `#dicom/json.ts` counts items from 0, BulkDataURIs from 1. */
function bulkPathOf(path: readonly number[]): string {
  const steps: { tag: number; item: number }[] = [];
  for (let i = 0; i + 2 < path.length; i += 2) steps.push({ tag: path[i]!, item: path[i + 1]! + 1 });
  return formatBulkPath({ steps, tag: path.at(-1)! });
}

/** Corrections and merges over an instance's text. Attributes stay in the order of their tags. */
export function correctedText(
  text: Buffer,
  corrections: readonly Correction[],
  merges: ReadonlyMap<string, Merge>,
): Buffer {
  if (corrections.length === 0 && merges.size === 0) return text;
  const original = JSON.parse(text.toString('utf8').replaceAll(MARK, '\u{10ffff}')) as JsonAttributes;
  const corrected = identify(correct(original, corrections), merges);
  if (corrected === original) return text;
  const ordered: JsonAttributes = {};
  for (const key of Object.keys(corrected).sort()) ordered[key] = corrected[key]!;
  const json = JSON.stringify(ordered);
  return Buffer.from(json.replaceAll('"BulkDataURI":"\u{10ffff}', `"BulkDataURI":"${MARK}`));
}

/** Puts the root where the marks are. */
export function withRoot(text: Buffer, root: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  let from = 0;
  for (let at = text.indexOf(ROOT_MARK); at >= 0; at = text.indexOf(ROOT_MARK, from)) {
    parts.push(text.subarray(from, at), root);
    from = at + 1;
  }
  parts.push(text.subarray(from));
  return parts;
}
