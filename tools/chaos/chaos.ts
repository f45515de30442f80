// node tools/chaos/chaos.ts [--kills 500] [--seed N]: the kill campaign by hand.
import { parseArgs } from 'node:util';
import { campaign } from './campaign.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '500' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
  },
});
const result = await campaign({ kills: Number(values.kills), seed: Number(values.seed), log: console.log });
console.log(JSON.stringify({ seed: Number(values.seed), ...result }, null, 2));
const lost = result.missing.length + result.different.length + result.doubled.length + result.findings.length;
process.exit(lost === 0 ? 0 : 1);
