/**
 * Dates and times as intervals (PS3.5 §6.2; PS3.4 C.2.2.2.5): what a value means, from its first to its last microsecond, and
 * what a key asks for. A key covers all that its precision leaves open: `10` is ten to eleven, `-1800` reaches 18:00:59.999999.
 *
 * Instants are microseconds since 1970 in the local time of the value, or in UTC where an offset is known: 2^53 µs is the year
 * 2255, and AD 9999 is still exact to the millisecond, so doubles do.
 */
export interface Interval {
  from: number;
  to: number; // inclusive
}

export const SECOND = 1_000_000;
export const DAY = 86_400 * SECOND;

const DATE = /^(\d{4})\.?(\d{2})\.?(\d{2})$/; // `1993.08.22`: ACR-NEMA 300, still met in the field (PS3.5 Table 6.2-1, note 1)
const TIME = /^(\d{2}):?(?:(\d{2}):?(?:(\d{2})(?:\.(\d{1,6})\d*)?)?)?$/; // `10:30:00`: likewise
const DATE_TIME =
  /^(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6})\d*)?)?)?)?)?)?([+-](?:0\d|1[0-4])[0-5]\d)?$/;

/** What a stored value or one end of a key means; undefined: it is none. */
export function dateInterval(text: string): Interval | undefined {
  const match = DATE.exec(text);
  if (!match) return undefined;
  const day = dayOf(Number(match[1]), Number(match[2]), Number(match[3]));
  return day === undefined ? undefined : { from: day, to: day + DAY - 1 };
}

export function timeInterval(text: string): Interval | undefined {
  const match = TIME.exec(text);
  return match ? clock(match[1], match[2], match[3], match[4]) : undefined;
}

/** `offset` (minutes east of UTC) is that of the data set, for values that carry none themselves. */
export function dateTimeInterval(text: string, offset = 0): Interval | undefined {
  const match = DATE_TIME.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hours, minutes, seconds, fraction, zone] = match;
  const shift = (zone === undefined ? offset : (parseOffset(zone) ?? 0)) * 60 * SECOND;
  const start = dayOf(Number(year), Number(month ?? 1), Number(day ?? 1));
  if (start === undefined) return undefined;
  if (day === undefined) {
    const next =
      month === undefined
        ? dayOf(Number(year) + 1, 1, 1)
        : month === '12'
          ? dayOf(Number(year) + 1, 1, 1)
          : dayOf(Number(year), Number(month) + 1, 1);
    return next === undefined ? undefined : { from: start - shift, to: next - 1 - shift };
  }
  const within = hours === undefined ? { from: 0, to: DAY - 1 } : clock(hours, minutes, seconds, fraction);
  return within && { from: start + within.from - shift, to: start + within.to - shift };
}

/** Timezone Offset From UTC (0008,0201), `&ZZXX`, in minutes east. */
export function parseOffset(text: string): number | undefined {
  const match = /^([+-])(0\d|1[0-4])([0-5]\d)$/.exec(text.trim());
  if (!match) return undefined;
  const minutes = Number(match[2]) * 60 + Number(match[3]);
  return match[1] === '-' ? -minutes : minutes;
}

/** A date, time or date-time key: a single value or a range with one end open at the most. Undefined: it is none. */
export function parseKey(
  vr: 'DA' | 'TM' | 'DT',
  text: string,
  offset = 0,
): (Interval & { range: boolean }) | undefined {
  const parse = (value: string) =>
    vr === 'DA' ? dateInterval(value) : vr === 'TM' ? timeInterval(value) : dateTimeInterval(value, offset);
  const single = parse(text.trim());
  if (single) return { ...single, range: false };
  // A hyphen may also begin an offset (`2020-0500-2021`): take the split at which both ends are what they claim to be.
  for (let at = text.indexOf('-'); at >= 0; at = text.indexOf('-', at + 1)) {
    const [first, last] = [text.slice(0, at).trim(), text.slice(at + 1).trim()];
    if (first === '' && last === '') return undefined;
    const from = first === '' ? undefined : parse(first);
    const to = last === '' ? undefined : parse(last);
    if ((first !== '' && !from) || (last !== '' && !to)) continue;
    return { from: from?.from ?? Number.NEGATIVE_INFINITY, to: to?.to ?? Number.POSITIVE_INFINITY, range: true };
  }
  return undefined;
}

/** YYYYMMDD of a stored date in either writing, for indexes; undefined: it is no date. */
export function plainDate(text: string): string | undefined {
  return dateInterval(text.trim()) && text.trim().replaceAll('.', '');
}

/** YYYYMMDD of an instant, for narrowing in SQL. */
export function dateOf(instant: number): string {
  const date = new Date(Math.floor(instant / 1000));
  return `${String(date.getUTCFullYear()).padStart(4, '0')}${pad(date.getUTCMonth() + 1)}${pad(date.getUTCDate())}`;
}

const pad = (value: number) => String(value).padStart(2, '0');

function dayOf(year: number, month: number, day: number): number | undefined {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day); // not Date.UTC: it reads the years 0 to 99 as 19xx
  const real = date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  return real ? date.getTime() * 1000 : undefined;
}

function clock(hours: string | undefined, minutes?: string, seconds?: string, fraction?: string): Interval | undefined {
  const [h, m, s] = [Number(hours), Number(minutes ?? 0), Number(seconds ?? 0)];
  if (h > 23 || m > 59 || s > 60) return undefined; // 60: a leap second (PS3.5 Table 6.2-1)
  const micros = fraction === undefined ? 0 : Number(fraction.padEnd(6, '0'));
  const width =
    minutes === undefined
      ? 3600 * SECOND
      : seconds === undefined
        ? 60 * SECOND
        : fraction === undefined
          ? SECOND
          : 10 ** (6 - fraction.length);
  const from = ((h * 60 + m) * 60 + s) * SECOND + micros;
  return { from, to: from + width - 1 };
}
