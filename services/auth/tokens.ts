import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';

/** One bearer token a line, with an optional name after it (`3f9c…  viewer`); `#` begins a comment. Only digests are held. */
interface Token {
  digest: Buffer;
  name: string;
}

const TOKEN_MIN = 16; // characters: shorter ones can be guessed
const LOOK_EVERY_MS = 1_000;

const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest();

export function parseTokens(content: string, file: string, tokensMax: number): Token[] {
  const tokens: Token[] = [];
  const fail = (message: string): never => {
    throw new GantryError('failed-precondition', `http.tokenFile ${file}${message}`);
  };
  for (const [at, line] of content.split(/\r?\n/).entries()) {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) continue;
    const [token, ...name] = text.split(/\s+/);
    // RFC 6750 §2.1: what a bearer token is made of.
    if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token)) fail(`, line ${at + 1}: a token is made of letters, digits and -._~+/`);
    if (token.length < TOKEN_MIN)
      fail(`, line ${at + 1}: a token has at least ${TOKEN_MIN} characters; "openssl rand -hex 32" makes a good one`);
    const digest = digestOf(token);
    tokens.push({ digest, name: name.join(' ') || `token-${digest.toString('hex').slice(0, 8)}` });
  }
  if (tokens.length === 0) fail(' holds no token: write one a line; "openssl rand -hex 32" makes a good one');
  if (tokens.length > tokensMax) fail(` holds ${tokens.length} tokens; auth.tokensMax allows ${tokensMax}`);
  return tokens;
}

export interface Tokens {
  /** The name of this token, undefined when it is none of ours. */
  find(token: string): Promise<string | undefined>;
}

export async function openTokens(
  file: string,
  tokensMax: () => number,
  log: Context['log'],
  now: () => number = Date.now,
): Promise<Tokens> {
  const version = async () => {
    const { ino, size, mtimeMs } = await stat(file);
    return `${ino} ${size} ${mtimeMs}`;
  };
  const read = async () => parseTokens(await readFile(file, 'utf8'), file, tokensMax());
  let seen: string;
  let tokens: Token[];
  try {
    seen = await version();
    tokens = await read();
  } catch (cause) {
    if (cause instanceof GantryError) throw cause;
    throw new GantryError(
      'failed-precondition',
      `http.tokenFile ${file} cannot be read (${(cause as NodeJS.ErrnoException).code})`,
      { cause },
    );
  }
  let lookAt = now() + LOOK_EVERY_MS;

  const refresh = async () => {
    lookAt = now() + LOOK_EVERY_MS;
    const current = await version().catch((error) => `unreadable ${(error as NodeJS.ErrnoException).code}`);
    if (current === seen) return;
    seen = current;
    try {
      tokens = await read();
      log.info('http.tokenFile was read again');
    } catch (error) {
      log.error({ err: error, file }, 'http.tokenFile changed and cannot be used: the old tokens stay in force');
    }
  };

  return {
    async find(token) {
      if (now() >= lookAt) await refresh();
      const digest = digestOf(token);
      let found: string | undefined;
      // All of them, always: neither how much of a token was right nor which one it was can be told from the time.
      for (const one of tokens) if (timingSafeEqual(one.digest, digest)) found = one.name;
      return found;
    },
  };
}
