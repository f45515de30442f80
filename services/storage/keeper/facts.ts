import { ulid } from 'ulid';
import { GantryError } from '#platform/errors.ts';
import { decodeFact, encodeFact, factPath } from '#platform/fact-file.ts';
import type { Context } from '#platform/module.ts';
import type { StateStore } from '../ports.ts';

const EXPORTS = 'state/kv/';
/** What a keeper notes for itself is no fact: forgetting it only makes it wait again. */
const NOTES = 'keeper/';
/** Says of a KeyValue which export is its own; the same word lies beside the export, in the area that is never copied. */
const OWNER = `${NOTES}export-owner`;
const ownerObject = (tenant: string): string => `derived/state/${tenant}.owner`;
/** Everybody's until there are tenants: its facts may be older than its first instance. */
const FIRST_TENANT = 'main';

export interface FactsDone {
  written: number;
  removed: number;
  filled: number;
}

/**
 * Exports the configured facts of KeyValue to where the archive is, and fills a KeyValue from there that has never seen this export
 * (adr/0050). A run asks for one list of what was exported, one of what there is, and then only for what differs. Runs of two keepers may
 * overlap: what a late one spoils, the next run finds, for the bytes are others than those that it remembers.
 */
export function createFacts({ kv, log }: Pick<Context, 'kv' | 'log'>, state: StateStore) {
  /** By object: which bytes were seen to hold which revision. */
  const same = new Map<string, { tag: string; revision: number }>();

  return async function exportFacts(tenants: readonly string[], signal: AbortSignal): Promise<FactsDone> {
    const done: FactsDone = { written: 0, removed: 0, filled: 0 };
    const exported = new Map<string, string>();
    for await (const { object, tag } of state.list(EXPORTS)) if (object.endsWith('.json')) exported.set(object, tag);
    const known = [...exported.keys()].map((object) => object.slice(EXPORTS.length).split('/')[0]!);
    for (const tenant of new Set([FIRST_TENANT, ...tenants, ...known])) {
      const prefix = `${EXPORTS}${factPath(tenant, '').slice(0, -'.json'.length)}`;
      const own = new Map([...exported].filter(([object]) => object.startsWith(prefix)));
      await exportTenant(tenant, own, signal, done);
    }
    for (const object of same.keys()) if (!exported.has(object)) same.delete(object);
    if (done.filled > 0) log.info({ facts: done.filled }, 'facts that were not configured here came from the export');
    return done;
  };

  async function exportTenant(
    tenant: string,
    exported: ReadonlyMap<string, string>,
    signal: AbortSignal,
    done: FactsDone,
  ): Promise<void> {
    let rows = await kv.list(tenant, '');
    // Asked after the list: a KeyValue that was lost before it, and is empty, does not know the word either.
    if (!(await isOwner(tenant))) {
      done.filled += await fill(tenant, exported, signal);
      rows = await kv.list(tenant, '');
      if (!(await isOwner(tenant))) throw new GantryError('unavailable', 'the facts were lost while they were filled');
    }
    const wanted = new Set<string>();
    for (const { key, revision } of rows) {
      signal.throwIfAborted();
      if (key.startsWith(NOTES)) continue;
      const object = `${EXPORTS}${factPath(tenant, key)}`;
      wanted.add(object);
      const tag = exported.get(object);
      const seen = same.get(object);
      if (tag !== undefined && seen?.tag === tag && seen.revision === revision) continue;
      const fact = await kv.get(tenant, key);
      if (!fact) continue; // deleted meanwhile: the next run removes it
      const present = tag === undefined ? undefined : await state.get(object);
      if (tag !== undefined && present && holds(object, present, fact.value)) {
        same.set(object, { tag, revision: fact.revision });
        continue;
      }
      await state.put(object, Buffer.from(encodeFact(tenant, key, fact)));
      done.written++;
    }
    for (const object of exported.keys()) {
      signal.throwIfAborted();
      if (wanted.has(object)) continue;
      await state.remove(object);
      done.removed++;
    }
  }

  async function isOwner(tenant: string): Promise<boolean> {
    const word = (await kv.get(tenant, OWNER))?.value;
    return word !== undefined && ((await state.get(ownerObject(tenant)))?.equals(word) ?? false);
  }

  /** What the export has and KeyValue has not. What is there is newer: it stays. */
  async function fill(tenant: string, exported: ReadonlyMap<string, string>, signal: AbortSignal): Promise<number> {
    let filled = 0;
    for (const object of exported.keys()) {
      signal.throwIfAborted();
      const bytes = await state.get(object);
      if (!bytes) continue;
      const { key, fact, tenant: named } = decodeFact(object, bytes.toString('utf8'));
      if (named !== tenant) throw new GantryError('damaged', `${object} is of another tenant: it was moved by hand`);
      if (!key.startsWith(NOTES) && (await putAbsent(tenant, key, fact.value))) filled++;
    }
    // Last: whoever is killed before this fills again.
    await putAbsent(tenant, OWNER, Buffer.from(ulid()));
    const word = await kv.get(tenant, OWNER);
    if (word) await state.put(ownerObject(tenant), word.value);
    return filled;
  }

  async function putAbsent(tenant: string, key: string, value: Buffer): Promise<boolean> {
    try {
      await kv.put(tenant, key, value, 0);
      return true;
    } catch (error) {
      if (error instanceof GantryError && error.code === 'conflict') return false;
      throw error;
    }
  }
}

function holds(object: string, bytes: Buffer, value: Buffer): boolean {
  try {
    return decodeFact(object, bytes.toString('utf8')).fact.value.equals(value);
  } catch (error) {
    if (error instanceof GantryError && error.code === 'damaged') return false; // written again, from what is whole
    throw error;
  }
}
