import type { FastifyRequest } from 'fastify';

export const DICOMWEB = '/dicom-web';

/** The origin as this client sees it, so that every URL in an answer resolves for it: `peerOf` made it when the request came. */
export const originOf = (request: FastifyRequest): string => request.peer.origin;

export const dicomwebRoot = (request: FastifyRequest): string => `${originOf(request)}${DICOMWEB}`;
