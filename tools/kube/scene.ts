// What the parts of the peak have in common: an installation, modalities that send to it, and questions about its pods.
import type { Installation } from './install.ts';
import type { Fleet } from './senders.ts';

export const ROLES = ['gateway', 'ingest', 'storage', 'index', 'auth'] as const;
export type Role = (typeof ROLES)[number];
/** Beside it, one pod each, that comes back under its own name. */
export const SERVERS = ['nats', 's3', 'elasticsearch'] as const;

export interface Pod {
  metadata: { name: string; uid: string; deletionTimestamp?: string };
  spec: { nodeName?: string; containers: { image: string }[] };
  status: {
    conditions?: { type: string; status: string }[];
    containerStatuses?: { restartCount: number; lastState: { terminated?: { reason: string } } }[];
  };
}

export interface Scene {
  readonly target: Installation;
  readonly fleet: Fleet;
  say(text: string): void;
  judge(right: boolean, text: string): void;
  readonly failed: boolean;
  podsOf(component: string): Pod[];
  /** Those that serve and are not leaving. */
  ready(component: string): Pod[];
  restarts(pod: Pod): number;
  /** Restarts of the pods of every other component, by their UID; those that are leaving are not among them. */
  others(than: string): Map<string, { name: string; restarts: number }>;
  /** Says that none of them restarted meanwhile; scaled they may have been. */
  noneRestarted(before: ReturnType<Scene['others']>): void;
  /** Seconds until it holds; infinite if it never did. */
  until(condition: () => boolean, seconds: number): Promise<number>;
  /** Seconds until `more` further instances are acknowledged. */
  flows(more?: number): Promise<number>;
  rate(seconds: number): Promise<number>;
}

export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export function sceneOf(target: Installation, fleet: Fleet, say: (text: string) => void): Scene {
  let failed = false;
  const podsOf = (component: string) =>
    (
      JSON.parse(target.kubectl('get', 'pods', '-l', `app.kubernetes.io/component=${component}`, '-o', 'json')) as {
        items: Pod[];
      }
    ).items;
  const isReady = ({ metadata, status }: Pod) =>
    !metadata.deletionTimestamp &&
    status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true;
  const restarts = ({ status }: Pod) =>
    (status.containerStatuses ?? []).reduce((sum, { restartCount }) => sum + restartCount, 0);
  async function until(condition: () => boolean, seconds: number): Promise<number> {
    const start = Date.now();
    while (!condition()) {
      if (Date.now() - start > seconds * 1000) return Number.POSITIVE_INFINITY;
      await pause(1000);
    }
    return Math.round((Date.now() - start) / 1000);
  }
  const others: Scene['others'] = (than) =>
    new Map(
      [...ROLES, ...SERVERS]
        .filter((component) => component !== than)
        .flatMap(podsOf)
        .filter(({ metadata }) => !metadata.deletionTimestamp)
        .map((pod) => [pod.metadata.uid, { name: pod.metadata.name, restarts: restarts(pod) }]),
    );
  const judge = (right: boolean, text: string) => {
    failed ||= !right;
    say(`${right ? 'ok    ' : 'FAILED'} ${text}`);
  };
  return {
    target,
    fleet,
    say,
    judge,
    get failed() {
      return failed;
    },
    podsOf,
    ready: (component) => podsOf(component).filter(isReady),
    restarts,
    others,
    noneRestarted(before) {
      const now = others('nobody');
      const again = [...before].filter(([uid, { restarts: then }]) => (now.get(uid)?.restarts ?? then) > then);
      judge(
        again.length === 0,
        `… and of the ${before.size} other pods ${again.map(([, { name }]) => name).join(', ') || 'none'} restarted`,
      );
    },
    until,
    async flows(more = 5) {
      // kubectl is waited for without hearing anything else: what was told meanwhile is heard first.
      await pause(500);
      const before = fleet.acknowledged.size;
      return until(() => fleet.acknowledged.size > before + more, 180);
    },
    async rate(seconds) {
      const before = fleet.acknowledged.size;
      await pause(seconds * 1000);
      return (fleet.acknowledged.size - before) / seconds;
    },
  };
}
