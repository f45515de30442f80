{{/* What every pod of this chart is: Pod Security "restricted", and no token of the cluster. */}}
{{- define "gantry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "gantry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: what may go on, what stopping takes, and some. */}}
{{- define "gantry.grace" -}}{{ add (int .Values.drainSeconds) 45 }}{{- end -}}

{{/* {root, role} */}}
{{- define "gantry.container" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $role := .role -}}
{{- $r := get $v.roles $role -}}
{{- $facts := get (include "gantry.facts" $root | fromYaml) $role -}}
name: {{ $role }}
image: {{ include "gantry.image" $root }}
imagePullPolicy: {{ $v.image.pullPolicy }}
args: [{{ $role }}]
env:
  - {name: GANTRY_CONFIG, value: /etc/gantry/settings/{{ $role }}.yaml}
  - {name: GANTRY_DATA_DIR, value: /data}
  - {name: TMPDIR, value: /data}
ports:
  {{- with $facts.door }}
  - {name: {{ . }}, containerPort: {{ $facts.doorPort }}, protocol: TCP}
  {{- end }}
  {{- if $facts.serves }}
  - {name: grpc, containerPort: 9090, protocol: TCP}
  - {name: bulk, containerPort: 9091, protocol: TCP}
  {{- end }}
  - {name: {{ eq $role "gateway" | ternary "health-http" "health" }}, containerPort: {{ $facts.healthPort }}, protocol: TCP}
# A start may wait for its servers; a process that hangs is restarted; one that cannot serve gets nothing new.
startupProbe:
  httpGet: {path: /healthz, port: {{ $facts.healthPort }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /healthz, port: {{ $facts.healthPort }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ $facts.healthPort }}}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
# Until every node knows that this pod is going, some still send it connections: they are taken for so long.
lifecycle:
  preStop: {sleep: {seconds: 5}}
resources: {{ $r.resources | toJson }}
securityContext:
  {{- include "gantry.containerSecurity" $root | nindent 2 }}
volumeMounts:
  - {name: data-{{ $role }}, mountPath: /data}
  - {name: settings, mountPath: /etc/gantry/settings, readOnly: true}
  - {name: internal, mountPath: /etc/gantry/internal, readOnly: true}
  {{- range include "gantry.secretMounts" . | fromYamlArray }}
  - {name: {{ .name }}, mountPath: {{ .path }}, readOnly: true}
  {{- end }}
{{- end -}}

{{/* The secrets and certificates of a role, as {name, path, secret or configMap, items}: nobody mounts what it does not use. */}}
{{- define "gantry.secretMounts" -}}
{{- $v := .root.Values -}}
{{- $uses := (get (include "gantry.facts" .root | fromYaml) .role).uses -}}
{{- if and $v.http.tokenSecret.name (has .role (list "gateway" "auth")) }}
- {name: http, path: /etc/gantry/http, secret: {{ $v.http.tokenSecret.name }}, items: [{key: {{ $v.http.tokenSecret.key }}, path: tokens}]}
{{- end }}
{{- if has "s3" $uses }}
- {name: s3, path: /etc/gantry/s3, secret: {{ include "gantry.s3Secret" .root }}}
{{- with $v.s3.caConfigMap }}
- {name: s3-ca, path: /etc/gantry/s3-ca, configMap: {{ . }}}
{{- end }}
{{- end }}
{{- if has "nats" $uses }}
{{- with include "gantry.natsSecret" .root }}
- {name: nats, path: /etc/gantry/nats, secret: {{ . }}}
{{- end }}
{{- with $v.nats.caConfigMap }}
- {name: nats-ca, path: /etc/gantry/nats-ca, configMap: {{ . }}}
{{- end }}
{{- end }}
{{- if has "elasticsearch" $uses }}
{{- with $v.elasticsearch.existingSecret }}
- {name: elasticsearch, path: /etc/gantry/elasticsearch, secret: {{ . }}}
{{- end }}
{{- with $v.elasticsearch.caConfigMap }}
- {name: elasticsearch-ca, path: /etc/gantry/elasticsearch-ca, configMap: {{ . }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* {root, role}: the volumes of a workload, each once. */}}
{{- define "gantry.volumes" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $seen := dict -}}
- {name: settings, configMap: {name: {{ include "gantry.configMap" $root }}}}
- name: internal
  secret:
    secretName: {{ include "gantry.internalSecret" $root }}
    defaultMode: 0440
    items: [{key: {{ $v.internalToken.key }}, path: token}]
{{- range $container := splitList " " (include "gantry.containers" .) }}
- {name: data-{{ $container }}, emptyDir: {sizeLimit: {{ (get $v.roles $container).scratch }}}}
{{- range include "gantry.secretMounts" (dict "root" $root "role" $container) | fromYamlArray }}
{{- if not (hasKey $seen .name) }}
{{- $_ := set $seen .name true }}
{{- if .secret }}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- with .items }}
    items: {{ toJson . }}
    {{- end }}
{{- else }}
- {name: {{ .name }}, configMap: {name: {{ .configMap }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Out at once, as a morning begins; back one pod at a time, when it has been quiet for a while. */}}
{{- define "gantry.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 2, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDownSeconds }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}
