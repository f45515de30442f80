// The kill campaign: kill -9 at random moments under four sending associations and a STOW client; what was acknowledged must be there.
import { startServer } from '../peers/server.ts';
import { type Outcome, pause, randomOf, startLoad } from './load.ts';

export interface CampaignOptions {
  kills: number;
  seed: number;
  associations?: number;
  /** How long it runs between two kills: from 0 to this. */
  aliveMsMax?: number;
  log?: (line: string) => void;
}
export interface CampaignResult extends Outcome {
  kills: number;
  slowestStartMs: number;
}

export async function campaign(options: CampaignOptions): Promise<CampaignResult> {
  const { kills, seed, associations = 4, aliveMsMax = 1500, log = () => {} } = options;
  const random = randomOf(seed);
  const server = await startServer({
    env: {
      GANTRY_INDEX_SETTLE_MS: '1000',
      GANTRY_KEEPER_INTERVAL_MS: '1000',
      GANTRY_KEEPER_DELETION_DELAY_MS: '0',
      GANTRY_STORAGE_SEGMENT_BYTES: '16MiB',
    },
  });
  const load = startLoad(server, seed, { associations });
  let slowestStartMs = 0;
  for (let kill = 1; kill <= kills; kill++) {
    await pause(random() * aliveMsMax);
    await server.signal('SIGKILL');
    const began = performance.now();
    await server.restart();
    slowestStartMs = Math.max(slowestStartMs, performance.now() - began);
    if (kill % 10 === 0) log(`${kill} kills, ${load.acknowledged} acknowledged`);
  }
  await load.stop();
  const outcome = await load.compare();
  for (const line of server.log().split('\n').filter(isWarning).slice(-20)) log(line);
  await server.close();
  return { kills, ...outcome, slowestStartMs };
}

export const isWarning = (line: string): boolean => /"level":"(error|fatal|warn)"/.test(line);
