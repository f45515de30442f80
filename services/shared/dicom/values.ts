import { DicomError } from './errors.ts';

/**
 * Values as matching needs them (PS3.4 C.2.2.2): in canonical strings that sort as they mean. Dates `YYYYMMDD`, times
 * `HHMMSS.FFFFFF`, date-times `YYYYMMDDHHMMSS.FFFFFF`.
 */

export interface ValueRange {
  from?: string; // inclusive; absent: open
  to?: string; // inclusive
}

const bad = (what: string): DicomError => new DicomError('bad-value', `not a ${what}`);

function daysIn(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

const validDate = (year: number, month: number, day: number): boolean =>
  month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month);

/** DA, also as ACR-NEMA wrote it (`YYYY.MM.DD`, PS3.5 Table 6.2-1 Note). Undefined when it is no date. */
export function normaliseDate(value: string): string | undefined {
  const match = /^(\d{4})(\.?)(\d{2})\2(\d{2})$/.exec(value.trim());
  if (!match || !validDate(Number(match[1]), Number(match[3]), Number(match[4]))) return undefined;
  return match[1]! + match[3]! + match[4]!;
}

/** The first and last instant that a TM means: `10` is 10:00:00.000000 to 10:59:59.999999. Also `HH:MM:SS`. */
export function timeBounds(value: string): { from: string; to: string } | undefined {
  const match = /^(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?$/.exec(value.trim());
  if (!match) return undefined;
  const [, hour, minute, second, fraction] = match;
  // 60 is a leap second (PS3.5 Table 6.2-1).
  if (Number(hour) > 23 || Number(minute ?? 0) > 59 || Number(second ?? 0) > 60) return undefined;
  return {
    from: `${hour}${minute ?? '00'}${second ?? '00'}.${(fraction ?? '').padEnd(6, '0')}`,
    to: `${hour}${minute ?? '59'}${second ?? '59'}.${(fraction ?? '').padEnd(6, '9')}`,
  };
}

/** The instant at which a stored TM begins; undefined when it is no time. */
export const normaliseTime = (value: string): string | undefined => timeBounds(value)?.from;

/** `D`, `D-`, `-D`, `D-D` (PS3.4 C.2.2.2.5). Throws on anything else. */
export function parseDateRange(value: string): ValueRange {
  return parseRange(value, 'date or range of dates', (one) => {
    const date = normaliseDate(one);
    return date === undefined ? undefined : { from: date, to: date };
  });
}

export function parseTimeRange(value: string): ValueRange {
  return parseRange(value, 'time or range of times', timeBounds);
}

function parseRange(
  value: string,
  what: string,
  bounds: (one: string) => { from: string; to: string } | undefined,
): ValueRange {
  const parts = value.trim().split('-');
  if (parts.length > 2 || parts.every((part) => part.trim() === '')) throw bad(what);
  const [first, second] = parts.map((part) => (part.trim() === '' ? undefined : (bounds(part) ?? undefined)));
  if ((parts[0]!.trim() !== '' && !first) || (parts[1] !== undefined && parts[1].trim() !== '' && !second))
    throw bad(what);
  if (parts.length === 1) return { from: first!.from, to: first!.to };
  return { ...(first && { from: first.from }), ...(second && { to: second.to }) };
}

/** `+0100` → 60; -1200 to +1400 (PS3.5 Table 6.2-1), -0000 is not allowed but in the field. Undefined when it is none. */
export function parseTimezoneOffset(value: string): number | undefined {
  const match = /^([+-])(\d{2})(\d{2})$/.exec(value.trim());
  if (!match || Number(match[3]) > 59) return undefined;
  const minutes = Number(match[2]) * 60 + Number(match[3]);
  if (minutes > (match[1] === '-' ? 720 : 840)) return undefined;
  return match[1] === '-' && minutes > 0 ? -minutes : minutes;
}

export interface DateTimeOptions {
  /** Offset of date-times that state none, in minutes. Absent: they are compared as they stand. */
  offsetMinutes?: number | undefined;
}

/** The first and last instant that a DT means; in UTC when an offset is known. */
export function dateTimeBounds(value: string, options: DateTimeOptions = {}): { from: string; to: string } | undefined {
  const match = /^(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?$/.exec(value.trim());
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second, fraction, zone] = match;
  if (fraction !== undefined && second === undefined) return undefined;
  if (!validDate(Number(year), Number(month ?? 1), Number(day ?? 1))) return undefined;
  if (Number(hour ?? 0) > 23 || Number(minute ?? 0) > 59 || Number(second ?? 0) > 60) return undefined;
  const offset = zone === undefined ? options.offsetMinutes : parseTimezoneOffset(zone);
  if (zone !== undefined && offset === undefined) return undefined;
  const lastMonth = month ?? '12';
  const lastDay = day ?? String(daysIn(Number(year), Number(lastMonth)));
  const from = `${year}${month ?? '01'}${day ?? '01'}${hour ?? '00'}${minute ?? '00'}${second ?? '00'}.${(fraction ?? '').padEnd(6, '0')}`;
  const to = `${year}${lastMonth}${lastDay}${hour ?? '23'}${minute ?? '59'}${second ?? '59'}.${(fraction ?? '').padEnd(6, '9')}`;
  return offset ? { from: shift(from, -offset), to: shift(to, -offset) } : { from, to };
}

export const normaliseDateTime = (value: string, options: DateTimeOptions = {}): string | undefined =>
  dateTimeBounds(value, options)?.from;

/** Moves a canonical date-time by minutes. Seconds and their fraction stay as they are (leap seconds, too). */
function shift(value: string, minutes: number): string {
  const at = new Date(0);
  at.setUTCFullYear(Number(value.slice(0, 4)), Number(value.slice(4, 6)) - 1, Number(value.slice(6, 8)));
  at.setUTCHours(Number(value.slice(8, 10)), Number(value.slice(10, 12)) + minutes);
  const year = at.getUTCFullYear();
  if (year < 0) return '00000101000000.000000';
  if (year > 9999) return '99991231235959.999999';
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${String(year).padStart(4, '0')}${two(at.getUTCMonth() + 1)}${two(at.getUTCDate())}${two(at.getUTCHours())}${two(at.getUTCMinutes())}${value.slice(12)}`;
}

/**
 * DT ranges, in which `-` separates and is also the sign of an offset: four digits from 0000 to 1200 after it are an offset
 * (PS3.5 Table 6.2-1, DT: "years before 1201 do not occur"), anything else begins the second half.
 */
export function parseDateTimeRange(value: string, options: DateTimeOptions = {}): ValueRange {
  const text = value.trim();
  const one = dateTimeBounds(text, options);
  if (one) return one;
  for (let at = text.indexOf('-'); at >= 0; at = text.indexOf('-', at + 1)) {
    const first = text.slice(0, at);
    const second = text.slice(at + 1);
    if (first === '' && second === '') break;
    const from = first === '' ? undefined : dateTimeBounds(first, options);
    const to = second === '' ? undefined : dateTimeBounds(second, options);
    if ((first !== '' && !from) || (second !== '' && !to)) continue;
    // `2020-0100-2021`: the first hyphen is a sign, for what follows it is no date-time with that reading.
    return { ...(from && { from: from.from }), ...(to && { to: to.to }) };
  }
  throw bad('date-time or range of date-times');
}

/** Combined date and time matching (PS3.4 C.2.2.2.5.3): one range of date-times from a range of dates and one of times. */
export function combineDateTimeRange(dates: ValueRange, times: ValueRange, options: DateTimeOptions = {}): ValueRange {
  const move = (value: string): string => (options.offsetMinutes ? shift(value, -options.offsetMinutes) : value);
  return {
    ...(dates.from !== undefined && { from: move(dates.from + (times.from ?? '000000.000000')) }),
    ...(dates.to !== undefined && { to: move(dates.to + (times.to ?? '235959.999999')) }),
  };
}

export const inRange = (value: string, range: ValueRange): boolean =>
  (range.from === undefined || value >= range.from) && (range.to === undefined || value <= range.to);

export interface PersonNameGroups {
  alphabetic: string;
  ideographic: string;
  phonetic: string;
}

/** PS3.5 §6.2.1: up to three component groups, each without what says nothing (trailing delimiters, padding). */
export function parsePersonName(value: string): PersonNameGroups {
  const [alphabetic = '', ideographic = '', phonetic = ''] = value.split('=').map(tidyGroup);
  return { alphabetic, ideographic, phonetic };
}

const tidyGroup = (group: string): string =>
  group
    .split('^')
    .map((component) => component.trim())
    .join('^')
    .replace(/\^+$/, '');

export function formatPersonName(groups: PersonNameGroups): string {
  return `${groups.alphabetic}=${groups.ideographic}=${groups.phonetic}`.replace(/=+$/, '');
}

/** For case-insensitive matching (PS3.4 C.2.2.2.1): composed, upper case, inner spaces single, trailing delimiters off. */
export function normalisePersonName(value: string): string {
  return formatPersonName(parsePersonName(value.normalize('NFC').replace(/[ \t\u3000]+/g, ' '))).toUpperCase();
}

/** For fuzzy matching: also without accents and with full-width letters as plain ones. */
export function foldText(value: string): string {
  return value
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .toUpperCase();
}

/** AE titles: leading and trailing spaces (and NULs, in the field) say nothing; 1 to 16 characters. Undefined when it is none. */
export function normaliseAeTitle(value: string): string | undefined {
  const title = value.replace(/^[ \0]+/, '').replace(/[ \0]+$/, '');
  return /^[\x20-\x5b\x5d-\x7e]{1,16}$/.test(title) ? title : undefined;
}

/** IS: an integer of 32 bits (PS3.5 Table 6.2-1). Undefined when it is none. */
export function parseIs(value: string): number | undefined {
  const text = value.trim();
  if (!/^[+-]?\d{1,12}$/.test(text)) return undefined;
  const number = Number(text);
  return number >= -0x80000000 && number <= 0x7fffffff ? number : undefined;
}

export function parseDs(value: string): number | undefined {
  const text = value.trim();
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isFinite(number) ? number : undefined;
}
