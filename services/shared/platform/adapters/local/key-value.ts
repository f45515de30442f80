import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GantryError } from '../../errors.ts';
import { decodeFact, encodeFact, type Fact, factPath } from '../../fact-file.ts';
import type { KeyValue } from '../../ports.ts';

const KEY_MAX = 256;

/**
 * Configured facts as one small JSON file each, under data/state/kv/<tenant>/: the export and the store are one, so a file-level
 * copy of data/state taken at any moment holds every fact whole (services/adr/0011). All of them are also held in memory.
 */
export async function fileKeyValue(directory: string, valueMax: () => number): Promise<KeyValue> {
  const tenants = await load(directory);
  let last = 0;
  for (const facts of tenants.values()) for (const fact of facts.values()) last = Math.max(last, fact.revision);
  // Microseconds: a revision is not given twice even when the newest fact was deleted before a restart.
  const nextRevision = () => (last = Math.max(last + 1, Date.now() * 1000));

  // One change at a time: compare, write, set is one step.
  let tail: Promise<unknown> = Promise.resolve();
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = tail.then(work);
    tail = result.catch(() => undefined); // the caller of `result` is told; the next change goes on
    return result;
  };
  const expect = (tenant: string, key: string, expected: number | undefined) => {
    const revision = tenants.get(tenant)?.get(key)?.revision ?? 0;
    if (expected !== undefined && expected !== revision)
      throw new GantryError('conflict', 'the value was changed by someone else meanwhile');
  };

  return {
    async get(tenant, key) {
      const fact = tenants.get(tenant)?.get(key);
      return fact && { value: Buffer.from(fact.value), revision: fact.revision };
    },
    put: (tenant, key, value, expected) =>
      exclusive(async () => {
        if (key === '' || key.length > KEY_MAX)
          throw new GantryError('invalid-argument', `a key has 1 to ${KEY_MAX} characters`);
        if (value.length > valueMax())
          throw new GantryError('too-large', `the value has ${value.length} bytes; ${valueMax()} are allowed`);
        expect(tenant, key, expected);
        const fact = { value: Buffer.from(value), revision: nextRevision() };
        await writeDurably(join(directory, factPath(tenant, key)), encodeFact(tenant, key, fact)).catch(
          (cause: NodeJS.ErrnoException) => {
            const full = cause.code === 'ENOSPC' || cause.code === 'EDQUOT';
            throw new GantryError(full ? 'no-space' : 'internal', 'the value could not be written', { cause });
          },
        );
        let facts = tenants.get(tenant);
        if (!facts) tenants.set(tenant, (facts = new Map()));
        facts.set(key, fact);
        return fact.revision;
      }),
    delete: (tenant, key, expected) =>
      exclusive(async () => {
        expect(tenant, key, expected);
        if (!tenants.get(tenant)?.has(key)) return;
        const path = join(directory, factPath(tenant, key));
        await rm(path, { force: true });
        await syncDirectory(dirname(path));
        tenants.get(tenant)?.delete(key);
      }),
    async list(tenant, prefix) {
      const rows = [...(tenants.get(tenant) ?? [])]
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, fact]) => ({ key, revision: fact.revision }));
      return rows.sort((a, b) => (a.key < b.key ? -1 : 1));
    },
  };
}

async function load(directory: string): Promise<Map<string, Map<string, Fact>>> {
  const tenants = new Map<string, Map<string, Fact>>();
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await syncDirectory(dirname(directory));
  for (const tenantDirectory of await readdir(directory, { withFileTypes: true })) {
    if (!tenantDirectory.isDirectory()) continue;
    for (const name of await readdir(join(directory, tenantDirectory.name))) {
      const path = join(directory, tenantDirectory.name, name);
      if (name.endsWith('.tmp')) await rm(path, { force: true }); // a write that was cut short, never acknowledged
      if (!name.endsWith('.json')) continue;
      const { tenant, key, fact } = decodeFact(path, await readFile(path, 'utf8'));
      let facts = tenants.get(tenant);
      if (!facts) tenants.set(tenant, (facts = new Map()));
      facts.set(key, fact);
    }
  }
  return tenants;
}

async function writeDurably(path: string, content: string): Promise<void> {
  const created = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  if (created) await syncDirectory(dirname(created));
  const temporary = `${path}.tmp`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
