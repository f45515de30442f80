// Where the programs of the servers lie in the cache, and what is missing. tools/setup/servers.sh makes them.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

export type Part = 'nats' | 'versitygw' | 'minio' | 'rclone' | 'elasticsearch';
export const PARTS: readonly Part[] = ['nats', 'versitygw', 'minio', 'rclone', 'elasticsearch'];

const SCRIPT = resolve(import.meta.dirname, '../setup/servers.sh');
const homes = new Map<Part, string>();

/** The part's folder in the cache, whether it is there or not. */
export function homeOf(part: Part): string {
  let home = homes.get(part);
  if (home === undefined) {
    const { status, stdout, stderr } = spawnSync(SCRIPT, ['home', part], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`tools/setup/servers.sh home ${part}: ${stderr}`);
    home = stdout.trim();
    homes.set(part, home);
  }
  return home;
}

export const isBuilt = (part: Part): boolean => existsSync(join(homeOf(part), '.complete'));

/** Makes the part where it is missing, which can take minutes: `make test` and `make servers` do it beforehand. */
export async function ensureBuilt(part: Part): Promise<string> {
  if (!isBuilt(part)) {
    const child = spawn(SCRIPT, [part], { stdio: ['ignore', 2, 2], env: { ...process.env, CI: 'true' } });
    const [code] = await once(child, 'exit');
    if (code !== 0 || !isBuilt(part)) throw new Error(`${part} could not be made: tools/setup/servers.sh ${part}`);
  }
  return homeOf(part);
}
