// verify and rebuild: by the running server, or on the stopped archive.
import { CommandFailure, EXIT, type House, usage } from './command.ts';
import type { Offline } from './offline.ts';

/** Nothing: a server runs, ask it. */
export async function runsOrOffline(house: House, offline: boolean): Promise<Offline | undefined> {
  if (offline && house.client.explicit) throw usage('--offline and --server contradict each other');
  if (!offline) {
    try {
      await house.client.json('GET', '/api/v1/status');
      return undefined;
    } catch (error) {
      const nobody = error instanceof CommandFailure && error.code === 'unreachable';
      if (!nobody || house.client.explicit || house.env.GANTRY_URL) throw error;
      house.note(`no server answers at ${house.client.server}: working on the stopped archive\n`);
    }
  }
  const { openOffline } = await import('./offline.ts'); // the whole server: only where it is needed
  try {
    return await openOffline(house);
  } catch (error) {
    if (error instanceof CommandFailure && error.code === 'no-archive' && !offline)
      throw new CommandFailure(EXIT.unreachable, 'unreachable', `no server answers, and ${error.message}`);
    throw error;
  }
}
