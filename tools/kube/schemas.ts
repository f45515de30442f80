// What the API server of a version would say to a manifest, without the server.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';

/** The newest three minor versions, as the Go modules of k8s.io/kubernetes carry them. */
export const VERSIONS = ['1.35.4', '1.36.3', '1.37.2'] as const;

export const KINDS = [
  'v1 ConfigMap',
  'v1 Pod',
  'v1 Secret',
  'v1 Service',
  'v1 ServiceAccount',
  'apps/v1 Deployment',
  'apps/v1 StatefulSet',
  'autoscaling/v2 HorizontalPodAutoscaler',
  'networking.k8s.io/v1 NetworkPolicy',
  'policy/v1 PodDisruptionBudget',
  'rbac.authorization.k8s.io/v1 Role',
  'rbac.authorization.k8s.io/v1 RoleBinding',
  'scheduling.k8s.io/v1 PriorityClass',
];

/** undefined: right; else what is wrong. */
export type Judge = (manifest: { apiVersion: string; kind: string }) => string | undefined;

export function judgeOf(version: string): Judge {
  const { kinds, definitions } = JSON.parse(
    readFileSync(join(import.meta.dirname, `schemas/${version}.json`), 'utf8'),
  ) as { kinds: Record<string, string>; definitions: Record<string, object> };
  const ajv = new Ajv({ strict: false, allErrors: true, allowUnionTypes: true });
  ajv.addSchema({ $id: 'kubernetes', definitions });
  return (manifest) => {
    const name = kinds[`${manifest.apiVersion} ${manifest.kind}`];
    if (name === undefined) return `Kubernetes ${version} does not know ${manifest.apiVersion} ${manifest.kind}`;
    const check = ajv.getSchema(`kubernetes#/definitions/${name}`)!;
    if (check(manifest)) return undefined;
    return ajv.errorsText(check.errors, { dataVar: manifest.kind });
  };
}
