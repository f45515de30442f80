import { hexOf } from './tags.ts';

/**
 * Where a bulk value lies in its data set, as the last part of a BulkDataURI says it: tags in hex, and between them the number of the
 * sequence item, from 1 (`54000100/1/54001010`). PS3.18 §10.4.1.1.5 leaves the form to us; it must resolve inside sequences too.
 */
export interface BulkPath {
  readonly steps: readonly { readonly tag: number; readonly item: number }[];
  readonly tag: number;
}

export function formatBulkPath(path: BulkPath): string {
  let text = '';
  for (const { tag, item } of path.steps) text += hexOf(tag) + '/' + item + '/';
  return text + hexOf(path.tag);
}

/** undefined: not a path that `formatBulkPath` writes (a client's URL may say anything). */
export function parseBulkPath(text: string): BulkPath | undefined {
  const parts = text.split('/');
  if (parts.length % 2 === 0 || parts.length > 2 * 64 + 1) return undefined;
  const steps: { tag: number; item: number }[] = [];
  for (let i = 0; i + 2 < parts.length; i += 2) {
    const tag = tagOfHex(parts[i]!);
    const item = parts[i + 1]!;
    if (tag === undefined || !/^[1-9]\d{0,8}$/.test(item)) return undefined;
    steps.push({ tag, item: Number(item) });
  }
  const tag = tagOfHex(parts.at(-1)!);
  return tag === undefined ? undefined : { steps, tag };
}

const tagOfHex = (text: string): number | undefined =>
  /^[0-9A-Fa-f]{8}$/.test(text) ? Number.parseInt(text, 16) : undefined;
