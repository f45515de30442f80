// Every manifest of every profile, as three versions of Kubernetes would judge it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROFILES, render } from './clients.ts';
import { judgeOf, KINDS, VERSIONS } from './schemas.ts';

/** Kinds that come with KEDA, Gateway API and the Prometheus operator. */
const FOREIGN = /^(keda\.sh|gateway\.networking\.k8s\.io|monitoring\.coreos\.com)\//;

for (const version of VERSIONS)
  test(`Kubernetes ${version} takes what the profiles render`, () => {
    const judge = judgeOf(version);
    const seen = new Set<string>();
    for (const profile of PROFILES)
      for (const manifest of [
        ...render(profile),
        ...render(profile, 'keda.enabled=false', 'priorityClasses.create=true'),
      ]) {
        if (FOREIGN.test(manifest.apiVersion)) continue;
        seen.add(`${manifest.apiVersion} ${manifest.kind}`);
        assert.equal(
          judge(manifest as { apiVersion: string; kind: string }),
          undefined,
          `${profile}: ${manifest.kind} ${manifest.metadata.name}`,
        );
      }
    assert.deepEqual([...seen].sort(), [...KINDS].sort());
  });

test('the judge is strict: an unknown field, a wrong type and an old version are found', () => {
  const judge = judgeOf(VERSIONS[0]);
  const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'x' }, spec: { ports: [{ port: 80 }] } };
  assert.equal(judge(service), undefined);
  assert.match(judge({ ...service, spec: { ports: [{ port: '80' }] } } as never)!, /port must be integer/);
  assert.match(judge({ ...service, spec: { prots: [] } } as never)!, /additional properties/);
  assert.match(judge({ apiVersion: 'policy/v1beta1', kind: 'PodDisruptionBudget' })!, /does not know/);
});
