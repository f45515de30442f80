import { randomBytes } from 'node:crypto';
import type { OutgoingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { GantryError } from '#platform/errors.ts';
import { pump } from '#platform/pump.ts';

/**
 * A body that goes out as it is read: back-pressure reaches storage, and an error after the headers cuts the connection. One before them
 * is an answer of its own, so they wait for the first byte.
 */
export async function stream(reply: FastifyReply, body: AsyncIterable<Buffer>): Promise<FastifyReply> {
  // Fastify would read the whole body of a HEAD to throw it away, or say that there is none.
  const bytes = reply.request.method === 'HEAD' ? undefined : body[Symbol.asyncIterator]();
  const first = await bytes?.next();
  const { raw } = reply;
  reply.hijack(); // not Fastify's streams: they do not tell when the kernel has a chunk, and its buffer can be used again
  raw.writeHead(reply.statusCode, reply.getHeaders() as OutgoingHttpHeaders);
  if (bytes === undefined || first === undefined) raw.end();
  else void send(reply, begun(first, bytes));
  return reply;
}

/** An iterator whose first result somebody has looked at. */
function begun(first: IteratorResult<Buffer>, rest: AsyncIterator<Buffer>): AsyncIterable<Buffer> {
  let held: IteratorResult<Buffer> | undefined = first;
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const result = held ?? (await rest.next());
        held = undefined;
        return result;
      },
      return: async () => (await rest.return?.()) ?? { done: true, value: undefined },
    }),
  };
}

async function send(reply: FastifyReply, body: AsyncIterable<Buffer>): Promise<void> {
  const { raw } = reply;
  const left = new AbortController();
  raw.once('close', () => left.abort());
  try {
    await pump(body, raw, left.signal);
    raw.end();
  } catch (error) {
    // It can only cut the connection: the request's log line says why, unless it is that the reader has left.
    if (!left.signal.aborted) reply.request.failure = error;
    raw.destroy();
  }
}

export const newBoundary = (): string => `gantry-${randomBytes(16).toString('hex')}`;

/** One part of a multipart/related answer. */
export interface Part {
  headers: Record<string, string>;
  /** Absent: not known before it is read. */
  length?: number;
  body: () => AsyncIterable<Buffer>;
}

export function partHead(boundary: string, headers: Record<string, string>, first: boolean): Buffer {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${first ? '' : '\r\n'}--${boundary}\r\n${lines.join('')}\r\n`, 'latin1');
}

export const partsEnd = (boundary: string): Buffer => Buffer.from(`\r\n--${boundary}--\r\n`, 'latin1');

/** multipart/related (PS3.18 §8.6.1.2.1), with a Content-Length when every part's is known. */
export function sendParts(
  reply: FastifyReply,
  type: string,
  parts: readonly Part[],
  parameters = '',
): Promise<FastifyReply> {
  const boundary = newBoundary();
  reply.header('Content-Type', `multipart/related; type="${type}"${parameters}; boundary=${boundary}`);
  if (parts.every((part) => part.length !== undefined)) {
    let total = partsEnd(boundary).length;
    parts.forEach((part, i) => {
      total += partHead(boundary, part.headers, i === 0).length + part.length!;
    });
    reply.header('Content-Length', total);
  }
  return stream(
    reply,
    (async function* () {
      for (const [i, part] of parts.entries()) {
        yield partHead(boundary, part.headers, i === 0);
        yield* part.body();
      }
      yield partsEnd(boundary);
    })(),
  );
}

/**
 * One single-part resource of known length, with ETag, If-None-Match, Range and If-Range (RFC 9110 §14): a viewer goes on where it
 * stopped, a video player seeks. Several ranges in one request are answered with the whole.
 */
export function sendRanged(
  request: FastifyRequest,
  reply: FastifyReply,
  resource: { type: string; etag: string; length: number; read(start: number, end: number): AsyncIterable<Buffer> },
): FastifyReply | Promise<FastifyReply> {
  reply.header('ETag', resource.etag).header('Accept-Ranges', 'bytes').header('Content-Type', resource.type);
  if (matchesEtag(request.headers['if-none-match'], resource.etag)) return reply.code(304).send();
  const ifRange = request.headers['if-range'];
  const range =
    ifRange === undefined || ifRange === resource.etag ? parseRange(request.headers.range, resource.length) : undefined;
  if (range === 'unsatisfiable') {
    return reply.code(416).header('Content-Range', `bytes */${resource.length}`).send();
  }
  const { start, end } = range ?? { start: 0, end: resource.length };
  if (range !== undefined) reply.code(206).header('Content-Range', `bytes ${start}-${end - 1}/${resource.length}`);
  reply.header('Content-Length', end - start);
  return stream(reply, resource.read(start, end));
}

const withoutWeak = (etag: string): string => etag.trim().replace(/^W\//, '');

/** If-None-Match compares weakly (RFC 9110 §13.1.2). */
export const matchesEtag = (header: string | undefined, etag: string): boolean =>
  header !== undefined &&
  (header.trim() === '*' || header.split(',').some((one) => withoutWeak(one) === withoutWeak(etag)));

/** `bytes=0-99`, `bytes=100-`, `bytes=-100` → half-open; undefined: ignore the header (RFC 9110 §14.2). */
export function parseRange(
  header: string | undefined,
  length: number,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  const match = header === undefined ? null : /^bytes=(\d*)-(\d*)$/.exec(header.trim());
  if (match === null || (match[1] === '' && match[2] === '')) return undefined;
  if (match[1] === '') {
    const suffix = Number(match[2]);
    if (suffix === 0 || length === 0) return 'unsatisfiable';
    return { start: Math.max(0, length - suffix), end: length };
  }
  const start = Number(match[1]);
  const last = match[2] === '' ? Number.POSITIVE_INFINITY : Number(match[2]);
  if (last < start) return undefined;
  if (start >= length) return 'unsatisfiable';
  return { start, end: Math.min(last + 1, length) };
}

/** PS3.18 §8.3.4.4: `299 <service>: "<text>"`; nothing of the request's values in it. */
export function warn(reply: FastifyReply, text: string): void {
  const before = reply.getHeader('Warning');
  const line = `299 gantry "${text.replace(/[^\x20-\x7e]|["\\]/g, '?')}"`;
  reply.header('Warning', before === undefined ? line : `${before}, ${line}`);
}

export function notFound(what: string): GantryError {
  return new GantryError('not-found', `${what} is not in the archive`);
}
