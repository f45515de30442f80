// What a command is: a row that the help is printed from, and a function.
import { parseArgs } from 'node:util';
import { didYouMean } from '#platform/setting-values.ts';
import type { Client } from './client.ts';

/** For scripts. The same for every command. */
export const EXIT = {
  ok: 0,
  failed: 1, // something was refused, failed, or was found wrong
  usage: 2,
  unreachable: 3, // no server answers, or it does not let us in
  interrupted: 130, // Ctrl-C
} as const;

export interface OptionRow {
  type: 'string' | 'boolean';
  short?: string;
  /** What stands for the value in the help. */
  value?: string;
  doc: string;
}

export interface Example {
  line: string;
  says: string;
}

export interface Command {
  /** After `gantry NAME`: "STUDY [--series UID]". */
  usage: string;
  summary: string;
  /** Paragraphs of the help: what happens, what is safe, what to do next. */
  text: string;
  examples: readonly Example[];
  options: Readonly<Record<string, OptionRow>>;
  /** How many positional arguments it takes. */
  takes: { least: number; most: number };
  /** Answers the exit code; nothing when the process goes on by itself (`up`). */
  run(house: House, given: Given): Promise<number | undefined>;
}

export interface Given {
  positionals: string[];
  text(option: string): string | undefined;
  flag(option: string): boolean;
  /** A positive whole number. */
  count(option: string, otherwise: number, most: number): number;
}

/** What a command may touch: tests hand in their own. */
export interface House {
  client: Client;
  json: boolean;
  env: Record<string, string | undefined>;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  output: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  errors: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  input: NodeJS.ReadStream;
  print(text: string): void;
  /** One JSON document, or one line of NDJSON. */
  printJson(value: unknown): void;
  /** To people: not part of what scripts read. */
  note(text: string): void;
}

/** Ends the command with a sentence. Never holds patient data: a terminal's scrollback and a CI log are kept by others. */
export class CommandFailure extends Error {
  readonly exitCode: number;
  readonly code: string;
  constructor(exitCode: number, code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
    this.code = code;
  }
}
export const usage = (message: string): CommandFailure => new CommandFailure(EXIT.usage, 'usage', message);

/** Every command takes these. */
export const COMMON: Readonly<Record<string, OptionRow>> = {
  server: {
    type: 'string',
    value: 'URL',
    doc: 'the server (GANTRY_URL, or GANTRY_HTTP_HOST and GANTRY_HTTP_PORT; else http://localhost:8080)',
  },
  'token-file': {
    type: 'string',
    value: 'FILE',
    doc: 'file with the bearer token, its first line (GANTRY_TOKEN_FILE)',
  },
  json: {
    type: 'boolean',
    doc: 'JSON on standard output, for scripts: one document, or one a line where rows come one by one',
  },
  help: { type: 'boolean', short: 'h', doc: 'this text' },
};

const PLAIN_OPTION = /^--?([^=]+)/;

/** Options and positionals of one command; whatever it does not know is a usage error that says what was meant. */
export function parse(command: Command, args: string[]): Given {
  const rows = { ...command.options, ...COMMON };
  const named = Object.fromEntries(
    Object.entries(rows).map(([name, row]) => [
      name,
      { type: row.type, ...(row.short === undefined ? {} : { short: row.short }) },
    ]),
  );
  let parsed: { values: Record<string, string | boolean | undefined>; positionals: string[] };
  try {
    parsed = parseArgs({ args, options: named, allowPositionals: true, strict: true }) as typeof parsed;
  } catch (error) {
    throw usage(sayOf(error, args, Object.keys(rows)));
  }
  const { values, positionals } = parsed;
  const given: Given = {
    positionals,
    text: (option) => values[option] as string | undefined,
    flag: (option) => values[option] === true,
    count: (option, otherwise, most) => {
      const text = values[option] as string | undefined;
      if (text === undefined) return otherwise;
      const value = Number(text);
      if (!/^\d+$/.test(text) || value < 1 || value > most)
        throw usage(`--${option} is a whole number from 1 to ${most}`);
      return value;
    },
  };
  if (values.help !== true) {
    const { least, most } = command.takes;
    if (positionals.length < least) throw usage(`it takes ${command.usage}`);
    if (positionals.length > most) throw usage(`too many arguments: it takes ${command.usage || 'none'}`);
  }
  return given;
}

function sayOf(error: unknown, args: readonly string[], known: readonly string[]): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    const unknown = args
      .slice(0, args.includes('--') ? args.indexOf('--') : undefined)
      .map((arg) => (arg.startsWith('--') ? PLAIN_OPTION.exec(arg)?.[1] : undefined))
      .find((name) => name !== undefined && !known.includes(name));
    if (unknown !== undefined) {
      const meant = didYouMean(unknown, known);
      return `--${unknown} is no option of it${meant === undefined ? '' : `; did you mean --${meant}?`}`;
    }
    return 'an option is not known';
  }
  // Node's own words name the option and quote the value; the first sentence is enough.
  return error instanceof Error ? error.message.split(/[.\n]/)[0]! : 'the options could not be read';
}
