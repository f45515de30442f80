import { GantryError } from '#platform/errors.ts';
import { parseMediaType } from '#platform/media-type.ts';

/** One media range of an Accept header or an `accept` query parameter (RFC 9110 §12.5.1, PS3.18 §8.7.5). */
export interface MediaRange {
  /** 'application/dicom'; for a multipart range, the type of its parts. */
  type: string;
  multipart: boolean;
  /** The transfer-syntax parameter: a UID, '*' (as stored), or undefined (the media type's default applies). */
  transferSyntax?: string;
  q: number;
}

const RANGES_MAX = 64; // more than any client sends; bounds the work an Accept header can cause

/** The members of a list (RFC 9110 §5.6.1); a comma within quotes is none. */
function members(text: string): string[] {
  const parts: string[] = [];
  let current = '';
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted && c === '\\' && i + 1 < text.length) {
      current += c + text[++i];
      continue;
    }
    if (c === '"') quoted = !quoted;
    if (c === ',' && !quoted) {
      parts.push(current);
      current = '';
    } else current += c;
  }
  parts.push(current);
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}

/** `*` is what some send for any; `video/` for any of its family (dicomweb-client). */
const wide = (type: string): string => (type === '*' ? '*/*' : type.endsWith('/') ? `${type}*` : type);

/**
 * The media ranges of a request, best first. The `accept` query parameter, where given, stands before the header (PS3.18 §8.3.3.1:
 * it is for clients that cannot set headers). Nothing said means anything.
 */
export function acceptedRanges(header: string | undefined, query: string | string[] | undefined): MediaRange[] {
  const said = query === undefined ? header : Array.isArray(query) ? query.join(',') : query;
  const text = said === undefined || said.trim() === '' ? '*/*' : said;
  const ranges: MediaRange[] = [];
  for (const piece of members(text)) {
    if (ranges.length >= RANGES_MAX)
      throw new GantryError('invalid-argument', `Accept names more than ${RANGES_MAX} media types`);
    const media = parseMediaType(piece.replace(/^[^\s;"]+/, wide));
    if (media === undefined) throw new GantryError('invalid-argument', 'Accept holds something that is no media type');
    const { type, parameters } = media;
    const q = Number(parameters.get('q') ?? 1);
    if (Number.isNaN(q) || q < 0 || q > 1)
      throw new GantryError('invalid-argument', 'a quality of Accept is not between 0 and 1');
    const multipart = type === 'multipart/related' || type === 'multipart/*'; // the only multipart type that there is here
    ranges.push({
      type: multipart ? wide((parameters.get('type') ?? '*/*').toLowerCase()) : type,
      multipart,
      transferSyntax: parameters.get('transfer-syntax'),
      q,
    });
  }
  const kept = ranges.filter((range) => range.q > 0);
  return kept.sort((a, b) => b.q - a.q); // the sort is stable: equal qualities stay in the order given
}

// Whether a range covers a concrete media type: itself, its family, or any.
export function covers(range: MediaRange, type: string): boolean {
  if (range.type === '*/*' || range.type === type) return true;
  return range.type.endsWith('/*') && type.startsWith(range.type.slice(0, -1));
}

/** The first of `offered` that the ranges take, or 406. */
export function chooseType(
  ranges: MediaRange[],
  offered: readonly string[],
  multipartToo = false,
): { type: string; range: MediaRange } {
  for (const range of ranges) {
    if (range.multipart && !multipartToo) continue;
    for (const type of offered) if (covers(range, type)) return { type, range };
  }
  throw new GantryError('not-acceptable', `this resource is offered as ${offered.join(', ')}`);
}
