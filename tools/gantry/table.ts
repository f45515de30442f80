// Aligned columns for people. Values come from files and peers: control characters never reach the terminal.

export interface Column<T> {
  title: string;
  value(row: T): string | number | undefined;
  /** Numbers stand at the right. */
  right?: boolean;
  /** Longer values are cut (not in JSON). */
  max?: number;
}

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** What a terminal may be shown: no escape sequences, no bidirectional tricks, one line. */
export const printable = (text: string, max = 300): string => {
  const clean = text.replace(CONTROL, '\ufffd');
  return clean.length > max ? `${clean.slice(0, max - 1)}…` : clean;
};

/** Columns that a terminal needs for a text: CJK and emoji take two, combining marks none. */
export function width(text: string): number {
  let columns = 0;
  for (const char of text) {
    const code = char.codePointAt(0)!;
    if (/\p{Mark}/u.test(char)) continue;
    const wide =
      (code >= 0x1100 && code <= 0x115f) ||
      (code >= 0x2e80 && code <= 0xa4cf) ||
      (code >= 0xac00 && code <= 0xd7a3) ||
      (code >= 0xf900 && code <= 0xfaff) ||
      (code >= 0xfe30 && code <= 0xfe6f) ||
      (code >= 0xff00 && code <= 0xff60) ||
      (code >= 0xffe0 && code <= 0xffe6) ||
      (code >= 0x1f300 && code <= 0x1faff) ||
      (code >= 0x20000 && code <= 0x3fffd);
    columns += wide ? 2 : 1;
  }
  return columns;
}

export function table<T>(rows: readonly T[], columns: readonly Column<T>[]): string {
  const cells = rows.map((row) =>
    columns.map((column) => printable(String(column.value(row) ?? ''), column.max ?? 300)),
  );
  const titles = columns.map((column) => column.title);
  const widths = columns.map((_, i) => Math.max(width(titles[i]!), ...cells.map((line) => width(line[i]!))));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => {
        const pad = ' '.repeat(Math.max(0, widths[i]! - width(text)));
        return columns[i]!.right ? pad + text : text + pad;
      })
      .join('  ')
      .trimEnd();
  return [titles, ...cells].map((texts) => `${line(texts)}\n`).join('');
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

export const number = (count: number): string => String(count).replace(/\B(?=(\d{3})+$)/g, ',');
export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${number(count)} ${count === 1 ? one : many}`;

export function seconds(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const whole = Math.round(ms / 1000);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return h > 0 ? `${h} h ${m} min` : `${m} min ${s} s`;
}
