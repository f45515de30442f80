// charts/gantry as it renders: what a person may set, what comes of it, and that nobody is let in by default.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { allModules, ROLES as ROLE_TABLE } from '../../services/roles.ts';
import { platformSettings } from '../../services/shared/platform/settings.ts';
import { CHART, helm, type Manifest, PROFILES, render } from './clients.ts';

const ROLES = ['gateway', 'ingest', 'storage', 'index', 'auth'];
const ofKind = (manifests: Manifest[], kind: string) => manifests.filter((one) => one.kind === kind);
const named = (manifests: Manifest[], kind: string, name: string): Manifest => {
  const found = ofKind(manifests, kind).find(({ metadata }) => metadata.name === name);
  assert.ok(found, `${kind} ${name} is not rendered`);
  return found;
};
const podsOf = (manifests: Manifest[]) =>
  manifests.flatMap((one) => {
    if (one.kind === 'Pod') return [{ of: one, metadata: one.metadata, spec: one.spec }];
    return one.spec?.template?.spec
      ? [{ of: one, metadata: one.spec.template.metadata, spec: one.spec.template.spec }]
      : [];
  });

for (const profile of PROFILES)
  test(`values-${profile}.yaml: helm lint finds nothing`, () => {
    const { status, output } = helm('lint', '--strict', CHART, '-f', join(CHART, `values-${profile}.yaml`));
    assert.equal(status, 0, output);
  });

const REFUSED: [what: string, sets: string[], says: RegExp][] = [
  ['a misspelt value', ['roles.ingest.replcas=3'], /additional properties 'replcas' not allowed/],
  ['an AE title of 17 characters', ['aeTitle="ABCDEFGHIJKLMNOPQ"'], /aeTitle/],
  ['an AE title of spaces', ['aeTitle="   "'], /aeTitle/],
  ['a setting of no table', ['settings={"nobody.knows":1}'], /nobody\.knows/],
  [
    'a setting that the chart decides',
    ['settings={"platform.grpcPort":1}'],
    /settings names platform\.grpcPort, which this chart decides/,
  ],
  ['the same for one role', ['roles.index.settings={"http.port":1}'], /roles\.index\.settings names http\.port/],
  ['nobody is asked at the HTTP door', ['http.allowUnauthenticated=false'], /Who may use the HTTP door\?/],
  ['a token that is never needed', ['http.tokenSecret.name="t"'], /both set/],
  ['no bucket', ['s3.bundled.enabled=false'], /Where is the archive's bucket\?/],
  ['a bucket without keys', ['s3.bundled.enabled=false', 's3.endpoint="https://s3.example"'], /Set s3\.existingSecret/],
  ['two buckets', ['s3.endpoint="https://s3.example"', 's3.existingSecret="x"'], /s3\.bundled\.enabled are both set/],
  ['no NATS', ['nats.bundled.enabled=false'], /Where is NATS\?/],
  ['two of NATS', ['nats.servers=["nats://n:4222"]'], /nats\.bundled\.enabled are both set/],
  ['a NATS too small for its streams', ['nats.bundled.storage="1Gi"'], /on less than 2Gi/],
  ['no Elasticsearch', ['elasticsearch.bundled.enabled=false'], /Where is Elasticsearch\?/],
  [
    'an index in each of several pods',
    ['elasticsearch={"embedded":true,"bundled":{"enabled":false}}', 'roles.index.replicas=2'],
    /needs roles\.index\.replicas=1/,
  ],
  ['an embedded index, and Elasticsearch', ['elasticsearch.embedded=true'], /remove one/],
  ['two of Elasticsearch', ['elasticsearch.nodes=["http://e:9200"]'], /elasticsearch\.bundled\.enabled are both set/],
  [
    'a balancer that would send associations to nodes without their door',
    ['exposure.type="LoadBalancer"'],
    /needs exposure\.doors=together/,
  ],
  ['a Gateway without a class or a name', ['exposure.type="Gateway"'], /className/],
  ['KEDA without Prometheus', ['keda.enabled=true'], /keda\.prometheusAddress/],
  ['a scaler upside down', ['roles.auth.scaler.minReplicas=9'], /minReplicas \(9\) is above maxReplicas/],
];
for (const [what, sets, says] of REFUSED)
  test(`refused with a sentence: ${what}`, () => assert.throws(() => render('trial', ...sets), { message: says }));

test('the defaults alone install nothing: somebody must say who may come in and where the archive is', () => {
  assert.throws(() => render(undefined), { message: /Who may use the HTTP door\?/ });
});

/** Every leaf of a values file as a path; lists and free maps are one leaf. */
function leaves(value: unknown, path: string[] = []): string[][] {
  if (value === null || typeof value !== 'object' || Array.isArray(value) || Object.keys(value).length === 0)
    return [path];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

test('each value in each values file is one of values.yaml, and is read by a template', () => {
  const templates = (readdirSync(join(CHART, 'templates'), { recursive: true }) as string[])
    .filter((file) => /\.(tpl|yaml|txt)$/.test(file))
    .map((file) => readFileSync(join(CHART, 'templates', file), 'utf8'))
    .join('\n');
  const files = ['values.yaml', ...PROFILES.map((profile) => `values-${profile}.yaml`)];
  let looked = 0;
  for (const file of files)
    for (const path of leaves(parse(readFileSync(join(CHART, file), 'utf8')))) {
      // A free map (settings, resources) is read as a whole.
      const free = path.findIndex((key) => ['settings', 'resources', 'annotations'].includes(key));
      const key = free < 0 ? path.at(-1)! : path[free]!;
      looked++;
      const read = new RegExp(`[.]${key}\\b|"${key}"`).test(templates);
      assert.ok(read, `${file}: ${path.join('.')} is read by no template`);
    }
  assert.ok(looked > 150, `${looked} values`);
});

test('no secret has a default: what is generated is random each time, what is not is named by somebody', () => {
  const secrets = (profile: string) => ofKind(render(profile), 'Secret');
  const [once, again] = [secrets('trial'), secrets('trial')];
  assert.deepEqual(once.map(({ metadata }) => metadata.name).sort(), ['gantry-internal', 'gantry-nats', 'gantry-s3']);
  const values = (all: Manifest[]) => all.flatMap(({ data }) => Object.values(data as Record<string, string>));
  for (const value of values(once)) assert.ok(Buffer.from(value, 'base64').length >= 40);
  assert.equal(values(once).filter((value) => values(again).includes(value)).length, 0);
  for (const { metadata } of once) assert.equal(metadata.annotations['helm.sh/resource-policy'], 'keep');
  assert.deepEqual(
    secrets('hospital').map(({ metadata }) => metadata.name),
    ['gantry-internal'],
  );
  assert.deepEqual(secrets('network'), []);
  const defaults = readFileSync(join(CHART, 'values.yaml'), 'utf8');
  assert.doesNotMatch(defaults, /^\s*(password|secretKey|accessKey|token|apiKey): *\S*[A-Za-z0-9]{4}/m);
});

for (const profile of PROFILES)
  test(`values-${profile}.yaml: every pod is restricted, has limits, and no token of the cluster but the scale-in`, () => {
    const pods = podsOf(render(profile));
    assert.ok(pods.length >= 6);
    for (const { metadata, spec, of } of pods) {
      const where = `${of.kind} ${of.metadata.name}`;
      const component = metadata.labels['app.kubernetes.io/component'];
      assert.equal(spec.automountServiceAccountToken, component === 'scale-in', where);
      assert.equal(spec.enableServiceLinks, false, where);
      assert.equal(spec.securityContext.runAsNonRoot, true, where);
      assert.equal(spec.securityContext.runAsUser, 65532, where);
      assert.equal(spec.securityContext.seccompProfile.type, 'RuntimeDefault', where);
      for (const forbidden of ['hostNetwork', 'hostPID', 'hostIPC']) assert.equal(spec[forbidden], undefined, where);
      for (const volume of spec.volumes ?? []) {
        assert.equal(volume.hostPath, undefined, where);
        if (volume.emptyDir) assert.match(volume.emptyDir.sizeLimit, /^\d+[GM]i$/, where);
      }
      for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
        assert.equal(container.securityContext.allowPrivilegeEscalation, false, where);
        assert.equal(container.securityContext.readOnlyRootFilesystem, true, where);
        assert.deepEqual(container.securityContext.capabilities, { drop: ['ALL'] }, where);
        assert.ok(container.resources.limits.memory && container.resources.requests.cpu, `${where}: resources`);
      }
    }
  });

test('a role is a workload with its own account, disruption budget, spread and scaler', () => {
  const manifests = render('network');
  for (const role of ROLES) {
    const { spec } = named(manifests, 'Deployment', `gantry-${role}`);
    assert.equal(spec.template.spec.serviceAccountName, `gantry-${role}`);
    assert.deepEqual(
      spec.template.spec.containers.map(({ args }: Manifest) => args),
      [[role]],
    );
    assert.equal(spec.template.spec.topologySpreadConstraints.length, 2);
    assert.equal(spec.template.spec.priorityClassName, role === 'ingest' ? 'gantry-ingest' : 'gantry-others');
    named(manifests, 'PodDisruptionBudget', `gantry-${role}`);
    named(manifests, 'ServiceAccount', `gantry-${role}`);
    // A workload with a scaler says no number of its own: an upgrade must not undo what the scaler did.
    const scaled = ofKind(manifests, 'ScaledObject').some(({ metadata }) => metadata.name === `gantry-${role}`);
    assert.equal(spec.replicas === undefined, scaled, role);
  }
  assert.equal(ofKind(manifests, 'HorizontalPodAutoscaler').length, 0);
});

test('Kubernetes waits longer than the drain; connections are taken until every node knows', () => {
  for (const { spec } of ofKind(render('hospital'), 'Deployment').filter(
    ({ metadata }) => metadata.name !== 'gantry-scale-in',
  )) {
    assert.ok(spec.template.spec.terminationGracePeriodSeconds >= 600 + 20 + 5 + 10);
    for (const container of spec.template.spec.containers) {
      assert.equal(container.lifecycle.preStop.sleep.seconds, 5);
      assert.equal(container.readinessProbe.httpGet.path, '/readyz');
      assert.equal(container.livenessProbe.httpGet.path, '/healthz');
    }
  }
});

test('both doors at one address: one Service, each port with the pods that name it', () => {
  for (const [profile, doors] of [
    ['trial', ['gateway', 'ingest']],
    ['hospital', ['ingest']],
    ['network', ['gateway', 'ingest']],
  ] as const) {
    const manifests = render(profile);
    const { spec } = named(manifests, 'Service', 'gantry');
    assert.deepEqual(
      spec.ports.map(({ targetPort }: Manifest) => targetPort),
      ['http', 'dimse'],
    );
    const selected = podsOf(manifests).filter(({ metadata }) =>
      Object.entries(spec.selector).every(([label, value]) => metadata.labels?.[label] === value),
    );
    assert.deepEqual(selected.map(({ metadata }) => metadata.labels['app.kubernetes.io/component']).sort(), doors);
    for (const port of ['http', 'dimse']) {
      const holders = selected.filter(({ spec: pod }) =>
        pod.containers.some(({ ports }: Manifest) => ports.some(({ name }: Manifest) => name === port)),
      );
      assert.equal(holders.length, 1, `${profile}: ${port}`);
    }
  }
});

test('two containers in one pod share no port', () => {
  const { spec } = named(render('hospital'), 'Deployment', 'gantry-ingest');
  const ports = spec.template.spec.containers.flatMap(({ ports }: Manifest) => ports);
  for (const field of ['name', 'containerPort']) {
    const all = ports.map((port: Manifest) => port[field]);
    assert.equal(new Set(all).size, all.length, field);
  }
});

test('where senders’ addresses are lost, one sender’s share of memory is all of it', () => {
  const share = (...sets: string[]) =>
    parse(named(render('trial', ...sets), 'ConfigMap', 'gantry-settings').data['ingest.yaml'])[
      'ingest.permitBytesPerSender'
    ];
  assert.equal(share(), undefined);
  assert.equal(share('exposure.externalTrafficPolicy="Cluster"'), '256MiB');
  assert.equal(share('exposure.externalTrafficPolicy="Cluster"', 'settings={"ingest.permitBytes":"1GiB"}'), '1GiB');
  assert.equal(share('exposure.externalTrafficPolicy="Cluster"', 'exposure.sourceAddressesKept=true'), undefined);
});

const settingsOf = (role: string, profile: string, ...sets: string[]) =>
  parse(named(render(profile, ...sets), 'ConfigMap', 'gantry-settings').data[`${role}.yaml`]) as Record<
    string,
    unknown
  >;

test('a bundled Elasticsearch has no second node for a copy; with one of your own that is for its settings to say', () => {
  const trial = settingsOf('index', 'trial');
  assert.deepEqual(trial['index.elasticsearchNodes'], ['http://gantry-elasticsearch:9200']);
  assert.equal(trial['index.elasticsearchReplicas'], 0);
  const hospital = settingsOf('index', 'hospital');
  assert.deepEqual(hospital['index.elasticsearchNodes'], ['https://elasticsearch-es-http.elastic:9200']);
  assert.equal(hospital['index.elasticsearchApiKeyFile'], '/etc/gantry/elasticsearch/apiKey');
  assert.equal(hospital['index.elasticsearchReplicas'], undefined);
  assert.equal(
    settingsOf('index', 'trial', 'elasticsearch={"embedded":true,"bundled":{"enabled":false}}')[
      'index.elasticsearchNodes'
    ],
    undefined,
  );
});

test('Elastic’s own image finds a place for what it writes beside its program; another image is started by its command', () => {
  const podOf = (...sets: string[]) =>
    named(render('trial', ...sets), 'StatefulSet', 'gantry-elasticsearch').spec.template.spec;
  const theirs = podOf();
  assert.deepEqual(
    theirs.initContainers.map(({ command }: Manifest) => command),
    [['cp', '-r', '/usr/share/elasticsearch/config/.', '/copy/']],
  );
  assert.deepEqual(
    theirs.containers[0].volumeMounts.map(({ mountPath }: Manifest) => mountPath),
    ['/usr/share/elasticsearch/config', '/usr/share/elasticsearch/logs', '/data'],
  );
  const other = podOf('elasticsearch.bundled.command=["java","-version"]');
  assert.equal(other.initContainers, undefined);
  assert.deepEqual(other.containers[0].command, ['java', '-version']);
  assert.deepEqual(
    other.containers[0].volumeMounts.map(({ mountPath }: Manifest) => mountPath),
    ['/data'],
  );
});

test('an idle association goes on as long as the drain, unless somebody says less', () => {
  assert.equal(settingsOf('ingest', 'hospital')['dimse.drainIdleMs'], '600s');
  assert.equal(settingsOf('ingest', 'trial', 'drainSeconds=30')['dimse.drainIdleMs'], '30s');
  assert.equal(settingsOf('ingest', 'trial', 'settings={"dimse.drainIdleMs":"3s"}')['dimse.drainIdleMs'], '3s');
});

test('NATS: copies of a stream are what was said, or what the processes see; bundled it takes messages of 8 MB', () => {
  const copies = (profile: string, ...sets: string[]) => settingsOf('auth', profile, ...sets)['platform.natsReplicas'];
  assert.equal(copies('trial'), 0);
  assert.equal(copies('hospital'), 3);
  const headless = ['nats.replicas=3', 'nats.bundled.enabled=false', 'nats.servers=["nats://nats.nats:4222"]'];
  assert.equal(copies('trial', ...headless), 3);
  assert.match(named(render('trial'), 'ConfigMap', 'gantry-nats').data['nats.conf'], /^max_payload: 8MB$/m);
});

test('NetworkPolicies: nothing by default; who calls whom, and nobody else', () => {
  const manifests = render('network');
  const policies = ofKind(manifests, 'NetworkPolicy');
  const standing = named(policies, 'NetworkPolicy', 'gantry-default').spec;
  assert.deepEqual(standing.policyTypes, ['Ingress', 'Egress']);
  assert.equal(standing.ingress ?? standing.egress, undefined);
  const callers = (role: string) =>
    (named(policies, 'NetworkPolicy', `gantry-${role}`).spec.ingress ?? [])
      .filter(({ ports }: Manifest) => ports?.some(({ port }: Manifest) => port === 'grpc'))
      .flatMap(({ from }: Manifest) =>
        from.map((one: Manifest) => one.podSelector.matchLabels['app.kubernetes.io/component']),
      )
      .sort();
  assert.deepEqual(callers('gateway'), []);
  assert.deepEqual(callers('ingest'), ['gateway']);
  assert.deepEqual(callers('storage'), ['gateway', 'index']);
  assert.deepEqual(callers('index'), ['gateway', 'ingest', 'storage']);
  assert.deepEqual(callers('auth'), ['gateway', 'ingest']);
  const dimse = named(policies, 'NetworkPolicy', 'gantry-ingest').spec.ingress.find(
    ({ ports }: Manifest) => ports?.[0].port === 'dimse',
  );
  assert.deepEqual(dimse.from, [{ ipBlock: { cidr: '10.0.0.0/8' } }]);
  // Every pod of the release is under a policy that opens something for it, or the default alone.
  for (const { metadata, of } of podsOf(manifests))
    assert.equal(metadata.labels['app.kubernetes.io/instance'], 'gantry', of.metadata.name);
  assert.equal(ofKind(render('trial', 'networkPolicy.enabled=false'), 'NetworkPolicy').length, 0);
});

test('nobody mounts a secret that it does not use', () => {
  const holders = (secret: string) =>
    podsOf(render('network'))
      .filter(({ spec }) => spec.volumes?.some((volume: Manifest) => volume.secret?.secretName === secret))
      .map(({ metadata }) => metadata.labels['app.kubernetes.io/component'])
      .sort();
  assert.deepEqual(holders('gantry-http-tokens'), ['auth', 'gateway']);
  assert.deepEqual(holders('gantry-s3-keys'), ['index', 'ingest', 'storage']);
  assert.deepEqual(holders('gantry-elasticsearch-key'), ['index']);
});

test('new settings of one role are new pods of that role alone', () => {
  const digests = (...sets: string[]) =>
    Object.fromEntries(
      ofKind(render('trial', ...sets), 'Deployment').map(({ metadata, spec }) => [
        metadata.name,
        spec.template.metadata.annotations['gantry/settings'],
      ]),
    );
  const [before, after] = [digests(), digests('roles.index.settings={"index.readers":4}')];
  assert.deepEqual(
    Object.keys(before).filter((name) => before[name] !== after[name]),
    ['gantry-index'],
  );
});

test('the chart lets through what services/roles.ts says that a role needs or asks', () => {
  const policies = ofKind(render('network'), 'NetworkPolicy');
  for (const role of ROLES) {
    const { needs, asks } = ROLE_TABLE[role as 'ingest'];
    // `gateway.dimse` is served by the pods of the DIMSE door.
    const wanted = [
      ...new Set([...needs, ...asks].map((name) => ((name as string) === 'gateway.dimse' ? 'ingest' : name))),
    ].sort();
    const reached = (named(policies, 'NetworkPolicy', `gantry-${role}`).spec.egress as Manifest[])
      .filter(({ ports }) => ports?.some(({ port }: Manifest) => port === 'grpc'))
      .flatMap(({ to }) => to.map((one: Manifest) => one.podSelector.matchLabels['app.kubernetes.io/component']))
      .sort();
    assert.deepEqual(reached, wanted, role);
  }
});

test('each setting that the chart writes is one that the processes know', async () => {
  const known = new Set(
    [platformSettings, ...(await allModules()).map(({ settings }) => settings)].flatMap((table) => Object.keys(table)),
  );
  let looked = 0;
  for (const profile of PROFILES)
    for (const text of Object.values(
      named(render(profile), 'ConfigMap', 'gantry-settings').data as Record<string, string>,
    ))
      for (const key of Object.keys(parse(text))) {
        looked++;
        assert.ok(known.has(key), `${profile}: ${key}`);
      }
  assert.ok(looked > 300);
});

test('each metric that a scaler asks for is one that the processes count', () => {
  const names = render('network')
    .filter(({ kind }) => kind === 'ScaledObject')
    .flatMap(({ spec }) => spec.triggers.filter(({ type }: Manifest) => type === 'prometheus'))
    .flatMap(({ metadata }: Manifest) => metadata.query.match(/gantry_\w+/g) as string[]);
  const services = join(CHART, '../../services');
  const source = (readdirSync(services, { recursive: true }) as string[])
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .map((file) => readFileSync(join(services, file), 'utf8'))
    .join('\n');
  assert.ok(names.length >= 7);
  for (const name of new Set(names)) assert.ok(source.includes(`'${name}'`), name);
});

test('KEDA takes what the chart gives it: fallback only beside signals, and it may follow an HPA', () => {
  const scaledObject = (...sets: string[]) => named(render('network', ...sets), 'ScaledObject', 'gantry-ingest').spec;
  assert.equal(scaledObject().fallback.behavior, 'currentReplicasIfHigher');
  // "at least one trigger (that is not cpu or memory) …": what its webhook says.
  assert.equal(scaledObject('roles.ingest.scaler.signals=[]').fallback, undefined);
  // "the workload … is already managed by the hpa …": neither, while Helm has not removed it yet.
  const [hpa] = ofKind(render('network', 'keda.enabled=false'), 'HorizontalPodAutoscaler');
  assert.equal(hpa!.metadata.annotations['validations.keda.sh/hpa-ownership'], 'false');
});
