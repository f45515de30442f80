import { Readable } from 'node:stream';
import { constants, createGzip } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Whether this client takes gzip (RFC 9110 §12.5.3). */
export function takesGzip(request: FastifyRequest): boolean {
  return (request.headers['accept-encoding'] ?? '')
    .split(',')
    .some((one) => /^\s*(gzip|\*)\s*(;\s*q=(1|0\.0*[1-9]|0\.[1-9])\d*)?\s*$/i.test(one));
}

/** JSON compresses about 15-fold, and level 1 costs a third of the CPU of the default for nearly all of it. */
export function gzipped(
  request: FastifyRequest,
  reply: FastifyReply,
  body: AsyncIterable<Buffer>,
): AsyncIterable<Buffer> {
  if (!takesGzip(request)) return body;
  reply.header('Content-Encoding', 'gzip');
  if (request.method === 'HEAD') return body;
  const source = Readable.from(body, { objectMode: false });
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  source.on('error', (error) => gzip.destroy(error));
  gzip.on('close', () => source.destroy());
  return source.pipe(gzip);
}

const [OPENING, CLOSING, QUOTE, BACKSLASH] = [...Buffer.from('{}"\\')] as [number, number, number, number];

/** The objects of a JSON array, one after the other as they arrive: never more than one of them is held. */
export async function* arrayElements(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = [];
  let depth = 0;
  let quoted = false;
  let escaped = false;
  for await (const chunk of body) {
    let start = depth > 0 ? 0 : -1;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (escaped) escaped = false;
      else if (quoted) {
        if (byte === BACKSLASH) escaped = true;
        else if (byte === QUOTE) quoted = false;
      } else if (byte === QUOTE) quoted = true;
      else if (byte === OPENING) {
        if (depth++ === 0) start = i;
      } else if (byte === CLOSING && --depth === 0) {
        pieces.push(chunk.subarray(start, i + 1));
        yield Buffer.concat(pieces);
        pieces = [];
        start = -1;
      }
    }
    if (start >= 0) pieces.push(Buffer.from(chunk.subarray(start)));
  }
}
