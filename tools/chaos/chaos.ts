// The kill campaigns by hand. node tools/chaos/chaos.ts [--kills 500] [--seed N], or --cluster [--minutes 60] [--seed N]
import { parseArgs } from 'node:util';
import { campaign } from './campaign.ts';
import { clusterCampaign } from './cluster-campaign.ts';

const { values } = parseArgs({
  options: {
    cluster: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '60' },
    kills: { type: 'string', default: '500' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
  },
});
const seed = Number(values.seed);
const result = values.cluster
  ? await clusterCampaign({ minutes: Number(values.minutes), seed, log: console.log })
  : await campaign({ kills: Number(values.kills), seed, log: console.log });
console.log(JSON.stringify({ seed, ...result }, null, 2));
const lost = result.missing.length + result.different.length + result.doubled.length + result.findings.length;
process.exit(lost === 0 ? 0 : 1);
