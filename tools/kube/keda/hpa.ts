// What KEDA makes of a ScaledObject: an HPA whose Prometheus triggers are external metrics. As KEDA 2.21 does it (controllers/keda/hpa.go,
// pkg/scalers), for the triggers that charts/gantry writes.

/** Its API server says which object an HPA asks for by this label. */
export const OWNER_LABEL = 'scaledobject.keda.sh/name';

export interface Trigger {
  type: string;
  name?: string;
  metricType: string;
  metadata: Record<string, string>;
}
export interface ScaledObject {
  metadata: { name: string; namespace?: string; uid?: string; labels?: Record<string, string> };
  spec: {
    scaleTargetRef: { apiVersion: string; kind: string; name: string };
    minReplicaCount: number;
    maxReplicaCount: number;
    advanced?: { horizontalPodAutoscalerConfig?: { behavior?: object } };
    triggers: Trigger[];
  };
}
export interface Signal {
  /** The trigger's name in the chart: `ingest-permits`. */
  name: string;
  /** What the HPA asks for: `s1-prometheus`, its place in the list of triggers. */
  metric: string;
  serverAddress: string;
  query: string;
  /** For each pod. */
  threshold: number;
}

export const signalsOf = ({ spec }: ScaledObject): Signal[] =>
  spec.triggers.flatMap(({ type, name = '', metadata }, place) =>
    type === 'prometheus'
      ? [
          {
            name,
            metric: `s${place}-prometheus`,
            serverAddress: metadata.serverAddress!,
            query: metadata.query!,
            threshold: Number(metadata.threshold),
          },
        ]
      : [],
  );

/** As KEDA writes numbers for the HPA: in thousandths. */
export const quantity = (value: number): string => `${Math.round(value * 1000)}m`;

/** autoscaling/v2; it goes when the ScaledObject goes. */
export function hpaOf(object: ScaledObject) {
  const { metadata, spec } = object;
  const signals = new Map(signalsOf(object).map((signal) => [signal.metric, signal]));
  const metrics = spec.triggers.map(({ type, metricType, metadata: given }, place) => {
    if (type === 'cpu' && metricType === 'Utilization' && given.containerName !== undefined)
      return {
        type: 'ContainerResource',
        containerResource: {
          name: 'cpu',
          container: given.containerName,
          target: { type: 'Utilization', averageUtilization: Number(given.value) },
        },
      };
    const signal = signals.get(`s${place}-prometheus`);
    if (signal === undefined || metricType !== 'AverageValue')
      throw new Error(`${metadata.name}: a trigger of type ${type} with ${metricType} is not one of charts/gantry`);
    return {
      type: 'External',
      external: {
        metric: { name: signal.metric, selector: { matchLabels: { [OWNER_LABEL]: metadata.name } } },
        target: { type: 'AverageValue', averageValue: quantity(signal.threshold) },
      },
    };
  });
  return {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: {
      name: `keda-hpa-${metadata.name}`,
      labels: { ...metadata.labels, 'app.kubernetes.io/managed-by': 'keda-operator' },
      ...(metadata.uid !== undefined && {
        ownerReferences: [
          {
            apiVersion: 'keda.sh/v1alpha1',
            kind: 'ScaledObject',
            name: metadata.name,
            uid: metadata.uid,
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
      }),
    },
    spec: {
      scaleTargetRef: spec.scaleTargetRef,
      minReplicas: spec.minReplicaCount,
      maxReplicas: spec.maxReplicaCount,
      metrics: metrics.sort((a, b) => (a.type < b.type ? -1 : a.type > b.type ? 1 : 0)),
      behavior: spec.advanced?.horizontalPodAutoscalerConfig?.behavior,
    },
  };
}
