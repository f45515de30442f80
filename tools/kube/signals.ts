// The peak by Gantry's own signals: what KEDA would scale by where it is installed, with the chart's own queries (keda/stand-in.ts).
import { standIn } from './keda/stand-in.ts';
import { peak } from './parts.ts';
import { pause, type Scene } from './scene.ts';

/** Idle associations are watched for so long: four scrapes, and the minute that a query looks back. */
const IDLE_S = 120;
const ROLES = ['gateway', 'ingest', 'storage', 'index'];

/** CPU never decides: at 100 times the request nobody arrives. Memory for four instances at once, so that six modalities have to wait. */
const VALUES = [
  ...ROLES.flatMap((role) => ['--set', `roles.${role}.scaler.enabled=true,roles.${role}.scaler.cpuPercent=10000`]),
  ...ROLES.filter((role) => role !== 'ingest').flatMap((role) => {
    const least = role === 'index' ? 2 : 1;
    return ['--set', `roles.${role}.scaler.minReplicas=${least},roles.${role}.scaler.maxReplicas=${least + 1}`];
  }),
  ...['--set-json', 'roles.ingest.settings={"ingest.permitBytes":"16MiB"}'],
];

export async function signals(scene: Scene, senders: number) {
  const { target, fleet, say, judge, ready, until } = scene;
  if (!target.bridge) return say('left out: the API server of this cluster does not reach this machine');
  fleet.sending(0);
  const keda = await standIn(target, target.bridge, VALUES);
  try {
    const heard = await until(() => keda.seen.every(({ answers }) => answers > 0), 180);
    const silent = keda.seen.filter(({ answers }) => answers === 0).map(({ signal, error }) => `${signal}: ${error}`);
    judge(
      Number.isFinite(heard),
      `every one of ${keda.seen.length} signals has a value after ${heard} s ${silent.join('; ')}`,
    );
    await until(() => ready('ingest').length === 1 && fleet.counts.open === senders, 300);
    keda.again();
    await pause(IDLE_S * 1000);
    const ingest = () => keda.seen.filter(({ object }) => object === 'gantry-ingest');
    const above = () => ingest().filter(({ highest, threshold }) => highest > threshold);
    const written = () =>
      ingest()
        .map(({ signal, highest, threshold }) => `${signal} ${highest.toPrecision(3)} of ${threshold}`)
        .join(', ');
    judge(
      fleet.counts.open === senders && above().length === 0 && ingest().every(({ answers }) => answers > 0),
      `${fleet.counts.open} idle associations for ${IDLE_S} s are no load: ${written()}`,
    );
    keda.again();
    await peak(scene, senders);
    judge(above().length > 0, `its own signals, at most: ${written()}`);
    for (const { object, signal, highest, threshold } of keda.seen)
      if (object !== 'gantry-ingest') say(`       ${signal}: at most ${highest.toPrecision(3)} of ${threshold}`);
  } finally {
    await keda.stop();
  }
}
