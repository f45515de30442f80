import type { GantryError } from '#platform/errors.ts';
import { backoffMs, type Clockwork, isFault } from './bucket.ts';

/**
 * Opens as soon as the store answers (adr/0075). Only silence is waited for: keys that do not fit, a bucket that is not there, or a store
 * that ignores conditions will be the same in an hour, and fail at once. `away` is told each time, with how often it was tried.
 */
export async function awaitStore<T>(
  open: () => Promise<T>,
  { pause, random }: Pick<Clockwork, 'pause' | 'random'>,
  away: (error: GantryError, tries: number) => void,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await open();
    } catch (error) {
      if (!isFault(error, 'unclear')) throw error;
      away(error as GantryError, tries);
      await pause(backoffMs(tries, random)); // seconds at most: a start is not late when the store is back
    }
  }
}
