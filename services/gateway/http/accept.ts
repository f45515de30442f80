import { GantryError } from '#platform/errors.ts';

/** One media range of an Accept header or an `accept` query parameter (RFC 9110 §12.5.1, PS3.18 §8.7.5). */
export interface MediaRange {
  /** 'application/dicom'; for a multipart range, the type of its parts. */
  type: string;
  multipart: boolean;
  /** The transfer-syntax parameter: a UID, '*' (as stored), or undefined (the media type's default applies). */
  transferSyntax?: string;
  q: number;
  parameters: Record<string, string>;
}

const RANGES_MAX = 64; // more than any client sends; bounds the work an Accept header can cause

/** Splits on `separator`, but not inside quoted strings. */
export function splitQuoted(text: string, separator: string): string[] {
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
    if (c === separator && !quoted) {
      parts.push(current);
      current = '';
    } else current += c;
  }
  parts.push(current);
  return parts.map((part) => part.trim());
}

/** `multipart/related; type="application/dicom"` → its type and parameters, unquoted, parameter names in lower case. */
export function parseMediaType(text: string): { type: string; parameters: Record<string, string> } {
  const [type = '', ...rest] = splitQuoted(text, ';');
  const parameters: Record<string, string> = {};
  for (const parameter of rest) {
    const at = parameter.indexOf('=');
    if (at < 0) continue;
    let value = parameter.slice(at + 1).trim();
    if (value.length >= 2 && value.startsWith('"') && value.endsWith('"'))
      value = value.slice(1, -1).replace(/\\(.)/g, '$1');
    parameters[parameter.slice(0, at).trim().toLowerCase()] = value;
  }
  return { type: type.toLowerCase(), parameters };
}

/**
 * The media ranges of a request, best first. The `accept` query parameter, where given, stands before the header (PS3.18 §8.3.3.1:
 * it is for clients that cannot set headers). Nothing said means anything.
 */
export function acceptedRanges(header: string | undefined, query: string | string[] | undefined): MediaRange[] {
  const said = query === undefined ? header : Array.isArray(query) ? query.join(',') : query;
  const text = said === undefined || said.trim() === '' ? '*/*' : said;
  const ranges: MediaRange[] = [];
  for (const piece of splitQuoted(text, ',').filter((part) => part !== '')) {
    if (ranges.length >= RANGES_MAX)
      throw new GantryError('invalid-argument', `Accept names more than ${RANGES_MAX} media types`);
    const { type, parameters } = parseMediaType(piece);
    if (!/^[^\s/]+\/[^\s/]*$/.test(type) && type !== '*') {
      throw new GantryError('invalid-argument', 'Accept holds something that is no media type');
    }
    const q = parameters.q === undefined ? 1 : Number(parameters.q);
    if (Number.isNaN(q) || q < 0 || q > 1)
      throw new GantryError('invalid-argument', 'a quality of Accept is not between 0 and 1');
    const multipart = type === 'multipart/related' || type === 'multipart/*'; // the only multipart type that there is here
    const media = multipart ? (parameters.type ?? '*/*').toLowerCase() : type;
    ranges.push({
      type: media === '*' ? '*/*' : media.endsWith('/') ? `${media}*` : media, // `video/`: dicomweb-client
      multipart,
      transferSyntax: parameters['transfer-syntax'],
      q,
      parameters,
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
