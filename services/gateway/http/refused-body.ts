import type { FastifyReply, FastifyRequest } from 'fastify';

/**
 * The request's body as it comes from the socket. `100 Continue` goes out when somebody takes the first byte, not before: a client that
 * asked (RFC 9110 §10.1.1) does not send what is refused anyway. Who stops early leaves the connection whole, for the answer.
 */
export async function* bodyOf(request: FastifyRequest, reply: FastifyReply): AsyncGenerator<Buffer> {
  goOn(request, reply);
  yield* request.raw.iterator({ destroyOnReturn: false });
}

const asked = (request: FastifyRequest): boolean => /^100-continue$/i.test(request.headers.expect ?? '');
const told = new WeakSet<FastifyRequest>();

export function goOn(request: FastifyRequest, reply: FastifyReply): void {
  if (!asked(request) || told.has(request)) return;
  told.add(request);
  reply.raw.writeContinue();
}

/**
 * The answer is known and the body is not over: closing now would make the kernel reset the connection, and most clients would see that
 * instead of the answer. So the rest is read and thrown away, up to `bytesMax`.
 */
export function discardRest(request: FastifyRequest, reply: FastifyReply, bytesMax: number): void {
  const { raw } = request;
  if (raw.complete || raw.destroyed) return;
  if (asked(request) && !told.has(request)) {
    reply.header('Connection', 'close'); // it may send the body or not: what comes next could be either
    return;
  }
  let bytes = 0;
  raw.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > bytesMax) raw.socket.destroy();
  });
  raw.resume();
}
