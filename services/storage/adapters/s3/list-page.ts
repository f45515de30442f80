import type { Row } from './bucket.ts';

export interface ListPage {
  /** Ascending; a folder's key ends with a slash. */
  readonly rows: Row[];
  /** Empty: this was the last page. */
  readonly next: string;
}

/**
 * The answer to ListObjectsV2, asked without `encoding-type`: the client's own reading takes every key for URL-encoded, which some stores
 * (versitygw) do not do, and `a%2fb` comes out as `a/b`.
 */
export function parseListPage(xml: string): ListPage {
  if (!/<ListBucketResult[\s/>]/.test(xml)) throw new Error('the answer to a list is none');
  const rows: Row[] = [];
  for (const [, item] of xml.matchAll(/<Contents>([\s\S]*?)<\/Contents>/g)) {
    const tag = textOf(item!, 'ETag').replaceAll('"', '');
    rows.push({
      key: textOf(item!, 'Key'),
      bytes: Number(textOf(item!, 'Size')),
      modifiedMs: Date.parse(textOf(item!, 'LastModified')) || 0,
      tag,
    });
  }
  for (const [, item] of xml.matchAll(/<CommonPrefixes>([\s\S]*?)<\/CommonPrefixes>/g))
    rows.push({ key: textOf(item!, 'Prefix'), bytes: 0, modifiedMs: 0 });
  rows.sort((a, b) => (a.key < b.key ? -1 : 1)); // folders and objects come in two lists
  const next = textOf(xml, 'IsTruncated') === 'true' ? textOf(xml, 'NextContinuationToken') : '';
  return { rows, next };
}

/** Of an element without children. */
function textOf(xml: string, element: string): string {
  const text = new RegExp(`<${element}>([^<]*)</${element}>`).exec(xml)?.[1] ?? '';
  return text.replace(/&(?:#(\d+)|#x([0-9a-fA-F]+)|(lt|gt|amp|quot|apos));/g, (_all, decimal, hex, name) =>
    name
      ? NAMED[name as keyof typeof NAMED]
      : String.fromCodePoint(decimal ? Number(decimal) : Number.parseInt(hex, 16)),
  );
}
const NAMED = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
