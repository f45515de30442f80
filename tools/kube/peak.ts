// The peak, and what happens to pods: node tools/kube/peak.ts [peak|signals|faults|roll|memory|evict|power …|all] (`make peak-k8s WHAT=…`).
// Modalities send from a pod inside the cluster; at the end every acknowledged instance is there byte for byte, found and counted
// once. Prints what it saw; leaves the cluster running.
import { fleetInPod } from './fleet.ts';
import { install, NAMESPACE } from './install.ts';
import { evict, faults, memory, peak, power, roll } from './parts.ts';
import { pause, ROLES, sceneOf } from './scene.ts';
import { compare } from './senders.ts';
import { signals } from './signals.ts';

const PARTS = { peak, signals, faults, roll, memory, evict, power };
const SENDERS = 6;
const asked = process.argv.slice(2).flatMap((word) => word.split(','));
const parts = (Object.keys(PARTS) as (keyof typeof PARTS)[]).filter(
  (name) => asked.length === 0 || asked.includes('all') || asked.includes(name),
);
const strange = asked.filter((name) => name !== 'all' && !(name in PARTS));
if (strange.length > 0) {
  process.stderr.write(`${strange.join(', ')}: none of ${Object.keys(PARTS).join(', ')}, all\n`);
  process.exit(64);
}

const began = Date.now();
const say = (text: string) =>
  process.stdout.write(`${String(Math.round((Date.now() - began) / 1000)).padStart(5)} s  ${text}\n`);

// Scaling that a person can watch: a small request, so that two cores are a crowd, and a short memory.
const target = await install(say, [
  // Cluster: this machine calls one node and reaches the pods of all.
  ...['--set', 'drainSeconds=30,exposure.externalTrafficPolicy=Cluster'],
  ...['--set', 'roles.ingest.scaler.enabled=true,roles.ingest.scaler.minReplicas=1,roles.ingest.scaler.maxReplicas=3'],
  ...['--set', 'roles.ingest.scaler.cpuPercent=40,roles.ingest.scaler.scaleDownSeconds=15'],
]);
const seed = Math.floor(Math.random() * 1e8) + 1;
const fleet = await fleetInPod(target, seed, SENDERS);
const scene = sceneOf(target, fleet, say);
for (const name of parts) {
  say(`-- ${name}`);
  // What was acknowledged is compared whatever became of a part.
  await PARTS[name](scene, SENDERS).catch((error: Error) => scene.judge(false, `${name}: ${error.stack}`));
}

fleet.sending(0);
await fleet.stop().catch((error: Error) => scene.judge(false, error.message));
await scene.until(() => ROLES.every((role) => scene.ready(role).length > 0), 180);
const { attempts, failedAttempts, givenUp, longestMs } = fleet.counts;
say(
  `${fleet.acknowledged.size} acknowledged in ${attempts} attempts; ${failedAttempts} were tried again; the slowest took ${(longestMs / 1000).toFixed(1)} s`,
);
scene.judge(givenUp === 0, `${givenUp} given up after a modality's retries`);
await pause(5000);
const result = await compare(`http://${target.host}:${target.httpPort}`, seed, fleet.acknowledged, givenUp > 0);
for (const [kind, list] of Object.entries(result))
  scene.judge(list.length === 0, `${kind}: ${list.length} ${list.slice(0, 3).join(', ')}`);
say(`namespace ${NAMESPACE}; tools/kube/down.sh removes the cluster`);
process.exit(scene.failed ? 1 : 0);
