import { dictionaryEntry, parseAttributePath, Tag, VRS, vrOf } from '#dicom/tags.ts';
import { GantryError } from '#platform/errors.ts';
import type { MatchKey, OrderBy } from '#proto/index/v1/index.ts';
import { SearchRequest } from '#proto/index/v1/index.ts';

/**
 * The query of a QIDO-RS search (PS3.18 §8.3.4, §10.6.1) as a question to the index. Pure. What we do not know is ignored and said
 * so in a Warning (§8.3: unsupported query parameters shall be ignored); a wrong value of what we know is 400.
 */
export interface QidoTarget {
  level: 'STUDY' | 'SERIES' | 'IMAGE';
  studyInstanceUid?: string; // of the path
  seriesInstanceUid?: string;
}
export interface QidoQuery {
  request: SearchRequest;
  /** Texts for `Warning: 299`. They name parameters, never values. */
  warnings: string[];
  /** `limit=0`: nobody needs to be asked. (The index takes 0 for its own maximum.) */
  nothing: boolean;
  /** Said when the last row carries `more`: the page is shorter than what was asked for. Empty: the user agent chose its length. */
  cutWarning: string;
}
export interface QidoLimits {
  limitMax: number;
  limitDefault: number;
}

/** An explicit limit up to 10,000 is honoured: a worklist that pages by itself must not be cut short in silence. */
export const QIDO_LIMITS: QidoLimits = { limitMax: 10_000, limitDefault: 10_000 };
const PARAMETERS_MAX = 512;
const WARNINGS_MAX = 16;

/** Parameters of the door itself (PS3.18 §8.3.3), no business of the search. */
const OTHERS = new Set(['accept', 'charset']);

/** VRs whose value is one text, in which a backslash is a letter (PS3.5 §6.4). */
const SINGLE = new Set(['ST', 'LT', 'UT', 'UR']);
/** UIDs and code strings cannot hold a comma, so it parts values (PS3.18 §8.3.4.1: uid-list-match; of code strings by custom). */
const COMMA = new Set(['UI', 'CS']);

/** The series attributes that rows of the instances of one study carry too (PS3.18 §10.6.3.3.3). */
const SERIES_DEFAULTS = [Tag.Modality, Tag.SeriesInstanceUID, Tag.SeriesNumber, Tag.SeriesDescription];

export function parseQidoParameters(target: QidoTarget, query: string, limits: QidoLimits = QIDO_LIMITS): QidoQuery {
  const request = SearchRequest.fromPartial({ level: target.level, combinedDateTime: true });
  const keys = new Map<string, MatchKey>();
  const includes = new Map<string, number[]>();
  const orderBy: OrderBy[] = [];
  const warnings: string[] = [];
  const seen = new Set<string>();
  let [multiple, nothing, limit]: [boolean, boolean, number | undefined] = [false, false, undefined];

  const warn = (text: string) => {
    if (!warnings.includes(text) && warnings.length < WARNINGS_MAX) warnings.push(text);
  };
  const once = (name: string) => {
    if (seen.has(name)) throw new GantryError('invalid-argument', `${name} is given twice`);
    seen.add(name);
  };

  for (const [name, value] of parameters(query)) {
    switch (name) {
      case 'limit':
        once(name);
        limit = unsigned(name, value);
        nothing = limit === 0;
        break;
      case 'offset':
        once(name);
        request.offset = Math.min(unsigned(name, value), 0xffffffff);
        break;
      case 'cursor':
        once(name);
        request.cursor = value;
        break;
      case 'fuzzymatching':
        once(name);
        request.fuzzy = flag(name, value);
        break;
      case 'emptyvaluematching':
        once(name);
        request.emptyValueMatching = flag(name, value);
        break;
      case 'multiplevaluematching':
        once(name);
        multiple = flag(name, value);
        break;
      case 'orderby':
        for (const id of value.split(',').filter((one) => one !== '')) {
          const path = parseAttributePath(id.replace(/^[+ -]/, ''));
          if (path?.length !== 1) throw new GantryError('invalid-argument', 'orderby names no attribute that orders');
          orderBy.push({ tag: path[0]!, descending: id.startsWith('-') });
        }
        break;
      case 'includefield':
        for (const id of value.split(',').map((one) => one.trim())) {
          if (id === '') continue;
          const path = parseAttributePath(id);
          if (id === 'all') request.includeAll = true;
          else if (path) includes.set(path.join('.'), path);
          else warn(`The includefield ${shown(id)} is no attribute and was ignored.`);
        }
        break;
      default: {
        if (OTHERS.has(name)) break;
        const path = parseAttributePath(name);
        if (!path) warn(`The parameter ${shown(name)} is not supported and was ignored.`);
        else if (path[0] === Tag.TimezoneOffsetFromUTC && path.length === 1) request.timezoneOffset = offset(value);
        else addKey(path, name, value);
      }
    }
  }

  function addKey(path: number[], name: string, value: string): void {
    const leaf = path.at(-1)!;
    const vr = vrOf(leaf);
    const kind = VRS[vr].kind;
    includes.set(path.join('.'), path); // a matched attribute is returned (PS3.18 §10.6.3.3)
    if (value.trim() === '') return;
    if (leaf === Tag.SpecificCharacterSet || kind === 'sequence' || (kind === 'binary' && vr !== 'UN')) {
      warn(`The parameter ${shown(name)} cannot be matched and was ignored.`);
      return;
    }
    const text = vr === 'DT' ? value.replace(/(\d) (\d{4})(?=$|-)/g, '$1+$2') : value; // an unencoded + of an offset
    const values = SINGLE.has(vr) ? [text] : text.split(COMMA.has(vr) ? /[\\,]/ : '\\');
    const known = keys.get(path.join('.'));
    if (known) known.values.push(...values);
    else keys.set(path.join('.'), { path, vr, values });
  }

  for (const key of keys.values()) {
    // PS3.4 C.2.2.2.8: with Multiple Value Matching each of the values must be there, which is so many keys. A list of UIDs stays one.
    const several = multiple && key.vr !== 'UI' && /^1-|-/.test(dictionaryEntry(key.path.at(-1)!)?.vm ?? '1-n');
    if (several || (multiple && key.path[0] === Tag.ModalitiesInStudy))
      for (const value of key.values) request.match.push({ ...key, values: [value] });
    else request.match.push(key);
  }
  if (target.studyInstanceUid !== undefined) pathKey(request, Tag.StudyInstanceUID, target.studyInstanceUid);
  if (target.seriesInstanceUid !== undefined) pathKey(request, Tag.SeriesInstanceUID, target.seriesInstanceUid);
  for (const path of includes.values())
    if (path.length === 1) request.include.push(path[0]!);
    else request.includePaths.push({ tags: path });
  // All series, all instances: the rows carry the attributes of the levels above (PS3.18 §10.6.3.3.2, §10.6.3.3.3).
  request.studyDefaults = target.level !== 'STUDY' && target.studyInstanceUid === undefined;
  if (target.level === 'IMAGE' && target.studyInstanceUid !== undefined && target.seriesInstanceUid === undefined)
    request.include.push(...SERIES_DEFAULTS.filter((tag) => !request.include.includes(tag)));
  request.orderBy = orderBy;
  request.limit = Math.min(limit ?? limits.limitDefault, limits.limitMax);
  const cut = limit === undefined || limit > limits.limitMax;
  return {
    request,
    warnings,
    nothing,
    cutWarning: cut
      ? `There are more results than the ${request.limit} returned: ask for the next with offset or cursor.`
      : '',
  };
}

/** Of a Warning header (RFC 7234 §5.5; PS3.18 §8.3.4): quotes and what is no printable ASCII never get there. */
export const warningHeader = (text: string, agent = 'gantry'): string =>
  `299 ${agent} "${text.replace(/["\\]/g, "'").replace(/[^\x20-\x7e]/g, '?')}"`;

function pathKey(request: SearchRequest, tag: number, uid: string): void {
  request.match.push({ path: [tag], vr: 'UI', values: [uid] });
}

/** What a person sent is shown back only where it can be nothing but a name. */
const shown = (name: string): string => (/^[A-Za-z0-9.]{1,64}$/.test(name) ? name : '(unreadable name)');

function* parameters(query: string): Generator<[string, string]> {
  const parts = query.replace(/^\?/, '').split('&');
  if (parts.length > PARAMETERS_MAX)
    throw new GantryError('invalid-argument', `more than ${PARAMETERS_MAX} query parameters`);
  for (const part of parts) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    const name = decode(equals < 0 ? part : part.slice(0, equals));
    yield [name, equals < 0 ? '' : decode(part.slice(equals + 1))];
  }
}

function decode(text: string): string {
  try {
    // `+` is a space to every form encoder (Python's requests, browsers).
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch (cause) {
    throw new GantryError('invalid-argument', 'the query is not percent-encoded UTF-8', { cause });
  }
}

function unsigned(name: string, value: string): number {
  if (!/^\d{1,15}$/.test(value)) throw new GantryError('invalid-argument', `${name} must be a whole number from 0`);
  return Number(value);
}

function flag(name: string, value: string): boolean {
  if (value !== 'true' && value !== 'false') throw new GantryError('invalid-argument', `${name} must be true or false`);
  return value === 'true';
}

function offset(value: string): string {
  const text = value.replace(/^ (?=\d)/, '+'); // an unencoded +
  if (text !== '' && !/^[+-](0\d|1[0-4])[0-5]\d$/.test(text))
    throw new GantryError('invalid-argument', 'TimezoneOffsetFromUTC is no offset from UTC', {
      offendingElements: [Tag.TimezoneOffsetFromUTC],
    });
  return text;
}
