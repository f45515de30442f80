import type { FastifyInstance } from 'fastify';

/**
 * Which methods an address takes: a known one with a wrong method is 405 with `Allow`, not 404 (RFC 9110 §15.5.6). Only looked at when no
 * route was found. An address that takes nothing but OPTIONS (`/dicom-web/*` says what is served) counts as unknown.
 */
export function methodsTaken(app: FastifyInstance): (url: string) => string[] {
  const routes = new Map<string, { pattern: RegExp; methods: string[] }>();
  app.addHook('onRoute', ({ url, method }) => {
    const route = routes.get(url) ?? { pattern: patternOf(url), methods: [] };
    route.methods.push(...[method].flat());
    routes.set(url, route);
  });
  return (url) => {
    const path = url.split('?')[0]!;
    const taken = new Set([...routes.values()].flatMap(({ pattern, methods }) => (pattern.test(path) ? methods : [])));
    return [...taken].some((method) => method !== 'OPTIONS') ? [...taken].sort() : [];
  };
}

/** `/studies/:study/*`, with or without a slash at its end, as Fastify is told to take it. */
function patternOf(url: string): RegExp {
  const escaped = url.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replace(/:\w+/g, '[^/]+').replace(/\*$/, '.*').replace(/\/$/, '')}/?$`);
}
