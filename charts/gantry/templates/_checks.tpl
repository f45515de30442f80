{{/* What the schema cannot say. One sentence each: what is wrong, and what to do. */}}
{{- define "gantry.checks" -}}
{{- $v := .Values -}}
{{- if and (not $v.http.tokenSecret.name) (not $v.http.allowUnauthenticated) -}}
{{- fail "\n\nWho may use the HTTP door? Set http.tokenSecret.name to a Secret with one bearer token a line under the key `tokens`, or http.allowUnauthenticated=true if something in front of Gantry authenticates." -}}
{{- end -}}
{{- if and $v.http.tokenSecret.name $v.http.allowUnauthenticated -}}
{{- fail "\n\nhttp.tokenSecret.name and http.allowUnauthenticated are both set, so that a token would never be needed: remove one." -}}
{{- end -}}
{{- if and (not $v.s3.bundled.enabled) (not $v.s3.endpoint) -}}
{{- fail "\n\nWhere is the archive's bucket? Set s3.endpoint, s3.bucket and s3.existingSecret, or s3.bundled.enabled=true for a trial." -}}
{{- end -}}
{{- if and $v.s3.endpoint (not $v.s3.existingSecret) -}}
{{- fail "\n\nSet s3.existingSecret to a Secret with the keys accessKey and secretKey for s3.endpoint." -}}
{{- end -}}
{{- if and $v.s3.bundled.enabled $v.s3.endpoint -}}
{{- fail "\n\ns3.endpoint and s3.bundled.enabled are both set: which one is the archive? Remove one." -}}
{{- end -}}
{{- if and (not $v.nats.bundled.enabled) (not $v.nats.servers) -}}
{{- fail "\n\nWhere is NATS? Set nats.servers (and nats.existingSecret), or nats.bundled.enabled=true for a trial." -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled $v.nats.servers -}}
{{- fail "\n\nnats.servers and nats.bundled.enabled are both set: remove one." -}}
{{- end -}}
{{- $natsMib := regexFind "^[0-9]+" $v.nats.bundled.storage | int -}}
{{- if and $v.nats.bundled.enabled (lt (ternary (mul $natsMib 1024) $natsMib (hasSuffix "Gi" $v.nats.bundled.storage) | int) 2048) -}}
{{- fail (printf "\n\nnats.bundled.storage is %s, and JetStream refuses Gantry's streams on less than 2Gi." $v.nats.bundled.storage) -}}
{{- end -}}
{{- if and (not $v.elasticsearch.bundled.enabled) (not $v.elasticsearch.nodes) (not $v.elasticsearch.embedded) -}}
{{- fail "\n\nWhere is Elasticsearch? Set elasticsearch.nodes (and elasticsearch.existingSecret), or for a trial elasticsearch.bundled.enabled=true or elasticsearch.embedded=true." -}}
{{- end -}}
{{- if and $v.elasticsearch.embedded (or $v.elasticsearch.bundled.enabled $v.elasticsearch.nodes) -}}
{{- fail "\n\nelasticsearch.embedded is set, and an Elasticsearch too: remove one." -}}
{{- end -}}
{{- if and $v.elasticsearch.embedded (or $v.roles.index.scaler.enabled (ne (int $v.roles.index.replicas) 1)) -}}
{{- fail "\n\nelasticsearch.embedded needs roles.index.replicas=1 and roles.index.scaler.enabled=false: each index pod would keep an index of its own." -}}
{{- end -}}
{{- if and $v.elasticsearch.bundled.enabled $v.elasticsearch.nodes -}}
{{- fail "\n\nelasticsearch.nodes and elasticsearch.bundled.enabled are both set: remove one." -}}
{{- end -}}
{{- if and (eq $v.exposure.type "LoadBalancer") (eq $v.exposure.externalTrafficPolicy "Local") (eq $v.exposure.doors "apart") -}}
{{- fail "\n\nexposure.type=LoadBalancer with externalTrafficPolicy=Local needs exposure.doors=together: a balancer asks a node whether it has the Service, not which door of it, and would send associations to nodes that have only the HTTP door. Or set externalTrafficPolicy=Cluster (and sourceAddressesKept=true where your balancer keeps addresses in another way)." -}}
{{- end -}}
{{- if eq $v.exposure.type "Gateway" -}}
{{- if and (not $v.exposure.gateway.className) (not $v.exposure.gateway.parentRef.name) -}}
{{- fail "\n\nexposure.type=Gateway needs exposure.gateway.className (a Gateway is made) or exposure.gateway.parentRef.name (yours is used)." -}}
{{- end -}}
{{- end -}}
{{- if and $v.keda.enabled (not $v.keda.prometheusAddress) -}}
{{- fail "\n\nkeda.enabled needs keda.prometheusAddress, such as http://prometheus-operated.monitoring:9090: Gantry's signals are read there." -}}
{{- end -}}
{{- range $role, $r := $v.roles -}}
{{- if gt (int $r.scaler.minReplicas) (int $r.scaler.maxReplicas) -}}
{{- fail (printf "\n\nroles.%s.scaler: minReplicas (%d) is above maxReplicas (%d)." $role (int $r.scaler.minReplicas) (int $r.scaler.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- $owned := keys (include "gantry.settings" (dict "root" . "role" "ingest" "own" true) | fromYaml) -}}
{{- range $where, $settings := merge (dict "settings" $v.settings) (include "gantry.roleSettings" . | fromYaml) -}}
{{- range $key, $_ := $settings -}}
{{- if has $key $owned -}}
{{- fail (printf "\n\n%s names %s, which this chart decides from its other values." $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gantry.roleSettings" -}}
{{- range $role, $r := .Values.roles }}
roles.{{ $role }}.settings: {{ $r.settings | toJson }}
{{- end }}
{{- end -}}
