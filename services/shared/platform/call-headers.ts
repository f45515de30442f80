import { createHash, timingSafeEqual } from 'node:crypto';
import { Principal } from '#proto/auth/v1/auth.ts';
import type { Call } from './call.ts';
import { ERRORS, type ErrorCode, GantryError } from './errors.ts';
import { parseTraceparent, traceparentOf } from './trace.ts';

/** How a Call and an error travel as headers, the same in gRPC metadata and in HTTP. */
const TENANT = 'gantry-tenant';
const PRINCIPAL = 'gantry-principal';
const REQUEST_ID = 'gantry-request-id';
const TIMEOUT_MS = 'gantry-timeout-ms'; // relative: two machines' clocks differ
const TOKEN = 'authorization';
const TRACEPARENT = 'traceparent'; // W3C's own name, so that proxies and tools see it too
const CODE = 'gantry-code';
const MESSAGE = 'gantry-message';
const OFFENDING = 'gantry-offending-elements';

export type Headers = Record<string, string>;
export type ReadHeader = (name: string) => string | undefined;

export function callHeaders(call: Call, token: string): Headers {
  const headers: Headers = {
    [TENANT]: encodeURIComponent(call.tenant),
    [PRINCIPAL]: Buffer.from(Principal.encode(call.principal).finish()).toString('base64'),
    [REQUEST_ID]: encodeURIComponent(call.requestId),
  };
  if (call.deadline !== undefined && call.deadline !== Infinity)
    headers[TIMEOUT_MS] = String(Math.max(0, call.deadline - Date.now()));
  if (call.trace !== undefined) headers[TRACEPARENT] = traceparentOf(call.trace);
  if (token !== '') headers[TOKEN] = `Bearer ${token}`;
  return headers;
}

/** Only another Gantry process may say who the principal is: where a token is set, it must be shown. */
export function readCall(read: ReadHeader, token: string, signal: AbortSignal): Call {
  if (token !== '' && !sameSecret(read(TOKEN) ?? '', `Bearer ${token}`))
    throw new GantryError('unauthenticated', 'this is a door between Gantry processes only');
  const tenant = read(TENANT);
  const principal = read(PRINCIPAL);
  if (!tenant || !principal)
    throw new GantryError('invalid-argument', 'a call between Gantry processes names its tenant and principal');
  const timeout = Number(read(TIMEOUT_MS));
  const trace = parseTraceparent(read(TRACEPARENT));
  try {
    return {
      tenant: decodeURIComponent(tenant),
      principal: Principal.decode(Buffer.from(principal, 'base64')),
      requestId: decodeURIComponent(read(REQUEST_ID) ?? ''),
      signal,
      ...(trace === undefined ? {} : { trace }),
      ...(read(TIMEOUT_MS) !== undefined && Number.isFinite(timeout) ? { deadline: Date.now() + timeout } : {}),
    };
  } catch (cause) {
    throw new GantryError('invalid-argument', 'the headers of a call are malformed', { cause });
  }
}

export function errorHeaders(error: GantryError): Headers {
  return {
    [CODE]: error.code,
    [MESSAGE]: encodeURIComponent(error.message.slice(0, 1_000).toWellFormed()),
    ...(error.offendingElements.length > 0
      ? { [OFFENDING]: error.offendingElements.map((tag) => tag.toString(16)).join(',') }
      : {}),
  };
}

export function readError(read: ReadHeader, cause?: unknown): GantryError | undefined {
  const code = read(CODE);
  if (code === undefined || !Object.hasOwn(ERRORS, code)) return undefined;
  const offendingElements = (read(OFFENDING) ?? '')
    .split(',')
    .filter((tag) => tag !== '')
    .map((tag) => Number.parseInt(tag, 16));
  let message = 'failed elsewhere';
  try {
    message = decodeURIComponent(read(MESSAGE) ?? message);
  } catch {
    // A broken message must not hide the code.
  }
  return new GantryError(code as ErrorCode, message, { cause, offendingElements });
}

/** In constant time, whatever the lengths. */
export function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
