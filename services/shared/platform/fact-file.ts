import { createHash } from 'node:crypto';
import { GantryError } from './errors.ts';

/**
 * A configured fact as one small JSON file, `<tenant>/<key>.json`: in data/state/kv, where the store is its own export, and under `state/kv/`
 * of a bucket, where the keeper exports what NATS holds. One form, so that a folder copied into a bucket, or back, is the same facts.
 */
export interface Fact {
  readonly value: Buffer;
  readonly revision: number;
}

const FILE_NAME_MAX = 200; // of 255 bytes, with room for the suffix
const FORMAT = 1;

/** Letters, digits, dash, underscore and inner dots stay; the rest is escaped; what gets too long is named by its digest. */
export function factFileName(name: string): string {
  const escaped = name.replace(/[^A-Za-z0-9_-]/gu, (c) =>
    c === '.' ? '.' : [...Buffer.from(c)].map((b) => `%${b.toString(16).padStart(2, '0')}`).join(''),
  );
  const safe = escaped.replace(/^\./, '%2e');
  return safe.length <= FILE_NAME_MAX ? safe : `~${createHash('sha256').update(name).digest('hex')}`;
}

export const factPath = (tenant: string, key: string): string => `${factFileName(tenant)}/${factFileName(key)}.json`;

export function encodeFact(tenant: string, key: string, fact: Fact): string {
  const text = fact.value.toString('utf8');
  const value = Buffer.from(text, 'utf8').equals(fact.value) ? { text } : { base64: fact.value.toString('base64') };
  return `${JSON.stringify({ format: FORMAT, tenant, key, revision: fact.revision, ...value })}\n`;
}

/** `path` is what a person is told to look at. */
export function decodeFact(path: string, content: string): { tenant: string; key: string; fact: Fact } {
  let stored: { format: number; tenant: string; key: string; revision: number; text?: string; base64?: string };
  try {
    stored = JSON.parse(content);
  } catch (cause) {
    throw new GantryError(
      'damaged',
      `${path} is not readable: restore it from a backup, or remove it to do without what it configures`,
      { cause },
    );
  }
  if (stored.format > FORMAT)
    throw new GantryError(
      'failed-precondition',
      `${path} was written by a newer Gantry (format ${stored.format}, this one knows ${FORMAT}): start that release`,
    );
  const value =
    stored.text !== undefined ? Buffer.from(stored.text, 'utf8') : Buffer.from(stored.base64 ?? '', 'base64');
  return { tenant: stored.tenant, key: stored.key, fact: { value, revision: stored.revision } };
}
