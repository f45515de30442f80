{{- define "gantry.name" -}}
{{- $base := .Values.nameOverride | default (ternary .Release.Name (printf "%s-gantry" .Release.Name) (contains "gantry" .Release.Name)) -}}
{{- $base | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "gantry.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What selects: never changes in the life of a release. Takes {root, role}. */}}
{{- define "gantry.selector" -}}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "gantry.labels" -}}
{{ include "gantry.selector" . }}
app.kubernetes.io/part-of: gantry
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* The roles that are workloads: all, or without `gateway` when it runs in the pods of the DIMSE door. */}}
{{- define "gantry.workloads" -}}
{{- if eq .Values.exposure.doors "together" -}}ingest storage index auth{{- else -}}gateway ingest storage index auth{{- end -}}
{{- end -}}

{{/* The containers of a workload. */}}
{{- define "gantry.containers" -}}
{{- if and (eq .role "ingest") (eq .root.Values.exposure.doors "together") -}}ingest gateway{{- else -}}{{ .role }}{{- end -}}
{{- end -}}

{{/* What every role is and says. Two containers of one pod share its ports, so the gateway's health has one of its own. */}}
{{- define "gantry.facts" -}}
gateway: {door: http, doorPort: 8080, healthPort: 9093, serves: false, calls: [storage, index, ingest, auth], uses: [nats]}
ingest: {door: dimse, doorPort: 11112, healthPort: 9092, serves: true, calls: [index, auth], uses: [nats, s3]}
storage: {healthPort: 9092, serves: true, calls: [index], uses: [nats, s3]}
index: {healthPort: 9092, serves: true, calls: [storage], uses: [nats, s3, elasticsearch]}
auth: {healthPort: 9092, serves: true, calls: [], uses: [nats]}
{{- end -}}

{{- define "gantry.configMap" -}}{{ include "gantry.name" . }}-settings{{- end -}}
{{- define "gantry.internalSecret" -}}{{ .Values.internalToken.existingSecret | default (printf "%s-internal" (include "gantry.name" .)) }}{{- end -}}
{{- define "gantry.s3Secret" -}}{{ .Values.s3.existingSecret | default (printf "%s-s3" (include "gantry.name" .)) }}{{- end -}}
{{- define "gantry.natsSecret" -}}{{ .Values.nats.existingSecret | default (ternary (printf "%s-nats" (include "gantry.name" .)) "" .Values.nats.bundled.enabled) }}{{- end -}}

{{- define "gantry.s3Endpoint" -}}
{{- if .Values.s3.bundled.enabled -}}http://{{ include "gantry.name" . }}-s3:7070{{- else -}}{{ .Values.s3.endpoint }}{{- end -}}
{{- end -}}
{{- define "gantry.natsServers" -}}
{{- if .Values.nats.bundled.enabled -}}nats://{{ include "gantry.name" . }}-nats:4222{{- else -}}{{ join "," .Values.nats.servers }}{{- end -}}
{{- end -}}
{{- define "gantry.elasticsearchNodes" -}}
{{- if .Values.elasticsearch.bundled.enabled -}}http://{{ include "gantry.name" . }}-elasticsearch:9200{{- else -}}{{ join "," .Values.elasticsearch.nodes }}{{- end -}}
{{- end -}}

{{/* Whether a door sees who connects. Pods inside the cluster are seen as they are. */}}
{{- define "gantry.sourceKept" -}}
{{- $e := .Values.exposure -}}
{{- if or $e.sourceAddressesKept (eq $e.type "ClusterIP") (and (has $e.type (list "LoadBalancer" "NodePort")) (eq $e.externalTrafficPolicy "Local")) -}}true{{- end -}}
{{- end -}}

{{/* https://pacs.example:8443/x → pacs.example */}}
{{- define "gantry.publicHost" -}}
{{- with .Values.http.publicUrl -}}{{ regexReplaceAll ":[0-9]+$" (get (urlParse .) "host") "" }}{{- end -}}
{{- end -}}
