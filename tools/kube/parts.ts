// What happens to a hospital's Gantry under load, one part each. None of it may lose, alter or double what was acknowledged: peak.ts
// compares at the end of all of them.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clientPath } from './clients.ts';
import { gantryImage } from './images.ts';
import { NAMESPACE } from './install.ts';
import { pause, ROLES, type Scene, SERVERS } from './scene.ts';

/** Modalities that send while something happens to pods, and their rest after each instance: enough to notice, little to compare. */
const FEW = 3;
const REST_MS = 100;

/** Associations are open before; load rises, ingest scales out (here by HPA on CPU; signals.ts by its own signals); load falls, it drains. */
export async function peak(
  { fleet, judge, ready, until, rate, others, noneRestarted, target }: Scene,
  senders: number,
) {
  await until(() => fleet.counts.open === senders, 30);
  /** Instances that each ingest pod kept since it started. */
  const stored = () =>
    new Map(
      ready('ingest').map(({ metadata: { name } }) => {
        const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}:9092/proxy/metrics`;
        const metrics = target.kubectl('get', '--raw', path);
        const lines = [...metrics.matchAll(/^gantry_ingest_instances_total(?:\{[^}]*\})? (\d+)/gm)];
        return [name, lines.reduce((sum, [, value]) => sum + Number(value), 0)];
      }),
    );
  const before = others('ingest');
  const opened = fleet.counts.open;
  judge(opened === senders && ready('ingest').length === 1, `${opened} associations are open and idle: one ingest pod`);
  fleet.sending(senders);
  const alone = await rate(10);
  const out = await until(() => ready('ingest').length > 1, 240);
  judge(Number.isFinite(out), `load on ${senders} associations: ingest scaled out after ${out + 10} s`);
  // A modality opens an association for each patient: those that come now find the new pods.
  const early = stored();
  fleet.reconnect();
  const together = await rate(20);
  const shares = [...stored()].map(([name, count]) => count - (early.get(name) ?? 0));
  judge(
    shares.filter((count) => count > 0).length > 1,
    `instances stored by each ingest pod since: ${shares.join(', ')}; ${alone.toFixed(0)} instances/s before, ${together.toFixed(0)} after (one machine, so its cores are the bound)`,
  );
  const same = [...others('ingest').keys()].sort().join() === [...before.keys()].sort().join();
  judge(same, 'other roles stayed put: no pod of theirs was added or removed');
  noneRestarted(before);
  fleet.sending(0);
  const back = await until(() => ready('ingest').length === 1 && fleet.counts.open === senders, 300);
  judge(Number.isFinite(back), `load fell: one ingest pod again after ${back} s, every association open`);
}

/** A pod of each role and of each server ends at once: the kubelet gives it a second, whatever it has in hand. */
export async function faults({ target, fleet, judge, podsOf, ready, until, flows, others, noneRestarted }: Scene) {
  fleet.sending(FEW, REST_MS);
  for (const role of [...ROLES, ...SERVERS]) {
    await flows();
    const before = others(role);
    const victim = podsOf(role)[0]!.metadata;
    target.kubectl('delete', 'pod', victim.name, '--grace-period=0', '--force');
    const [moving, back] = await Promise.all([
      flows(),
      until(() => ready(role).some(({ metadata }) => metadata.uid !== victim.uid), 180),
    ]);
    judge(
      Number.isFinite(back) && Number.isFinite(moving),
      `a pod of ${role} was killed: another is ready after ${back} s, instances flow after ${moving} s`,
    );
    noneRestarted(before);
  }
}

/** N to N+1 and back, every role at once, under load. `COMMIT=v1 NEXT=HEAD` are two releases; else one and the same, named otherwise. */
export async function roll({ target, fleet, say, judge, ready, flows }: Scene) {
  if (!target.local) return say('left out: the image of N+1 is made here, and this cluster could not pull it');
  const folder = mkdtempSync(join(tmpdir(), 'gantry-next-'));
  try {
    const { NEXT: commit } = process.env;
    const version = '99.0.0-next';
    const image = await gantryImage(folder, 'next', { version, ...(commit && { commit }) });
    target.script('load.sh', image);
  } finally {
    rmSync(folder, { recursive: true });
  }
  fleet.sending(FEW, REST_MS);
  for (const [tag, more] of [
    ['next', ['--set', 'image.tag=next']],
    ['kube', []],
  ] as const) {
    await flows();
    const [before, began] = [fleet.counts.failedAttempts, Date.now()];
    await target.upgrade([...more]);
    const images = ROLES.flatMap(ready).map(({ spec }) => spec.containers[0]!.image);
    const right = images.length >= ROLES.length && images.every((one) => one.endsWith(`:${tag}`));
    const moving = await flows();
    judge(
      right && Number.isFinite(moving),
      `every role runs gantry:${tag} after ${Math.round((Date.now() - began) / 1000)} s; ${fleet.counts.failedAttempts - before} attempts were made again`,
    );
  }
}

/** Memory of a pod's container is eaten up by processes beside Gantry's own, each smaller than it: the kernel takes the largest. */
const EATER = `const {spawn} = require('node:child_process');
const one = "const held = Buffer.alloc(" + process.argv[1] + " << 20, 1); setInterval(() => held.length, 1e6)";
for (let i = 0; i < Number(process.argv[2]); i++) spawn(process.execPath, ['--max-semi-space-size=1', '-e', one], {stdio: 'ignore'});
setInterval(() => {}, 1e6)`;
const MIB_EACH = 40;

export async function memory({
  target,
  fleet,
  judge,
  ready,
  restarts,
  until,
  flows,
  others,
  noneRestarted,
  podsOf,
}: Scene) {
  fleet.sending(FEW, REST_MS);
  for (const role of ['ingest', 'storage', 'index'] as const) {
    await flows();
    const before = others(role);
    const victim = ready(role)[0]!;
    const eaters = String(Math.ceil((2 << 10) / MIB_EACH));
    // It ends with the container.
    spawnSync(
      clientPath('kubectl'),
      ['-n', NAMESPACE, 'exec', victim.metadata.name, '-c', role, '--', 'node', '-e', EATER, String(MIB_EACH), eaters],
      { env: target.env, stdio: 'ignore', timeout: 120_000 },
    );
    const now = () => podsOf(role).find(({ metadata }) => metadata.uid === victim.metadata.uid);
    const killed = await until(
      () =>
        (now()?.status.containerStatuses ?? []).some(
          ({ restartCount, lastState }) =>
            restartCount > restarts(victim) && lastState.terminated?.reason === 'OOMKilled',
        ),
      60,
    );
    const moving = await flows();
    const back = await until(() => ready(role).some(({ metadata }) => metadata.uid === victim.metadata.uid), 180);
    judge(
      Number.isFinite(killed + moving + back),
      `a pod of ${role} had no memory left and was OOMKilled: instances flow after ${moving} s, it is ready again after ${moving + back} s`,
    );
    noneRestarted(before);
  }
}

/** As a drain of a node asks (the eviction API): once for a pod of each role; the budget holds a second one back. */
export async function evict({ target, fleet, judge, ready, until, flows, others, noneRestarted }: Scene) {
  const evicted = (name: string) => {
    const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}/eviction`;
    const body = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: NAMESPACE } };
    const { status, stderr } = spawnSync(clientPath('kubectl'), ['create', '--raw', path, '-f', '-'], {
      env: target.env,
      input: JSON.stringify(body),
      encoding: 'utf8',
    });
    return status === 0 ? 'gone' : /disruption budget/.test(stderr) ? 'held' : stderr;
  };
  fleet.sending(FEW, REST_MS);
  for (const role of ROLES) {
    await flows();
    const before = others(role);
    const pods = ready(role).map(({ metadata }) => metadata);
    const first = evicted(pods[0]!.name);
    // One may be missing at a time: with two, the other has to stay until there is a new one.
    const second = pods[1] === undefined ? undefined : evicted(pods[1].name);
    const [moving, back] = await Promise.all([
      flows(),
      until(() => {
        const now = ready(role);
        return now.length >= pods.length && now.every(({ metadata }) => metadata.uid !== pods[0]!.uid);
      }, 180),
    ]);
    judge(
      first === 'gone' && (second ?? 'held') === 'held' && Number.isFinite(moving + back),
      `a pod of ${role} was evicted (${first}${second === undefined ? '' : `, a second one at once: ${second}`}): instances flow after ${moving} s, all are ready after ${back} s`,
    );
    noneRestarted(before);
  }
}

/** Two of each stateless role on two nodes; one is drained for its service, and later it has no power. */
export async function power({ target, fleet, say, judge, ready, until, podsOf, flows }: Scene, senders: number) {
  if (!target.local) return say('left out: no node of this cluster is ours to switch off');
  const [number, second] = ['1', 'gantry-1'];
  const roles = ['gateway', 'ingest', 'storage', 'auth', 'index'] as const;
  const there = () => roles.flatMap(podsOf).filter(({ spec }) => spec.nodeName === second);
  const two = () => roles.every((role) => ready(role).length >= 2);
  const names = (pods: { metadata: { name: string } }[]) => pods.map(({ metadata }) => metadata.name).join(', ');
  target.script('node.sh', number);
  try {
    target.kubectl('patch', 'hpa', 'gantry-ingest', '--type=merge', '-p', '{"spec":{"minReplicas":2}}');
    target.kubectl('scale', 'deployment', 'gantry-gateway', 'gantry-storage', 'gantry-auth', '--replicas=2');
    await until(two, 180);
    judge(there().length >= 3, `two nodes: ${names(there())} are on the second one`);
    fleet.sending(FEW, REST_MS);
    fleet.reconnect();
    const drained = spawnSync(
      clientPath('kubectl'),
      ['drain', second, '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=240s'],
      { env: target.env, encoding: 'utf8' },
    );
    judge(
      drained.status === 0 && there().length === 0 && Number.isFinite(await flows()),
      `the second node was drained, and instances flow${drained.status === 0 ? '' : `: ${drained.stderr}`}`,
    );
    await until(two, 180);
    target.kubectl('uncordon', second);
    // One of each goes, and comes back on the node that is empty.
    for (const role of roles) target.kubectl('delete', 'pod', ready(role)[0]!.metadata.name, '--wait=false');
    await until(() => there().length >= 3 && two(), 180);
    fleet.reconnect();
    fleet.sending(senders, REST_MS);
    await pause(3000);
    const lost = there();
    target.script('node.sh', number, 'kill');
    const moving = await flows(50);
    judge(
      lost.length >= 3 && Number.isFinite(moving),
      `the second node lost its power with ${names(lost)}: 50 more instances after ${moving} s`,
    );
    const again = await until(
      () =>
        two() && lost.every((one) => roles.flatMap(ready).every(({ metadata }) => metadata.uid !== one.metadata.uid)),
      240,
    );
    judge(Number.isFinite(again), `two of each role are ready elsewhere after ${moving + again} s`);
  } finally {
    target.script('node.sh', number, 'rm');
  }
}
