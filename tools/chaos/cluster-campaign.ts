// The kill campaign on a cluster: processes, servers and the network fail at random under load; what was acknowledged must be there.
import { startCluster } from '../cluster/cluster.ts';
import { DELAYS } from '../servers/index.ts';
import { isWarning } from './campaign.ts';
import { type Fault, ofProcesses, ofServers } from './faults.ts';
import { type Outcome, pause, randomOf, startLoad } from './load.ts';

export interface ClusterCampaignOptions {
  minutes: number;
  seed: number;
  log?: (line: string) => void;
}
export interface ClusterCampaignResult extends Outcome {
  seed: number;
  /** How often each fault was done. */
  faults: Record<string, number>;
  kills: number;
  /** How long it took after the last fault until everything was found and compared. */
  comparedMs: number;
  /** Writes whose fate the proxy hid: applied late, applied without an answer, held back. */
  hidden: { late: number; dropAnswer: number; reorder: number };
}

/** Shorter than an SRE would set them, so that lanes die, leases change hands and packs are written within minutes. */
const HURRIED = {
  GANTRY_INDEX_SETTLE_MS: '2s',
  GANTRY_KEEPER_INTERVAL_MS: '1s',
  GANTRY_KEEPER_DELETION_DELAY_MS: '0',
  GANTRY_STORAGE_S3_DEAD_MS: '5s',
  GANTRY_STORAGE_S3_LANE_AGE_MS: '30s',
  GANTRY_PLATFORM_NATS_LEASE_MS: '5s',
  GANTRY_PLATFORM_NATS_CLAIM_MS: '5s',
  GANTRY_PLATFORM_STALL_MS: '10s',
};
const CATCH_UP_MS = 3 * 60_000;

export async function clusterCampaign(options: ClusterCampaignOptions): Promise<ClusterCampaignResult> {
  const { minutes, seed, log = () => {} } = options;
  const cluster = await startCluster({ natsNodes: 3, elasticsearchNodes: 2, proxies: true, env: HURRIED });
  try {
    const { s3 } = cluster.proxies!;
    // The weather of the whole campaign: a store that is near, and now and then lies about what it did.
    s3.set({ delay: DELAYS.near, late: 0.005, lateMs: 8_000, dropAnswer: 0.005, reorder: 0.01, reorderMs: 1_000 });
    const load = startLoad(cluster, seed);
    const faults: Record<string, number> = {};
    const until = Date.now() + minutes * 60_000;
    // Two at a time: what happens to processes, and what happens around them.
    const gremlin = async (own: number, next: (chance: () => number) => Fault) => {
      const chance = randomOf(seed + own);
      while (Date.now() < until) {
        await pause(chance() * 4_000);
        const fault = next(chance);
        faults[fault.name] = (faults[fault.name] ?? 0) + 1;
        log(`${load.acknowledged} acknowledged; ${fault.name}`);
        await fault.run();
      }
    };
    await Promise.all([
      gremlin(1, (chance) => ofProcesses(cluster, chance)),
      gremlin(2, (chance) => ofServers(cluster, chance)),
    ]);
    s3.set({ delay: DELAYS.none, late: 0, dropAnswer: 0, reorder: 0 });
    await load.stop();
    const healed = performance.now();
    log(`${load.acknowledged} acknowledged; everything is well again and compared`);
    await Promise.all([cluster.ready(), s3.settled()]);
    let outcome = await load.compare();
    // Search is behind storing by a moment; after faults by more. What is missing for good is missing still.
    while (outcome.missing.length + outcome.findings.length > 0 && performance.now() - healed < CATCH_UP_MS) {
      log(`${outcome.missing.length} not found yet, ${outcome.findings.length} findings`);
      await pause(2_000);
      outcome = await load.compare();
    }
    for (const line of cluster.log().split('\n').filter(isWarning).slice(-20)) log(line);
    const { late, dropAnswer, reorder } = s3.counts;
    return {
      seed,
      ...outcome,
      faults,
      kills: Object.entries(faults).reduce((sum, [name, count]) => sum + (name.startsWith('kill') ? count : 0), 0),
      comparedMs: performance.now() - healed,
      hidden: { late, dropAnswer, reorder },
    };
  } finally {
    await cluster.close();
  }
}
