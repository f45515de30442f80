// The peak, and what happens to pods: node tools/kube/peak.ts [peak|faults|power|all]. Associations are open before, load rises, ingest scales out
// by its own signal (HPA on CPU), load falls, it drains. Then pods of each role go under load. At the end every acknowledged instance is
// found once, byte for byte. Prints what it saw; leaves the cluster running.
import { install, NAMESPACE } from './install.ts';
import { compare, type Fleet, launch } from './senders.ts';

const what = process.argv[2] ?? 'all';
const began = Date.now();
const say = (text: string) =>
  process.stdout.write(`${String(Math.round((Date.now() - began) / 1000)).padStart(5)} s  ${text}\n`);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const SENDERS = 6;

// Scaling that a person can watch: a small request, so that two cores are a crowd, and a short memory.
const target = await install(say, [
  // Cluster: this machine calls one node and reaches the pods of all.
  ...['--set', 'drainSeconds=30,exposure.externalTrafficPolicy=Cluster'],
  ...['--set', 'roles.ingest.scaler.enabled=true,roles.ingest.scaler.minReplicas=1,roles.ingest.scaler.maxReplicas=3'],
  ...['--set', 'roles.ingest.scaler.cpuPercent=150,roles.ingest.scaler.scaleDownSeconds=15'],
]);
const { kubectl } = target;
const origin = `http://${target.host}:${target.httpPort}`;
const seed = Math.floor(Math.random() * 1e8) + 1;

const json = (...args: string[]) => JSON.parse(kubectl(...args, '-o', 'json')) as { items: Pod[] };
interface Pod {
  metadata: { name: string; labels: Record<string, string>; deletionTimestamp?: string };
  status: { conditions?: { type: string; status: string }[] };
}
const podsOf = (role: string) => json('get', 'pods', '-l', `app.kubernetes.io/component=${role}`).items;
const podsOn = (node: string) =>
  json('get', 'pods', '--field-selector', `spec.nodeName=${node}`).items.map(({ metadata }) => metadata.name);
const roleOf = (name: string) => name.split('-')[1]!;
const ready = (role: string) =>
  podsOf(role).filter(
    ({ metadata, status }) =>
      !metadata.deletionTimestamp &&
      status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
  );
const counts = () =>
  Object.fromEntries(['gateway', 'ingest', 'storage', 'index', 'auth'].map((role) => [role, ready(role).length]));

async function until(condition: () => boolean, seconds: number): Promise<number> {
  const start = Date.now();
  while (!condition()) {
    if (Date.now() - start > seconds * 1000) return Number.POSITIVE_INFINITY;
    await pause(1000);
  }
  return (Date.now() - start) / 1000;
}
async function rate(fleet: Fleet, seconds: number): Promise<number> {
  const before = fleet.acknowledged.size;
  await pause(seconds * 1000);
  return (fleet.acknowledged.size - before) / seconds;
}

const fleet = launch(target, seed, SENDERS);
let failed = false;
const judge = (right: boolean, text: string) => {
  failed ||= !right;
  say(`${right ? 'ok    ' : 'FAILED'} ${text}`);
};

if (what === 'peak' || what === 'all') {
  await pause(3000);
  const others = counts();
  say(`${SENDERS} associations are open and idle: ${JSON.stringify(others)}`);
  fleet.sending(SENDERS);
  const out = await until(() => ready('ingest').length > 1, 240);
  judge(Number.isFinite(out), `load of ${SENDERS} associations: ingest scaled out after ${out} s`);
  say(`${(await rate(fleet, 20)).toFixed(0)} instances/s with ${ready('ingest').length} ingest pods`);
  const now = counts();
  judge(
    Object.entries(others).every(([role, count]) => role === 'ingest' || now[role] === count),
    `other roles stayed put: ${JSON.stringify(now)}`,
  );
  fleet.sending(0);
  const back = await until(() => ready('ingest').length === 1, 300);
  judge(Number.isFinite(back), `load fell: one ingest pod again after ${back} s`);
}

if (what === 'faults' || what === 'all') {
  fleet.sending(3);
  for (const role of ['ingest', 'storage', 'index', 'auth', 'gateway', 'nats', 's3']) {
    await pause(2000);
    const victim = podsOf(role)[0]!.metadata.name;
    const before = fleet.acknowledged.size;
    kubectl('delete', 'pod', victim, '--grace-period=0', '--force');
    const back = await until(
      () => ready(role).some(({ metadata }) => metadata.name !== victim || ['nats', 's3'].includes(role)),
      180,
    );
    const flows = await until(() => fleet.acknowledged.size > before + 5, 180);
    judge(
      Number.isFinite(back) && Number.isFinite(flows),
      `a pod of ${role} was killed: another is ready after ${back} s, instances flow after ${flows} s`,
    );
  }
  kubectl(
    'rollout',
    'restart',
    'deployment',
    '-l',
    'app.kubernetes.io/component in (ingest,storage,index,auth,gateway)',
  );
  kubectl(
    'rollout',
    'status',
    'deployment',
    '-l',
    'app.kubernetes.io/component in (ingest,storage,index,auth,gateway)',
    '--timeout=10m',
  );
  say('every role was rolled under load');
  const leaving = ready('ingest')[0]!.metadata.name;
  const before = fleet.acknowledged.size;
  kubectl('delete', 'pod', leaving, '--wait=false');
  judge(
    Number.isFinite(await until(() => fleet.acknowledged.size > before + 5, 180)),
    'an ingest pod was asked to go under load, and instances flow',
  );
}

if ((what === 'power' || what === 'all') && target.local) {
  // Two of each stateless role on two nodes; then one node has no power.
  const second = 'gantry-1';
  target.script('node.sh', '1');
  try {
    kubectl('patch', 'hpa', 'gantry-ingest', '--type=merge', '-p', '{"spec":{"minReplicas":2}}');
    kubectl('scale', 'deployment', 'gantry-gateway', 'gantry-storage', 'gantry-auth', '--replicas=2');
    const spread = await until(
      () => ['gateway', 'ingest', 'storage', 'auth'].every((role) => ready(role).length >= 2),
      180,
    );
    const there = podsOn(second);
    judge(Number.isFinite(spread) && there.length > 0, `two nodes: ${there.join(', ')} are on the second one`);
    fleet.sending(SENDERS);
    fleet.reconnect();
    await pause(5000);
    target.script('node.sh', '1', 'kill');
    const before = fleet.acknowledged.size;
    const flows = await until(() => fleet.acknowledged.size > before + 50, 180);
    judge(Number.isFinite(flows), `the second node lost its power: 50 more instances after ${flows} s`);
    const moved = await until(
      () =>
        there.every((name) =>
          podsOf(roleOf(name)).every((one) => one.metadata.deletionTimestamp || one.metadata.name !== name),
        ),
      180,
    );
    const again = await until(
      () => ['gateway', 'ingest', 'storage', 'auth'].every((role) => ready(role).length >= 2),
      180,
    );
    judge(Number.isFinite(moved + again), `its pods are elsewhere after ${flows + moved + again} s`);
  } finally {
    target.script('node.sh', '1', 'rm');
  }
}

fleet.sending(0);
await fleet.stop();
await until(() => Object.values(counts()).every((count) => count > 0), 180);
const { attempts, failedAttempts, givenUp, longestMs } = fleet.counts;
say(
  `${fleet.acknowledged.size} acknowledged in ${attempts} attempts; ${failedAttempts} were tried again; the slowest took ${(longestMs / 1000).toFixed(1)} s`,
);
judge(givenUp === 0, `${givenUp} given up after a modality's retries`);
await pause(5000);
const result = await compare(origin, seed, fleet.acknowledged);
for (const [kind, list] of Object.entries(result))
  judge(list.length === 0, `${kind}: ${list.length} ${list.slice(0, 3).join(', ')}`);
say(`namespace ${NAMESPACE}; tools/kube/down.sh removes the cluster`);
process.exit(failed ? 1 : 0);
