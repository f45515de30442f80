import { GantryError } from '#platform/errors.ts';
import type { Settings } from '#platform/module.ts';
import { isLoopback } from '#platform/net.ts';
import type { Peer } from '#platform/peers.ts';
import type { AuthenticateRequest, Principal } from '#proto/auth/v1/auth.ts';
import type { Tokens } from './tokens.ts';

const TENANT = 'main'; // tenants come with policies; until then everybody belongs to this one

/** Who is this? What was presented decides, not where it came from, except that loopback may come with nothing. */
export async function authenticate(
  settings: Settings,
  tokens: Tokens | undefined,
  { evidence, address }: AuthenticateRequest,
): Promise<Principal> {
  switch (evidence?.$case) {
    case 'bearerToken': {
      // A token where none is configured proves nothing, and takes nothing away from an open door.
      if (!tokens) return anonymous(settings, address, false);
      const name = await tokens.find(evidence.value);
      if (name === undefined) throw new GantryError('unauthenticated', 'this bearer token is not known here');
      return { id: name, kind: 'token', roles: ['user'], tenant: TENANT };
    }
    case 'ae': {
      const title = evidence.value.callingAeTitle.trim();
      const known = settings.value<Peer[]>('peers').some((peer) => peer.aeTitle === title);
      if (!known && !settings.boolean('dimse.acceptUnknown') && !isLoopback(address))
        throw new GantryError('unauthenticated', 'this AE title is not among the configured peers');
      return { id: title, kind: 'ae', roles: [known ? 'peer' : 'unknown-peer'], tenant: TENANT };
    }
    case 'anonymous':
      return anonymous(settings, address, tokens !== undefined);
    default:
      throw new GantryError('unauthenticated', 'nothing was presented');
  }
}

function anonymous(settings: Settings, address: string, tokensAreNeeded: boolean): Principal {
  if (tokensAreNeeded) throw new GantryError('unauthenticated', 'a bearer token is needed');
  if (!isLoopback(address) && !settings.boolean('http.allowUnauthenticated'))
    throw new GantryError('unauthenticated', 'without a token only this machine itself is served');
  return { id: 'anonymous', kind: 'anonymous', roles: ['user'], tenant: TENANT };
}
