import type { FastifyReply } from 'fastify';

/** Adds to Vary (RFC 9110 §12.5.5): the origin, the media type and the coding are each chosen in a place that knows nothing of the others. */
export function vary(reply: FastifyReply, ...names: string[]): void {
  const before = String(reply.getHeader('Vary') ?? '')
    .split(', ')
    .filter((name) => name !== '');
  reply.header('Vary', [...new Set([...before, ...names])].join(', '));
}
