import { readFileSync } from 'node:fs';
import { Client, errors } from '@elastic/elasticsearch';
import { GantryError } from '#platform/errors.ts';

export interface ElasticOptions {
  nodes: readonly string[];
  apiKeyFile?: string;
  userFile?: string;
  passwordFile?: string;
  caFile?: string;
  requestTimeoutMs: number;
}

const secret = (path: string | undefined): string | undefined => (path ? readFileSync(path, 'utf8').trim() : undefined);

/** Nothing waits longer than its deadline, and nothing is tried again here: whoever asks knows whether to. */
export function connect(options: ElasticOptions): Client {
  const apiKey = secret(options.apiKeyFile);
  const username = secret(options.userFile);
  const password = secret(options.passwordFile);
  return new Client({
    nodes: [...options.nodes],
    requestTimeout: options.requestTimeoutMs,
    maxRetries: 0,
    compression: false,
    ...(apiKey !== undefined
      ? { auth: { apiKey } }
      : username !== undefined
        ? { auth: { username, password: password ?? '' } }
        : {}),
    ...(options.caFile ? { tls: { ca: readFileSync(options.caFile) } } : {}),
  });
}

/** Elasticsearch's errors may quote documents, so only their kinds go on. */
export function translate(error: unknown, doing: string): unknown {
  if (error instanceof errors.ResponseError) {
    const { statusCode = 500 } = error;
    const type = (error.meta.body as { error?: { type?: string } } | undefined)?.error?.type ?? 'no type';
    const why = `Elasticsearch answered ${statusCode} (${type}) while ${doing}`;
    // 404: an index that another has taken the place of, and that went meanwhile.
    if (statusCode === 404 || statusCode === 429 || statusCode >= 500) return new GantryError('unavailable', why);
    return new GantryError('internal', why);
  }
  if (error instanceof errors.RequestAbortedError) return new GantryError('cancelled', `${doing} was given up`);
  if (error instanceof errors.TimeoutError)
    return new GantryError('unavailable', `Elasticsearch did not answer in time while ${doing}`);
  if (error instanceof errors.ConnectionError || error instanceof errors.NoLivingConnectionsError)
    return new GantryError('unavailable', `Elasticsearch cannot be reached: ${doing} waits until it is back`);
  return error;
}

export async function asked<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(error, doing);
  }
}

export const isStatus = (error: unknown, status: number, type?: string): boolean =>
  error instanceof errors.ResponseError &&
  error.statusCode === status &&
  (type === undefined || (error.meta.body as { error?: { type?: string } } | undefined)?.error?.type === type);
