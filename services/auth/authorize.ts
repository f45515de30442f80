import type { AuthorizeRequest, AuthorizeResponse } from '#proto/auth/v1/auth.ts';

/** Role → the actions it may take, by their first segment (`dimse.c-store`, `http.qido.studies`). Policies come with a later issue. */
const ALLOWED: Record<string, readonly string[]> = {
  system: ['*'],
  user: ['http', 'api', 'web', 'wado'],
  peer: ['dimse'],
  'unknown-peer': ['dimse'],
};

export function authorize({ principal, action }: AuthorizeRequest): AuthorizeResponse {
  if (!principal) return { allowed: false, reason: 'nobody asked' };
  if (action === '') return { allowed: false, reason: 'no action was named' };
  const door = action.split('.')[0];
  const allowed = principal.roles.some(
    (role) => Object.hasOwn(ALLOWED, role) && (ALLOWED[role].includes('*') || ALLOWED[role].includes(door)),
  );
  return { allowed, reason: allowed ? '' : `no role of this principal allows ${door}` };
}
