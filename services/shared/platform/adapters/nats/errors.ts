import { JetStreamApiError, JetStreamError } from '@nats-io/jetstream';
import { errors } from '@nats-io/transport-node';
import { GantryError } from '../../errors.ts';

/** JetStream's error codes (nats-server server/errors.json), as far as they mean something to us. */
const WRONG_LAST_SEQUENCE = new Set([10071, 10164]);
const NO_SPACE = new Set([10023, 10047, 10028, 10077, 10122]);
const TOO_LARGE = new Set([10054]);
export const STREAM_NOT_FOUND = 10059;
export const CONFIGURED_OTHERWISE = 10058;
/** A message of the same id is on its way through a leader: its outcome is known a moment later. */
const IN_PROGRESS = new Set([10158, 10201]);
/** A stream cannot be made with all its replicas while one of their servers is away. */
const NO_PEERS = 10005;

export const isWrongSequence = (error: unknown): boolean =>
  error instanceof JetStreamApiError && WRONG_LAST_SEQUENCE.has(error.code);
export const isApiError = (error: unknown, code: number): boolean =>
  error instanceof JetStreamApiError && error.code === code;

/** No stream takes this subject now: it is gone, or has no leader. The class is not exported. */
export const isNobodyThere = (error: unknown): boolean =>
  error instanceof errors.NoRespondersError || (error instanceof Error && error.name === 'JetStreamNotEnabled');

/** Through a change of leaders (5–7 s measured) and a lost connection: the same again may succeed. */
export function isPassing(error: unknown): boolean {
  if (error instanceof JetStreamApiError) {
    if (IN_PROGRESS.has(error.code) || [STREAM_NOT_FOUND, NO_PEERS].includes(error.code)) return true;
    if (NO_SPACE.has(error.code)) return false;
    return error.status === 503 || error.status === 500 || error.status === 408;
  }
  return (
    isNobodyThere(error) ||
    error instanceof errors.TimeoutError ||
    error instanceof errors.RequestError ||
    error instanceof errors.ClosedConnectionError ||
    error instanceof errors.DrainingConnectionError ||
    error instanceof errors.ConnectionError ||
    error instanceof JetStreamError
  );
}

/** Why there is no connection, as a sentence with the settings to look at; what the network says (ECONNREFUSED …) says enough. */
export function whyNotConnected(error: unknown): string {
  const { message, code } = error instanceof Error ? (error as Error & { code?: string }) : { message: '' };
  if (/CERT|SIGNATURE|ISSUER|ERR_TLS/.test(code ?? ''))
    return `its certificate is of no authority that we know, or not of that host (${code}): look at platform.natsTlsCaFile`;
  if (/does not support 'tls'/.test(message))
    return 'it offers no TLS, and platform.natsTlsCaFile or platform.natsTlsCertFile asks for it';
  if (error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError)
    return `it does not take our credentials (${message}): look at platform.natsCredsFile, platform.natsTokenFile, or platform.natsUser and platform.natsPasswordFile`;
  if (/parse credentials/.test(message)) return 'platform.natsCredsFile holds no credentials';
  // The library has no more to say of a server that hangs up, or is silent, while TLS begins.
  if (error instanceof errors.TimeoutError || /undefined error/.test(message))
    return 'it does not answer; one that wants TLS first (platform.natsTlsFirst) or a certificate of ours (platform.natsTlsCertFile) looks the same';
  return message || 'unknown';
}

export function toError(error: unknown, what: string): GantryError {
  if (error instanceof GantryError) return error;
  if (isWrongSequence(error)) return new GantryError('conflict', `${what}: it was changed by someone else meanwhile`);
  if (error instanceof JetStreamApiError && NO_SPACE.has(error.code))
    return new GantryError('no-space', `${what}: NATS has no room left (${error.code})`, { cause: error });
  if (error instanceof JetStreamApiError && TOO_LARGE.has(error.code))
    return new GantryError('too-large', `${what}: it is longer than this NATS allows`, { cause: error });
  if (
    isPassing(error) ||
    error instanceof errors.PermissionViolationError ||
    error instanceof errors.AuthorizationError
  )
    return new GantryError('unavailable', `${what}: NATS does not answer`, { cause: error });
  return new GantryError('internal', `${what}: NATS answered something unexpected`, { cause: error });
}
