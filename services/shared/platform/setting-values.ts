import type { SettingRow, Settings, SettingsTable } from './module.ts';
import { type FieldParser, parsePeers } from './peers.ts';

/** From what a person wrote (text, a number, a list) to a typed value, or to a sentence that says what to write instead. */
type Parsed = { value: unknown } | { problem: string };
type Shape = Pick<SettingRow, 'type' | 'min' | 'max' | 'values'>;

const BYTES: Record<string, number> = {
  '': 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};
const MILLISECONDS: Record<string, number> = { '': 1, ms: 1, s: 1e3, min: 6e4, m: 6e4, h: 3.6e6, d: 8.64e7 };

function measured(raw: unknown, units: Record<string, number>): number | undefined {
  if (typeof raw === 'number') return raw;
  const match = typeof raw === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(raw) : null;
  if (!match) return undefined;
  const unit = units[match[2]];
  return unit === undefined ? undefined : Number(match[1]) * unit;
}

export function formatBytes(value: number): string {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const)
    if (value >= size && value % size === 0) return `${value / size}${unit}`;
  return `${value}B`;
}
export function formatMs(value: number): string {
  for (const [unit, size] of [
    ['h', 3.6e6],
    ['min', 6e4],
    ['s', 1e3],
  ] as const)
    if (value >= size && value % size === 0) return `${value / size}${unit}`;
  return `${value}ms`;
}
export const formatNumber = (type: SettingRow['type'], value: number): string =>
  type === 'bytes' ? formatBytes(value) : type === 'ms' ? formatMs(value) : String(value);

function number(where: string, shape: Shape, value: number | undefined, says: string): Parsed {
  if (value === undefined || !Number.isSafeInteger(value)) return { problem: `${where} must be ${says}` };
  if (shape.min !== undefined && value < shape.min)
    return {
      problem: `${where} is ${formatNumber(shape.type, value)}; it must be at least ${formatNumber(shape.type, shape.min)}`,
    };
  if (shape.max !== undefined && value > shape.max)
    return {
      problem: `${where} is ${formatNumber(shape.type, value)}; it must be at most ${formatNumber(shape.type, shape.max)}`,
    };
  return { value };
}

function text(where: string, shape: Shape, raw: unknown): Parsed {
  if (typeof raw !== 'string' && typeof raw !== 'number') return { problem: `${where} must be text` };
  const value = String(raw);
  if (shape.values && !shape.values.includes(value))
    return { problem: `${where} is "${value}"; it must be one of ${shape.values.join(', ')}` };
  return { value };
}

export function parseValue(where: string, shape: Shape, raw: unknown): Parsed {
  switch (shape.type) {
    case 'string':
    case 'path':
    case 'enum':
      return text(where, shape, raw);
    case 'integer': {
      const value = typeof raw === 'string' && /^\s*-?\d+\s*$/.test(raw) ? Number(raw) : raw;
      return number(where, shape, typeof value === 'number' ? value : undefined, 'a whole number');
    }
    case 'ratio': {
      const value = typeof raw === 'string' && /^\s*\d+(\.\d+)?\s*$/.test(raw) ? Number(raw) : raw;
      if (typeof value === 'number' && value >= 0 && value <= 1) return { value };
      return { problem: `${where} must be a share between 0 and 1, such as 0.05` };
    }
    case 'bytes':
      return number(where, shape, measured(raw, BYTES), 'a size, such as 16MiB');
    case 'ms':
      return number(where, shape, measured(raw, MILLISECONDS), 'a time, such as 500ms, 30s, 5min or 1h');
    case 'boolean':
      if (raw === true || raw === 'true' || raw === '1') return { value: true };
      if (raw === false || raw === 'false' || raw === '0') return { value: false };
      return { problem: `${where} must be true or false` };
    case 'list': {
      const items = Array.isArray(raw)
        ? raw
        : typeof raw === 'string'
          ? raw
              .split(',')
              .map((item) => item.trim())
              .filter((item) => item !== '')
          : undefined;
      if (!items) return { problem: `${where} must be a list` };
      const values: string[] = [];
      for (const [at, item] of items.entries()) {
        const parsed = text(`${where}[${at}]`, shape, item);
        if ('problem' in parsed) return parsed;
        values.push(String(parsed.value));
      }
      return { value: values };
    }
    case 'peers': {
      if (typeof raw === 'string')
        return { problem: `${where} is a list of mappings: it can only be written in gantry.yaml` };
      const { peers, problems } = parsePeers(raw, fieldParser);
      return problems.length > 0 ? { problem: problems.join('\n') } : { value: peers };
    }
  }
}

/** The key that was probably meant: at most a third of its letters differ. */
export function didYouMean(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

export function unknownKey(where: string, name: string, known: readonly string[]): string {
  const meant = didYouMean(name, known);
  return `${where} is not a setting${meant ? `; did you mean ${meant}?` : ' (services/SETTINGS.md lists them all)'}`;
}

const fieldParser: FieldParser = { value: parseValue, unknown: unknownKey };

/** GANTRY_ + upper snake case: dimse.acceptUnknown → GANTRY_DIMSE_ACCEPT_UNKNOWN. */
export function environmentName(key: string, row: SettingRow): string {
  if (row.env) return row.env;
  const snake = key
    .replaceAll('.', '_')
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toUpperCase();
  return `GANTRY_${snake}`;
}

export function mergeTables(tables: readonly SettingsTable[]): SettingsTable {
  const merged: SettingsTable = {};
  for (const table of tables)
    for (const [key, row] of Object.entries(table)) {
      // A door and auth read some keys alike, from different processes: they must mean the same by them.
      const same = merged[key];
      if (same && (same.type !== row.type || JSON.stringify(same.default) !== JSON.stringify(row.default)))
        throw new Error(`two modules declare the setting ${key} differently`);
      if (same) continue;
      merged[key] = row;
    }
  return merged;
}

export function defaultsOf(table: SettingsTable): Map<string, unknown> {
  const values = new Map<string, unknown>();
  for (const [key, row] of Object.entries(table)) values.set(key, defaultOf(key, row));
  return values;
}

/** Defaults may be written with units too. */
function defaultOf(key: string, row: SettingRow): unknown {
  const parsed = parseValue(
    key,
    { type: row.type, values: row.type === 'enum' ? row.values : undefined },
    structuredClone(row.default),
  );
  if ('problem' in parsed) throw new Error(`the default is wrong: ${parsed.problem}`);
  return parsed.value;
}

/** The settings that modules read. Reading one that no table declares is a programming error. */
export class LiveSettings implements Settings {
  readonly table: SettingsTable;
  #values: Map<string, unknown>;
  readonly #listeners = new Set<() => void>();

  constructor(table: SettingsTable, values: Map<string, unknown> = defaultsOf(table)) {
    this.table = table;
    this.#values = values;
  }

  #read(key: string, ...types: SettingRow['type'][]): unknown {
    const row = this.table[key];
    if (!row) throw new Error(`no table declares the setting ${key}`);
    if (types.length > 0 && !types.includes(row.type)) throw new Error(`the setting ${key} is of type ${row.type}`);
    return this.#values.get(key);
  }
  string(key: string): string {
    return this.#read(key, 'string', 'enum', 'path') as string;
  }
  number(key: string): number {
    return this.#read(key, 'integer', 'ratio', 'bytes', 'ms') as number;
  }
  boolean(key: string): boolean {
    return this.#read(key, 'boolean') as boolean;
  }
  list(key: string): string[] {
    return this.#read(key, 'list') as string[];
  }
  value<T>(key: string): T {
    return this.#read(key) as T;
  }
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** Takes over the rows with `reload`; returns which changed, and which differ but need a restart. */
  replace(next: Map<string, unknown>): { changed: string[]; needRestart: string[] } {
    const changed: string[] = [];
    const needRestart: string[] = [];
    const values = new Map(this.#values);
    for (const [key, row] of Object.entries(this.table)) {
      if (JSON.stringify(next.get(key)) === JSON.stringify(this.#values.get(key))) continue;
      if (!row.reload) needRestart.push(key);
      else {
        changed.push(key);
        values.set(key, next.get(key));
      }
    }
    this.#values = values;
    if (changed.length > 0) for (const listener of this.#listeners) listener();
    return { changed, needRestart };
  }
}
