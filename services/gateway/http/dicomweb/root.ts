import type { FastifyRequest } from 'fastify';

export const DICOMWEB = '/dicom-web';

/** The origin as this client sees it, so that every URL in an answer resolves for it. The Host was checked before. */
export function originOf(request: FastifyRequest): string {
  const proto = request.headers['x-forwarded-proto'] === 'https' ? 'https' : 'http';
  return `${proto}://${request.headers.host ?? `localhost:${request.socket.localPort}`}`;
}

export const dicomwebRoot = (request: FastifyRequest): string => `${originOf(request)}${DICOMWEB}`;
