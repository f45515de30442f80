import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { GantryError } from '#platform/errors.ts';

/**
 * One process owns a data directory. The lock is SQLite's own exclusive lock on an empty database: the kernel drops it with its owner,
 * however that dies, so kill -9 leaves nothing to clean up.
 */
export function lockDirectory(directory: string): { release(): void } {
  const path = join(directory, 'owner.lock');
  const database = new DatabaseSync(path);
  try {
    database.exec(
      'PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE',
    );
  } catch (error) {
    database.close();
    throw new GantryError(
      'failed-precondition',
      `another process is using the data directory ${directory}: stop it first, or set GANTRY_DATA_DIR to another directory (held through ${path})`,
      { cause: error },
    );
  }
  return { release: () => database.close() };
}
