import type { Archive } from '../ports.ts';

interface Shared {
  readonly archive: Promise<Archive>;
  users: number;
}
const open = new Map<string, Shared>();

/**
 * One archive a place and process, however many modules use it: storage/data and storage/keeper share it, and its lanes. It closes with
 * its last user. `key` names the place: a directory, or a store and its buckets.
 */
export async function shareArchive(key: string, openIt: () => Promise<Archive>): Promise<Archive> {
  let shared = open.get(key);
  if (!shared) {
    shared = { archive: openIt(), users: 0 };
    open.set(key, shared);
    shared.archive.catch(() => open.delete(key)); // told to whoever asked; the next one tries again
  }
  shared.users++;
  const archive = await shared.archive;
  let closed = false;
  return {
    ...archive,
    async close() {
      if (closed) return;
      closed = true;
      if (--shared.users > 0) return;
      open.delete(key);
      await archive.close();
    },
  };
}
