import { ulid } from 'ulid';
import type { KeyValue } from '#platform/ports.ts';
import type { StateStore } from '../ports.ts';

/** What a keeper notes for itself is no fact: forgetting it only makes it wait again. */
export const NOTES = 'keeper/';
export const OWNER = `${NOTES}export-owner`;
export const ownerObject = (tenant: string): string => `derived/state/${tenant}.owner`;

/**
 * Says of a KeyValue which export is its own, and how much of it it has seen: `<ULID> <runs that changed the export>`. The same word lies
 * beside the export, in the area that is never copied.
 */
export interface Word {
  readonly id: string;
  readonly exports: number;
  /** Of the word in KeyValue: what is older was there when it was said. */
  readonly revision: number;
}

/**
 * `own`: what KeyValue does not have was deleted. `other`: a new KeyValue, another bucket or a copied one. `set-back`: the export has gone
 * on since: this KeyValue was restored from an older state.
 */
export type Standing = 'own' | 'other' | 'set-back';

export function createOwner(kv: KeyValue, state: StateStore) {
  const say = async (tenant: string, { id, exports }: Omit<Word, 'revision'>, expected: number): Promise<void> => {
    const bytes = Buffer.from(`${id} ${exports}`);
    // KeyValue first: killed between the two, it is ahead, which is no doubt.
    await kv.put(tenant, OWNER, bytes, expected);
    await state.put(ownerObject(tenant), bytes);
  };
  return {
    async read(tenant: string): Promise<{ standing: Standing; word: Word | undefined }> {
      const fact = await kv.get(tenant, OWNER);
      const word = fact && { ...parse(fact.value), revision: fact.revision };
      const beside = await state.get(ownerObject(tenant));
      if (!word || !beside) return { standing: 'other', word };
      const { id, exports } = parse(beside);
      if (id !== word.id) return { standing: 'other', word };
      return { standing: word.exports >= exports ? 'own' : 'set-back', word };
    },
    /** After KeyValue was filled. One that was set back gets a new name: it counts revisions anew that others have seen. */
    adopt: (tenant: string, standing: Standing, word: Word | undefined): Promise<void> =>
      say(tenant, standing === 'other' && word ? word : { id: ulid(), exports: 0 }, word?.revision ?? 0),
    /** Before the export is changed. Fails with `conflict` when another keeper does. */
    advance: (tenant: string, { id, exports, revision }: Word): Promise<void> =>
      say(tenant, { id, exports: exports + 1 }, revision),
  };
}

/** Releases before this counted nothing. */
function parse(bytes: Buffer): { id: string; exports: number } {
  const [id = '', exports = '0'] = bytes.toString('utf8').split(' ');
  return { id, exports: Number(exports) };
}
