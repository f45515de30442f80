import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where things are kept that can be fetched or built again (XDG Base Directory): never data. */
export const cacheDir = (): string => join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gantry');
