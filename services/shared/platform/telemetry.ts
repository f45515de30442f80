import { writeSync } from 'node:fs';
import pino, { type Logger } from 'pino';
import { GantryError } from './errors.ts';
import type { TracedRequests } from './trace.ts';

/**
 * Logs may hold AE titles, addresses and UIDs; never names, patient IDs, accession numbers, birth dates, query strings or bodies.
 * That is so by construction: text is logged only under a key of this list, whatever else is put into a line becomes [refused],
 * and of an error that is not ours only its class, its system code and its stack frames are kept, since its message may quote data.
 */
export const LOG_FIELDS: ReadonlySet<string> = new Set([
  // who and where
  'aeTitle',
  'callingAeTitle',
  'calledAeTitle',
  'moveDestination',
  'moveOriginator',
  'peer',
  'address',
  'localAddress',
  'host',
  'principal',
  'principalKind',
  'tenant',
  'implementationClassUid',
  'implementationVersion',
  // what ties lines together
  'requestId',
  'associationId',
  'traceId',
  'module',
  'role',
  'service',
  'door',
  'useCase',
  'route',
  'method',
  'queue',
  'subject',
  'worker',
  // what about
  'studyInstanceUid',
  'seriesInstanceUid',
  'sopInstanceUid',
  'sopClassUid',
  'transferSyntaxUid',
  'transferSyntaxUids',
  'abstractSyntaxUid',
  'transactionUid',
  'uid',
  'uids',
  'queryLevel',
  'lane',
  'object',
  'segment',
  'file',
  'dataDir',
  'area',
  'entry',
  'digest',
  'mediaType',
  // how it went
  'state',
  'phase',
  'event',
  'action',
  'outcome',
  'code',
  'status',
  'reason',
  'detail',
  'signal',
  'setting',
  'settings',
  'version',
  'revision',
  'kind',
  'from',
  'to',
  'since',
  'addresses',
  'hosts',
  'ended',
  'reject',
  'place',
  'evidence',
  'alarm',
  'alarms',
  'problems',
  'errorComment',
  'comment',
  'offendingElements',
  'limit',
  'result',
  'source',
  'command',
]);

const TEXT_MAX = 1_000;
const DEPTH_MAX = 4;
const REFUSED = '[refused]';

function allowed(key: string, value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'number':
    case 'boolean':
    case 'undefined':
      return value;
    case 'bigint':
      return Number(value);
    case 'string':
      if (!LOG_FIELDS.has(key)) return REFUSED;
      return value.length > TEXT_MAX ? `${value.slice(0, TEXT_MAX)}…` : value;
    case 'object':
      if (value === null) return null;
      if (value instanceof Error) return describeError(value);
      if (value instanceof Date) return value.toISOString();
      if (ArrayBuffer.isView(value) || depth >= DEPTH_MAX) return REFUSED;
      if (Array.isArray(value)) return value.slice(0, 100).map((item) => allowed(key, item, depth + 1));
      return allowedFields(value as Record<string, unknown>, depth + 1);
    default:
      return REFUSED;
  }
}

export function allowedFields(fields: Record<string, unknown>, depth = 0): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) out[key] = allowed(key, value, depth);
  return out;
}

/** Messages of GantryErrors are written by us and hold no patient data (errors.ts); nobody vouches for those of others. */
export function describeError(error: Error, depth = 0): Record<string, unknown> {
  const cause =
    error.cause instanceof Error && depth < DEPTH_MAX ? { cause: describeError(error.cause, depth + 1) } : {};
  const errors =
    error instanceof AggregateError && depth < DEPTH_MAX
      ? {
          errors: error.errors
            .slice(0, 5)
            .map((one) => (one instanceof Error ? describeError(one, depth + 1) : REFUSED)),
        }
      : {};
  if (error instanceof GantryError)
    return {
      code: error.code,
      message: error.message.slice(0, TEXT_MAX),
      ...(error.code === 'internal' && !error.cause ? { stack: frames(error) } : {}),
      ...cause,
    };
  const { code, syscall } = error as { code?: unknown; syscall?: unknown };
  return {
    type: error.name === 'Error' ? error.constructor.name : error.name,
    ...(typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? { code } : {}),
    ...(typeof syscall === 'string' && /^[a-z0-9_]{1,32}$/i.test(syscall) ? { syscall } : {}),
    stack: frames(error),
    ...cause,
    ...errors,
  };
}

/** The stack begins with the message, which may have several lines: only what V8 writes as frames is kept. */
function frames(error: Error): string {
  const message = error.message;
  const stack = error.stack ?? '';
  const at = message === '' ? -1 : stack.indexOf(message);
  const rest = at < 0 ? stack : stack.slice(at + message.length);
  return rest
    .split('\n')
    .filter((line) => /^ {4}at /.test(line))
    .slice(0, 20)
    .map((line) => line.trim())
    .join('\n');
}

export interface LogOptions {
  level: string;
  pretty: boolean;
  destination: { write(line: string): void; writeNow?(line: string): void };
  /** A line of a request or an association that is traced carries its trace's id. */
  traced?: Pick<TracedRequests, 'of'>;
}

export function createLog({ level, pretty, destination, traced }: LogOptions): Logger {
  const withTrace = (fields: Record<string, unknown>): Record<string, unknown> => {
    const id = fields.requestId ?? fields.associationId;
    const traceId = typeof id === 'string' ? traced?.of(id) : undefined;
    return traceId === undefined ? fields : { ...fields, traceId };
  };
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => allowedFields(withTrace(fields)),
      },
      serializers: { err: (described: unknown) => described }, // already described above; pino's own would take its message again
      hooks: {
        /** pino takes the message of an error for the line's own, and fills %s from further arguments: neither may happen. */
        logMethod([first, second]: unknown[], method) {
          if (typeof first === 'string') method.call(this, {}, first);
          else {
            const fields = first instanceof Error ? { err: first } : ((first ?? {}) as object);
            method.call(this, fields, typeof second === 'string' ? second : 'err' in fields ? 'failed' : '');
          }
        },
      },
    },
    {
      write(line: string) {
        const text = pretty ? prettyLine(line) : line;
        if (destination.writeNow && line.startsWith('{"level":"fatal"')) destination.writeNow(text);
        else destination.write(text);
      },
    },
  );
  // pino resets its own `bindings` formatter for children; they inherit this method, so theirs pass here too.
  const child = log.child;
  log.child = function (this: Logger, bindings: object, options?: object) {
    return child.call(this, allowedFields(bindings as Record<string, unknown>), options ?? {});
  } as typeof log.child;
  return log;
}

export interface Output {
  write(text: string): void;
  /** The last words of a process: written before this returns. */
  writeNow(text: string): void;
  /** Resolves when everything is written, or after a moment if nobody reads. */
  written(): Promise<void>;
}

const LAST_WORDS_MS = 500;

/** Standard output without blocking the event loop: a reader that stands still must not stop the archive. Beyond 8 MiB lines are dropped. */
export function standardOutput(): Output {
  // minLength 1: with 0 (written at once as well) flush would not wait for what is on its way.
  const stream = pino.destination({ dest: 1, sync: false, minLength: 1, maxLength: 8 * 1024 * 1024 });
  return {
    write: (text) => void stream.write(text),
    writeNow(text) {
      try {
        writeSync(1, text);
      } catch {
        // EAGAIN, EPIPE: nobody takes it, and there is nowhere else to say so.
      }
    },
    written: () =>
      new Promise((resolve) => {
        const late = setTimeout(resolve, LAST_WORDS_MS);
        stream.flush(() => {
          clearTimeout(late);
          resolve();
        });
      }),
  };
}

const COLOURS: Record<string, number> = { trace: 90, debug: 90, info: 32, warn: 33, error: 31, fatal: 31 };

export function prettyLine(line: string): string {
  const { time, level, module, msg, err, ...rest } = JSON.parse(line) as Record<string, unknown> & {
    time: string;
    level: string;
  };
  const error = err as { code?: string; type?: string; message?: string; stack?: string } | undefined;
  const fields = Object.entries(rest).map(
    ([key, value]) =>
      `${key}=${typeof value === 'string' && /^[\w.:/@-]+$/.test(value) ? value : JSON.stringify(value)}`,
  );
  if (error) fields.unshift(`${error.code ?? error.type}${error.message ? `: ${printable(error.message)}` : ''}`);
  const head = `\x1b[90m${time.slice(11, 23)}\x1b[0m \x1b[${COLOURS[level] ?? 0}m${level.padEnd(5)}\x1b[0m ${module ? `\x1b[36m${printable(String(module))}\x1b[0m ` : ''}`;
  const stack =
    error?.stack && ['error', 'fatal'].includes(level)
      ? `\n${error.stack
          .split('\n')
          .map((frame) => `    ${printable(frame)}`)
          .join('\n')}`
      : '';
  return `${head}${printable(String(msg ?? ''))}${fields.length > 0 ? ` \x1b[90m${fields.join(' ')}\x1b[0m` : ''}${stack}\n`;
}

/** A sender's AE title must not steer the terminal. */
const printable = (text: string): string => text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
