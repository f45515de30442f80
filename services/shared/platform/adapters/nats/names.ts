import { createHash } from 'node:crypto';

// A subject travels on one protocol line, and servers allow 4 KiB for it (max_control_line): what gets too long is named by its digest.
const TOKEN_MAX = 1_500;

/**
 * Any text as one token of a subject: letters, digits, dash and underscore stay, every other byte becomes `=XX`. Dots separate tokens,
 * `*` and `>` are wildcards, and an empty token is none, so none of them may get through.
 */
export function token(text: string): string {
  const escaped = text.replace(/[^A-Za-z0-9_-]/gu, (c) =>
    [...Buffer.from(c)].map((byte) => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
  if (escaped === '') return '=';
  return escaped.length <= TOKEN_MAX ? escaped : `==${createHash('sha256').update(text).digest('hex')}`;
}

/** The steps of a path as tokens, so that a server lists what is below `free/` without looking at the rest. */
export const tokens = (path: string): string => path.split('/').map(token).join('.');

/** What `token` made, read back. A digest cannot be. */
export function textOf(subjectToken: string): string {
  if (subjectToken === '=') return '';
  const bytes: number[] = [];
  for (let at = 0; at < subjectToken.length; at++) {
    if (subjectToken[at] !== '=') {
      bytes.push(subjectToken.charCodeAt(at));
      continue;
    }
    bytes.push(Number.parseInt(subjectToken.slice(at + 1, at + 3), 16));
    at += 2;
  }
  return Buffer.from(bytes).toString('utf8');
}
