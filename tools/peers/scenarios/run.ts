// The scenario suite against any Gantry that runs: `node tools/peers/scenarios/run.ts` (README.md says with which variables).
// --peers prints what it needs in that Gantry's gantry.yaml.
import { external, peersYaml, receiverIn } from './deployment.ts';
import { scenarios } from './scenarios.ts';

if (process.argv.includes('--peers')) process.stdout.write(peersYaml(receiverIn(process.env)));
else scenarios(process.env.GANTRY_SCENARIO_HTTP ?? 'a running Gantry', external);
