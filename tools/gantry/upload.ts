// One file to the server: what import and `send --stow` share. Refusals that pass are waited for; a full archive ends the run.
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { ERRORS, type ErrorCode } from '#platform/errors.ts';
import { type Client, type Sending, wholeText } from './client.ts';
import { CommandFailure, EXIT } from './command.ts';
import { DICOMDIR_CLASS, HEAD_BYTES, prefixOf } from './identify.ts';
import type { Item } from './sources.ts';

const TRIES = 6;
const PAUSE_MS = 250; // doubled with every try: 8 s in all
const LOST = 'connection-lost';

export type Uploaded =
  | { kind: 'stored' }
  | { kind: 'no-dicom' }
  | { kind: 'dicomdir' }
  | { kind: 'refused' | 'failed'; code: string; says: string };

/** One request; how the door answers is its own affair. */
export type Post = (client: Client, body: Sending, signal: AbortSignal) => Promise<Uploaded>;

export async function upload(client: Client, item: Item, post: Post, signal: AbortSignal): Promise<Uploaded> {
  if (item.leftOut !== undefined) return { kind: 'failed', code: 'left-out', says: item.leftOut };
  for (let tries = 1; ; tries++) {
    const outcome = await once(client, item, post, signal);
    if (outcome.kind !== 'failed' || !passes(outcome.code) || !item.again) return outcome;
    if (tries === TRIES) {
      if (outcome.code !== LOST) return outcome;
      throw new CommandFailure(EXIT.unreachable, 'unreachable', `${client.server} does not answer any more`);
    }
    await wait(PAUSE_MS * 2 ** (tries - 1), undefined, { signal }).catch(() => {
      throw interrupted();
    });
  }
}

export const interrupted = (): CommandFailure => new CommandFailure(EXIT.interrupted, 'interrupted', 'interrupted');
const passes = (code: string): boolean =>
  code === LOST || (Object.hasOwn(ERRORS, code) && ERRORS[code as ErrorCode].retry);

/** Whether an error code of the server is a verdict on the file, or something that may be otherwise tomorrow. */
export const verdict = (code: string): 'refused' | 'failed' =>
  passes(code) || code === 'internal' || code === 'damaged' || !Object.hasOwn(ERRORS, code) ? 'failed' : 'refused';

async function once(client: Client, item: Item, post: Post, signal: AbortSignal): Promise<Uploaded> {
  let stream: Readable;
  let head: Buffer;
  let iterator: AsyncIterator<Buffer>;
  try {
    stream = await item.open();
    iterator = (stream.iterator({ destroyOnReturn: true }) as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    head = await headOf(iterator);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    return {
      kind: 'failed',
      code: 'unreadable',
      says: `cannot be read${typeof code === 'string' ? ` (${code})` : ''}`,
    };
  }
  const prefix = prefixOf(head, item.size <= head.length);
  if (prefix === undefined || prefix.meta.mediaStorageSopClassUid === DICOMDIR_CLASS) {
    stream.destroy();
    return { kind: prefix === undefined ? 'no-dicom' : 'dicomdir' };
  }
  const body = () =>
    Readable.from(
      (async function* () {
        try {
          yield head;
          for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
        } finally {
          stream.destroy();
        }
      })(),
      { objectMode: false },
    );
  try {
    // Chunked, without a length: a file that grows or shrinks meanwhile must not upset the connection.
    return await post(client, { type: 'application/dicom', open: body, once: true, fresh: !item.again }, signal);
  } catch (error) {
    // A connection that broke off: the server says more at the next try, or is gone.
    if (error instanceof CommandFailure && error.code === 'unreachable')
      return { kind: 'failed', code: LOST, says: 'the connection to the server, or the file, broke off' };
    throw error;
  } finally {
    stream.destroy();
  }
}

async function headOf(iterator: AsyncIterator<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let length = 0; length < HEAD_BYTES; ) {
    const next = await iterator.next();
    if (next.done === true) break;
    chunks.push(next.value);
    length += next.value.length;
  }
  return Buffer.concat(chunks);
}

interface ImportAnswer {
  status: number;
  error: string;
  errorComment: string;
  sopClassUid: string;
  notDicom: boolean;
}

/** POST /api/v1/instances: a refusal is an ordinary answer there. */
export const postInstance: Post = async (client, body, signal) => {
  const answer = await client.request('POST', '/api/v1/instances', {
    headers: { accept: 'application/json' },
    body,
    signal,
  });
  const said = parseAnswer<Partial<ImportAnswer> & { message?: string }>(await wholeText(answer));
  if (answer.status === 401 || answer.status === 403)
    throw new CommandFailure(
      EXIT.unreachable,
      'unauthenticated',
      `${said.message ?? 'not allowed'} (give a token: --token-file FILE)`,
    );
  if (answer.status >= 400) return failed(said.error ?? 'internal', said.message ?? `HTTP ${answer.status}`);
  if (said.notDicom === true) return { kind: 'no-dicom' };
  if (said.sopClassUid === DICOMDIR_CLASS) return { kind: 'dicomdir' };
  if (said.error !== undefined && said.error !== '') return failed(said.error, said.errorComment || said.error);
  return { kind: 'stored' };
};

export function failed(code: string, says: string): Uploaded {
  if (code === 'no-space') {
    throw new CommandFailure(
      EXIT.failed,
      code,
      'the archive has no space left: make room (`gantry reclaim --now`) and run the same command again',
    );
  }
  return { kind: verdict(code), code, says };
}

export function parseAnswer<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new CommandFailure(EXIT.unreachable, 'no-gantry', 'the server answers, but not as Gantry does', { cause });
  }
}
