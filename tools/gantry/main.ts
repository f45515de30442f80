// `gantry`: the table of commands, the help that it prints, and how a command ends.
import { realpathSync } from 'node:fs';
import { didYouMean } from '#platform/setting-values.ts';
import { createClient } from './client.ts';
import { COMMON, type Command, CommandFailure, EXIT, type House, type OptionRow, parse, usage } from './command.ts';
import { GROUPS, load, NAMES, type Name } from './commands.ts';

export interface Terminal {
  env: Record<string, string | undefined>;
  output: House['output'];
  errors: House['errors'];
  input: House['input'];
  signal: AbortSignal;
}

const EXIT_CODES = `Exit codes:
  0    done
  1    something failed, was refused, or was found wrong
  2    usage: the command line is wrong; nothing was done
  3    no server answers there, or it does not let us in
  130  interrupted`;

/** The exit code; nothing when the process goes on by itself (`up`). */
export async function gantry(args: readonly string[], terminal: Terminal): Promise<number | undefined> {
  const { output, errors, env, input, signal } = terminal;
  const print = (text: string) => void output.write(text);
  const note = (text: string) => void errors.write(text);
  const printJson = (value: unknown) => print(`${JSON.stringify(value)}\n`);
  const json = args.includes('--json');
  let name = args.find((arg) => !arg.startsWith('-'));
  try {
    if (args.length === 0 || args[0] === '--help' || args[0] === '-h' || args[0] === 'help') {
      const about = args[0] === 'help' ? args[1] : undefined;
      if (about === undefined) print(await overview());
      else print(help(about, await load(known(about))));
      return EXIT.ok;
    }
    if (args[0]!.startsWith('-')) {
      name = undefined;
      throw usage('the command comes first: gantry COMMAND [options]');
    }
    const command = await load(known(args[0]!));
    const given = parse(command, args.slice(1));
    if (given.flag('help')) {
      print(help(args[0]!, command));
      return EXIT.ok;
    }
    const client = createClient({
      server: given.text('server'),
      tokenFile: given.text('token-file'),
      env,
      cwd: process.cwd(),
    });
    try {
      return await command.run({ client, json, env, signal, output, errors, input, print, printJson, note }, given);
    } finally {
      client.close();
    }
  } catch (error) {
    const failure = signal.aborted
      ? new CommandFailure(EXIT.interrupted, 'interrupted', 'interrupted')
      : failureOf(error);
    if (json) note(`${JSON.stringify({ error: failure.code, message: failure.message })}\n`);
    else note(`gantry${name === undefined ? '' : ` ${name}`}: ${failure.message}\n`);
    if (failure.exitCode === EXIT.usage && !json)
      note(`\`gantry ${name !== undefined && isName(name) ? `${name} ` : ''}--help\` says more\n`);
    return failure.exitCode;
  }
}

function failureOf(error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error;
  const name = error instanceof Error ? error.name : '';
  if (name === 'AbortError') return new CommandFailure(EXIT.interrupted, 'interrupted', 'interrupted');
  // Our own upper layer and the error table say what happened without values of data sets.
  if (name === 'AssociationError') {
    const code = (error as { code?: string }).code ?? 'failed';
    const exit =
      code === 'connect-failed' || code === 'rejected' || code === 'timeout' ? EXIT.unreachable : EXIT.failed;
    return new CommandFailure(exit, code, (error as Error).message, { cause: error });
  }
  if (name === 'GantryError' || name === 'DicomError')
    return new CommandFailure(EXIT.failed, (error as { code?: string }).code ?? 'failed', (error as Error).message, {
      cause: error,
    });
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) {
    const path = (error as NodeJS.ErrnoException).path;
    return new CommandFailure(EXIT.failed, code, `${path === undefined ? 'the system says' : path}: ${code}`, {
      cause: error,
    });
  }
  throw error; // a defect of ours: its stack is worth more than a sentence
}

const isName = (text: string): text is Name => (NAMES as readonly string[]).includes(text);

function known(text: string): Name {
  if (isName(text)) return text;
  const meant = didYouMean(text, NAMES);
  throw usage(
    `there is no command ${/^[\w-]{1,32}$/.test(text) ? text : 'of that name'}${meant === undefined ? '' : `; did you mean ${meant}?`}`,
  );
}

async function overview(): Promise<string> {
  const groups = await Promise.all(
    Object.entries(GROUPS).map(async ([title, names]) => {
      const lines = await Promise.all(names.map(async (one) => `  ${one.padEnd(13)}${(await load(one)).summary}\n`));
      return `${title}\n${lines.join('')}`;
    }),
  );
  return `gantry: the command line of the Gantry archive

Usage: gantry COMMAND [options]

${groups.join('\n')}
Everywhere
${optionLines(COMMON)}
${EXIT_CODES}

\`gantry COMMAND --help\` explains a command, with examples. The first three to try:
  gantry up                    start the archive here
  gantry import ./studies      fill it
  gantry find 'PatientName=*'  see what is in it
`;
}

function help(name: string, command: Command): string {
  const own = optionLines(command.options);
  const examples = command.examples.map(({ line, says }) => `  ${line}\n      ${says}\n`).join('');
  return `gantry ${name}: ${command.summary}

Usage: gantry ${name}${command.usage === '' ? '' : ` ${command.usage}`}

${command.text}

Examples:
${examples}
${own === '' ? '' : `Options:\n${own}\n`}Everywhere:
${optionLines(COMMON)}
${EXIT_CODES}
`;
}

function optionLines(rows: Readonly<Record<string, OptionRow>>): string {
  return Object.entries(rows)
    .map(([name, row]) => {
      const flag = `${row.short === undefined ? '' : `-${row.short}, `}--${name}${row.value === undefined ? '' : ` ${row.value}`}`;
      return `  ${flag.padEnd(24)}${row.doc}\n`;
    })
    .join('');
}

async function main(): Promise<void> {
  const abort = new AbortController();
  const args = process.argv.slice(2);
  // The server takes its signals itself. Elsewhere the first Ctrl-C ends in order, the second at once.
  const onSignal = () => {
    if (abort.signal.aborted) process.exit(EXIT.interrupted);
    abort.abort();
  };
  if (args[0] !== 'up') {
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  }
  // `gantry … | head`: who reads has seen enough.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
    throw error;
  });
  const code = await gantry(args, {
    env: process.env,
    output: process.stdout,
    errors: process.stderr,
    input: process.stdin,
    signal: abort.signal,
  });
  if (code === undefined) return;
  process.exitCode = code;
  // What is still written to a pipe is written; what an import left open must not hold the shell.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) await main();
