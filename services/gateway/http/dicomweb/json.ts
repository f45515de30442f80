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
  const source = Readable.from(body, { objectMode: false });
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  source.on('error', (error) => gzip.destroy(error));
  gzip.on('close', () => source.destroy());
  return source.pipe(gzip);
}
