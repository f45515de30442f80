import { GantryError } from '../../errors.ts';
import type { KeyValue } from '../../ports.ts';
import { textOf, token, tokens } from './names.ts';
import type { Records } from './records.ts';

const KEY_MAX = 256;
/** Present in those records whose key is too long to be read back from their subject. */
const KEY = 'Gantry-Key';

/** Configured facts in a key-value bucket: `nats kv ls <bucket>` shows them, keys escaped. A revision is the stream's sequence. */
export function natsKeyValue(records: Records, valueMax: () => number): KeyValue {
  const subjectOf = (tenant: string, key: string) => `${records.options.root}.${token(tenant)}.${tokens(key)}`;
  const check = (key: string) => {
    if (key === '' || key.length > KEY_MAX)
      throw new GantryError('invalid-argument', `a key has 1 to ${KEY_MAX} characters`);
    if (!key.isWellFormed()) throw new GantryError('invalid-argument', 'a key is well-formed Unicode');
  };
  const conflict = () => new GantryError('conflict', 'the value was changed by someone else meanwhile');

  return {
    async get(tenant, key) {
      if (key === '') return undefined;
      const found = await records.read(subjectOf(tenant, key));
      return found === undefined || found.gone ? undefined : { value: found.body, revision: found.sequence };
    },
    async put(tenant, key, value, expected) {
      check(key);
      if (value.length > valueMax())
        throw new GantryError('too-large', `the value has ${value.length} bytes; ${valueMax()} are allowed`);
      const subject = subjectOf(tenant, key);
      const header = { [KEY]: JSON.stringify(key).replace(/[^\x20-\x7e]/g, escaped) };
      const body = Buffer.from(value);
      try {
        return await records.write(subject, { header, body }, { expected });
      } catch (error) {
        if (expected !== 0 || !(error instanceof GantryError) || error.code !== 'conflict') throw error;
      }
      // "Must not exist": one that was deleted a moment ago does not.
      const present = await records.read(subject);
      if (present && !present.gone) throw conflict();
      return records.write(subject, { header, body }, { expected: present?.sequence ?? 0 });
    },
    async delete(tenant, key, expected) {
      check(key);
      const subject = subjectOf(tenant, key);
      for (;;) {
        const present = await records.read(subject);
        const revision = present === undefined || present.gone ? 0 : present.sequence;
        if (expected !== undefined && expected !== revision) throw conflict();
        if (revision === 0) return;
        try {
          await records.remove(subject, revision);
          return;
        } catch (error) {
          // Whoever deletes whatever is there deletes what came in between too.
          if (expected !== undefined || !(error instanceof GantryError) || error.code !== 'conflict') throw error;
        }
      }
    },
    async list(tenant, prefix) {
      const root = `${records.options.root}.${token(tenant)}`;
      const steps = prefix.slice(0, prefix.lastIndexOf('/') + 1);
      const filter = steps === '' ? `${root}.>` : `${root}.${tokens(steps.slice(0, -1))}.>`;
      const found = await records.list(filter, { bodies: false });
      return found
        .map((record) => ({
          key: keyOf(record.header(KEY), record.subject.slice(root.length + 1)),
          revision: record.sequence,
        }))
        .filter(({ key }) => key.startsWith(prefix))
        .sort((a, b) => (a.key < b.key ? -1 : 1));
    },
  };
}

const escaped = (c: string) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Written by us: the header. Written by a person with `nats kv put`: what the subject says. */
function keyOf(header: string, subject: string): string {
  try {
    const key: unknown = JSON.parse(header);
    if (typeof key === 'string') return key;
  } catch {
    // no header of ours
  }
  return subject.split('.').map(textOf).join('/');
}
