import { GantryError } from '#platform/errors.ts';
import { decodeFact, encodeFact, type Fact, factPath } from '#platform/fact-file.ts';
import type { Context } from '#platform/module.ts';
import type { StateStore } from '../ports.ts';
import { createOwner, NOTES, OWNER, type Word } from './facts-owner.ts';

const EXPORTS = 'state/kv/';
/** Everybody's until there are tenants: its facts may be older than its first instance. */
const FIRST_TENANT = 'main';
/** Another keeper that fills a new KeyValue is waited for: what it fills is what our doors will ask for. */
const TURN_MS = 60_000;
/** Names of facts in one log line. */
const TOLD_MAX = 20;

export interface FactsDone {
  written: number;
  removed: number;
  filled: number;
}

/**
 * Exports the configured facts of KeyValue to where the archive is, and fills a KeyValue from there that has never seen this export, or
 * not all of it (adr/0050). A run asks for one list of what was exported, one of what there is, and then only for what differs. Keepers
 * take turns: of two that fill, the slower would bring back what was deleted after the faster had filled.
 */
export function createFacts({ kv, lease, log }: Pick<Context, 'kv' | 'lease' | 'log'>, state: StateStore) {
  const owner = createOwner(kv, state);
  /** By tenant and object: which bytes were seen to hold which revision, of which KeyValue. Another one counts from the start again. */
  const seen = new Map<string, { id: string; same: Map<string, { tag: string; revision: number }> }>();

  return async function exportFacts(tenants: readonly string[], signal: AbortSignal): Promise<FactsDone> {
    await kv.get(FIRST_TENANT, OWNER); // without KeyValue this fails now, where a turn would be waited for
    const done: FactsDone = { written: 0, removed: 0, filled: 0 };
    const patience = new AbortController();
    const late = setTimeout(
      () => patience.abort(new GantryError('unavailable', 'another keeper is exporting the facts')),
      TURN_MS,
    );
    try {
      await lease.hold('keeper/facts', AbortSignal.any([signal, patience.signal]), async (held) => {
        clearTimeout(late);
        await exportAll(tenants, held, done);
      });
    } finally {
      clearTimeout(late);
    }
    if (done.filled > 0) log.info({ facts: done.filled }, 'facts that were not configured here came from the export');
    return done;
  };

  async function exportAll(tenants: readonly string[], signal: AbortSignal, done: FactsDone): Promise<void> {
    const exported = new Map<string, string>();
    for await (const { object, tag } of state.list(EXPORTS)) if (object.endsWith('.json')) exported.set(object, tag);
    const known = [...exported.keys()].map((object) => object.slice(EXPORTS.length).split('/')[0]!);
    for (const tenant of new Set([FIRST_TENANT, ...tenants, ...known])) {
      const prefix = `${EXPORTS}${factPath(tenant, '').slice(0, -'.json'.length)}`;
      const own = new Map([...exported].filter(([object]) => object.startsWith(prefix)));
      await exportTenant(tenant, own, signal, done);
    }
  }

  async function exportTenant(
    tenant: string,
    exported: ReadonlyMap<string, string>,
    signal: AbortSignal,
    done: FactsDone,
  ): Promise<void> {
    let rows = await kv.list(tenant, '');
    // Asked after the list: a KeyValue that was lost before it, and is empty, does not know the word either.
    let { standing, word } = await owner.read(tenant);
    if (standing !== 'own') {
      done.filled += await fill(tenant, exported, rows, standing === 'set-back' ? word?.revision : undefined, signal);
      await owner.adopt(tenant, standing, word); // last: whoever is killed before this fills again
      rows = await kv.list(tenant, '');
      ({ standing, word } = await owner.read(tenant));
    }
    if (standing !== 'own' || !word) throw new GantryError('unavailable', 'the facts were lost while they were filled');
    const same = sameOf(tenant, word, exported);
    const wanted = new Set<string>();
    // Before anything of the export changes: a KeyValue that does not know this word has not all that follows.
    let said = false;
    const say = async (): Promise<void> => {
      if (!said) await owner.advance(tenant, word);
      said = true;
    };
    for (const { key, revision } of rows) {
      signal.throwIfAborted();
      if (key.startsWith(NOTES)) continue;
      const object = `${EXPORTS}${factPath(tenant, key)}`;
      wanted.add(object);
      const tag = exported.get(object);
      const last = same.get(object);
      if (tag !== undefined && last?.tag === tag && last.revision === revision) continue;
      const fact = await kv.get(tenant, key);
      if (fact?.revision !== revision) continue; // deleted or changed meanwhile, and maybe after our word: the next run's
      const present = tag === undefined ? undefined : await state.get(object);
      if (tag !== undefined && present && holds(object, present, fact.value)) {
        same.set(object, { tag, revision });
        continue;
      }
      await say();
      await state.put(object, Buffer.from(encodeFact(tenant, key, fact)));
      done.written++;
    }
    for (const object of exported.keys()) {
      signal.throwIfAborted();
      if (wanted.has(object)) continue;
      await say();
      await state.remove(object);
      done.removed++;
    }
  }

  function sameOf(tenant: string, { id }: Word, exported: ReadonlyMap<string, string>) {
    let row = seen.get(tenant);
    if (row?.id !== id) seen.set(tenant, (row = { id, same: new Map() }));
    for (const object of row.same.keys()) if (!exported.has(object)) row.same.delete(object);
    return row.same;
  }

  /**
   * What the export has and KeyValue has not. What is there is newer: it stays. Not so in a KeyValue that was set back: what it knew when
   * it said its last word (`setBackTo`, a revision) may be older than what was exported since. How many were taken.
   */
  async function fill(
    tenant: string,
    exported: ReadonlyMap<string, string>,
    rows: readonly { key: string; revision: number }[],
    setBackTo: number | undefined,
    signal: AbortSignal,
  ): Promise<number> {
    let filled = 0;
    const kept: string[] = [];
    for (const object of exported.keys()) {
      const bytes = await state.get(object);
      signal.throwIfAborted(); // the turn may be another's by now
      if (!bytes) continue;
      const { key, fact, tenant: named } = decodeFact(object, bytes.toString('utf8'));
      if (named !== tenant) throw new GantryError('damaged', `${object} is of another tenant: it was moved by hand`);
      if (key.startsWith(NOTES)) continue;
      let taken = await put(tenant, key, fact.value, 0);
      if (!taken && setBackTo !== undefined) {
        const present = await kv.get(tenant, key);
        if (!present || present.value.equals(fact.value)) continue;
        if (present.revision > setBackTo) kept.push(object);
        else if (isNewer(fact, present)) taken = await put(tenant, key, fact.value, present.revision);
      }
      if (taken) filled++;
    }
    if (setBackTo !== undefined) {
      const back = rows
        .filter(({ key, revision }) => !key.startsWith(NOTES) && revision <= setBackTo)
        .map(({ key }) => `${EXPORTS}${factPath(tenant, key)}`)
        .filter((object) => !exported.has(object));
      log.warn(
        { newer: filled, kept: kept.slice(0, TOLD_MAX), back: back.slice(0, TOLD_MAX), more: more(kept) + more(back) },
        'KeyValue was set back to an older state: what was exported since was taken again; look at what was kept as it is now (it was changed about then, or since), and at what is back (it was deleted)',
      );
    }
    return filled;
  }

  /** False: somebody was faster, or it was there. */
  async function put(tenant: string, key: string, value: Buffer, expected: number): Promise<boolean> {
    try {
      await kv.put(tenant, key, value, expected);
      return true;
    } catch (error) {
      if (error instanceof GantryError && error.code === 'conflict') return false;
      throw error;
    }
  }
}

/** Revisions of the same KeyValue, before it was set back. */
const isNewer = (exported: Fact, present: Fact): boolean => exported.revision > present.revision;
const more = (told: readonly string[]): number => Math.max(0, told.length - TOLD_MAX);

function holds(object: string, bytes: Buffer, value: Buffer): boolean {
  try {
    return decodeFact(object, bytes.toString('utf8')).fact.value.equals(value);
  } catch (error) {
    if (error instanceof GantryError && error.code === 'damaged') return false; // written again, from what is whole
    throw error;
  }
}
