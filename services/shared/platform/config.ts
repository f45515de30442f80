import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import type { Module, SettingsTable } from './module.ts';
import { checkPortsApart } from './ports-apart.ts';
import {
  defaultsOf,
  didYouMean,
  environmentName,
  LiveSettings,
  mergeTables,
  parseValue,
  unknownKey,
} from './setting-values.ts';
import { platformSettings } from './settings.ts';
import { checkTracing } from './trace.ts';
import { checkNeeds, checkWire } from './wire.ts';

/** gantry.yaml and the environment, checked as a whole before the first socket opens. The environment wins. */
export class ConfigError extends Error {
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

export interface Config {
  settings: LiveSettings;
  /** The file that was read; undefined: none was there. */
  file: string | undefined;
  /** Reads everything again; rows with `reload` change, a bad file changes nothing (ConfigError). */
  reload(): { changed: string[]; needRestart: string[] };
}

export type Environment = Record<string, string | undefined>;

// Read by others than the tables: which file to read; the CLI's; what the tests of this repo are told.
const OTHER_ENVIRONMENT = [
  'GANTRY_CONFIG',
  'GANTRY_URL',
  'GANTRY_TOKEN',
  'GANTRY_TOKEN_FILE',
  'GANTRY_OPEN_DATA',
  'GANTRY_PYTHON',
  'GANTRY_SAMPLES',
];
/** Where the scenarios of tools/peers find a deployment: a shell that knows it may start another one. */
const isForOthers = (name: string): boolean => OTHER_ENVIRONMENT.includes(name) || name.startsWith('GANTRY_SCENARIO_');
// Kubernetes tells pods of every service in names of its own (GANTRY_SERVICE_HOST, GANTRY_HTTP_PORT=tcp://…): those are not for us.
const isServiceLink = (name: string, value: string | undefined): boolean =>
  /_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)/.test(name) || /^(tcp|udp|sctp):\/\//.test(value ?? '');

/**
 * `others`: tables of modules that another role would start, so that one gantry.yaml can serve every role. `needs`: what this role asks of
 * other processes, which platform.endpoints must name.
 */
export function loadConfig(
  modules: readonly Module[],
  given: Environment,
  cwd: string,
  others: readonly SettingsTable[] = [],
  needs: readonly string[] = [],
): Config {
  const environment = Object.fromEntries(Object.entries(given).filter(([name, value]) => !isServiceLink(name, value)));
  const table = mergeTables([platformSettings, ...modules.map(({ settings }) => settings)]);
  const known = mergeTables([table, ...others]);
  const read = () => {
    const problems: string[] = [];
    const file = findFile(environment, cwd, problems);
    const values = file === undefined ? {} : readFile(file, known, problems);
    const settings = assemble(table, known, values, environment, problems, file);
    resolvePaths(table, settings, file, values, cwd);
    // Pairs are only judged when every single value is right: their sentences would mislead otherwise.
    if (problems.length === 0) {
      const trial = new LiveSettings(table, settings);
      problems.push(...checkPortsApart(trial), ...checkNeeds(trial, needs));
      for (const check of [checkWire, checkTracing, ...modules.map((module) => module.check?.bind(module))])
        if (check) problems.push(...check(trial));
    }
    if (problems.length > 0) throw new ConfigError(problems);
    return { settings, file };
  };
  const first = read();
  const settings = new LiveSettings(table, first.settings);
  return { settings, file: first.file, reload: () => settings.replace(read().settings) };
}

function findFile(environment: Environment, cwd: string, problems: string[]): string | undefined {
  const named = environment.GANTRY_CONFIG;
  if (named) {
    const path = resolve(cwd, named);
    if (!existsSync(path)) problems.push(`GANTRY_CONFIG names ${path}, which is not there`);
    return existsSync(path) ? path : undefined;
  }
  const dataDir = environment.GANTRY_DATA_DIR || String(platformSettings.dataDir.default);
  return [join(cwd, 'gantry.yaml'), join(resolve(cwd, dataDir), 'gantry.yaml')].find((path) => existsSync(path));
}

/** `http: {port: 80}` and `http.port: 80` are the same. Only what a table names as a key ends the descent. */
function readFile(file: string, known: SettingsTable, problems: string[]): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    problems.push(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    return {};
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  for (const error of document.errors)
    problems.push(
      `${file}, line ${error.linePos?.[0].line ?? '?'}: not valid YAML (${error.message.split('\n')[0].replace(/ at line.*$/, '')})`,
    );
  if (document.errors.length > 0) return {};
  // maxAliasCount bounds what a file of a few lines can expand to.
  let content: unknown;
  try {
    content = document.toJS({ maxAliasCount: 100 });
  } catch {
    problems.push(`${file}: its YAML aliases expand to more than a settings file can need`);
    return {};
  }
  if (content === null || content === undefined) return {};
  if (typeof content !== 'object' || Array.isArray(content)) {
    problems.push(`${file} must hold settings, such as "dimse: {port: 11112}"`);
    return {};
  }
  const values: Record<string, unknown> = {};
  const groups = new Set(
    Object.keys(known).flatMap((key) =>
      key
        .split('.')
        .slice(0, -1)
        .map((_, at, parts) => parts.slice(0, at + 1).join('.')),
    ),
  );
  const descend = (prefix: string, node: Record<string, unknown>) => {
    for (const [name, value] of Object.entries(node)) {
      const key = prefix + name;
      if (Object.hasOwn(known, key)) {
        if (Object.hasOwn(values, key)) problems.push(`${file}: ${key} is set twice`);
        values[key] = value;
      } else if (groups.has(key) && (value === null || (typeof value === 'object' && !Array.isArray(value))))
        descend(`${key}.`, (value ?? {}) as Record<string, unknown>);
      else
        problems.push(
          `${file}: ${groups.has(key) ? `${key} is a group of settings, such as ${Object.keys(known).find((one) => one.startsWith(`${key}.`))}` : unknownKey(key, key, Object.keys(known))}`,
        );
    }
  };
  descend('', content as Record<string, unknown>);
  return values;
}

function assemble(
  table: SettingsTable,
  known: SettingsTable,
  fromFile: Record<string, unknown>,
  environment: Environment,
  problems: string[],
  file: string | undefined,
): Map<string, unknown> {
  const values = defaultsOf(table);
  const names = new Map(Object.entries(known).map(([key, row]) => [environmentName(key, row), key]));
  for (const name of Object.keys(environment)) {
    if (!name.startsWith('GANTRY_') || names.has(name) || isForOthers(name)) continue;
    const meant = didYouMean(name, [...names.keys()]);
    problems.push(
      `${name} in the environment is not a setting${meant ? `; did you mean ${meant}?` : ' (services/SETTINGS.md lists them all)'}`,
    );
  }
  for (const [key, row] of Object.entries(known)) {
    const ours = environmentName(key, row);
    const name = !environment[ours] && row.envAlso !== undefined && environment[row.envAlso] ? row.envAlso : ours;
    const fromEnvironment = environment[name];
    const set = fromEnvironment !== undefined && fromEnvironment !== '';
    const raw = set ? fromEnvironment : fromFile[key];
    if (raw === undefined || raw === null) continue;
    const parsed = parseValue(key, row, raw);
    if ('problem' in parsed)
      for (const problem of parsed.problem.split('\n')) problems.push(`${set ? name : file}: ${problem}`);
    else if (Object.hasOwn(table, key)) values.set(key, parsed.value);
  }
  return values;
}

/** A relative path is relative to the file that names it, or to the working directory. */
function resolvePaths(
  table: SettingsTable,
  values: Map<string, unknown>,
  file: string | undefined,
  fromFile: Record<string, unknown>,
  cwd: string,
): void {
  for (const [key, row] of Object.entries(table)) {
    const path = values.get(key);
    if (row.type !== 'path' || typeof path !== 'string' || path === '' || isAbsolute(path)) continue;
    values.set(key, resolve(file !== undefined && fromFile[key] === path ? dirname(file) : cwd, path));
  }
}
