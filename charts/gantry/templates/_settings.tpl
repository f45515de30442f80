{{/*
gantry.yaml of a role: what the chart decides, and what values add. Takes {root, role, own}; own: only what the chart decides,
with every key it ever decides, so that nobody sets them twice.
*/}}
{{- define "gantry.settings" -}}
{{- $v := .root.Values -}}
{{- $name := include "gantry.name" .root -}}
{{- $facts := get (include "gantry.facts" .root | fromYaml) .role -}}
{{- $own := .own | default false -}}
{{- $s := dict -}}
{{- $_ := set $s "peers" $v.peers -}}
{{- $_ := set $s "dimse.aeTitle" $v.aeTitle -}}
{{- $_ := set $s "dimse.host" "0.0.0.0" -}}
{{- $_ := set $s "dimse.port" 11112 -}}
{{- $_ := set $s "http.host" "0.0.0.0" -}}
{{- $_ := set $s "http.port" 8080 -}}
{{- if or $v.http.publicUrl $own -}}{{- $_ := set $s "http.publicUrl" $v.http.publicUrl -}}{{- end -}}
{{- $hosts := $v.http.hosts -}}
{{- with include "gantry.publicHost" .root -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- range list $name (printf "%s.%s" $name .root.Release.Namespace) (printf "%s.%s.svc" $name .root.Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .root.Release.Namespace) -}}
{{- $hosts = append $hosts . -}}
{{- end -}}
{{- $_ := set $s "http.hosts" (uniq $hosts) -}}
{{- if or $v.http.trustedProxies $own -}}{{- $_ := set $s "http.trustedProxies" $v.http.trustedProxies -}}{{- end -}}
{{- if or $v.http.tokenSecret.name $own -}}{{- $_ := set $s "http.tokenFile" "/etc/gantry/http/tokens" -}}{{- end -}}
{{- if or $v.http.allowUnauthenticated $own -}}{{- $_ := set $s "http.allowUnauthenticated" true -}}{{- end -}}
{{- $_ := set $s "platform.logFormat" "json" -}}
{{- $_ := set $s "platform.auditTo" "stdout" -}}
{{- $_ := set $s "platform.drainMs" (printf "%ds" (int $v.drainSeconds)) -}}
{{- $_ := set $s "platform.stopMs" "20s" -}}
{{- $_ := set $s "platform.healthPort" (int $facts.healthPort) -}}
{{- $_ := set $s "platform.healthHost" "0.0.0.0" -}}
{{- $_ := set $s "platform.internalHost" "0.0.0.0" -}}
{{- $_ := set $s "platform.internalTokenFile" "/etc/gantry/internal/token" -}}
{{- if or $facts.serves $own -}}
{{- $_ := set $s "platform.grpcPort" 9090 -}}
{{- $_ := set $s "platform.bulkPort" 9091 -}}
{{- end -}}
{{- $endpoints := list (printf "gateway.dimse=%s-ingest:9090:9091" $name) -}}
{{- range list "auth" "index" "ingest" "storage" -}}{{- $endpoints = append $endpoints (printf "%s=%s-%s:9090:9091" . $name .) -}}{{- end -}}
{{- $_ := set $s "platform.endpoints" $endpoints -}}
{{- $_ := set $s "platform.natsServers" (splitList "," (include "gantry.natsServers" .root)) -}}
{{- if or (include "gantry.natsSecret" .root) $own -}}
{{- if or (eq $v.nats.kind "token") $own -}}{{- $_ := set $s "platform.natsTokenFile" "/etc/gantry/nats/token" -}}{{- end -}}
{{- if or (eq $v.nats.kind "creds") $own -}}{{- $_ := set $s "platform.natsCredsFile" "/etc/gantry/nats/creds" -}}{{- end -}}
{{- end -}}
{{- if or $v.nats.caConfigMap $own -}}{{- $_ := set $s "platform.natsTlsCaFile" "/etc/gantry/nats-ca/ca.crt" -}}{{- end -}}
{{- $_ := set $s "platform.natsReplicas" (int $v.nats.replicas) -}}
{{- $_ := set $s "storage.s3.endpoint" (include "gantry.s3Endpoint" .root) -}}
{{- $_ := set $s "storage.s3.region" $v.s3.region -}}
{{- $_ := set $s "storage.s3.bucket" $v.s3.bucket -}}
{{- range list "logBucket" "packBucket" "derivedBucket" -}}
{{- if or (get $v.s3 .) $own -}}{{- $_ := set $s (printf "storage.s3.%s" .) (get $v.s3 .) -}}{{- end -}}
{{- end -}}
{{- $_ := set $s "storage.s3.accessKeyFile" "/etc/gantry/s3/accessKey" -}}
{{- $_ := set $s "storage.s3.secretKeyFile" "/etc/gantry/s3/secretKey" -}}
{{- if or $v.s3.caConfigMap $own -}}{{- $_ := set $s "storage.s3.caFile" "/etc/gantry/s3-ca/ca.crt" -}}{{- end -}}
{{- if not $v.elasticsearch.embedded -}}
{{- $_ := set $s "index.elasticsearchNodes" (splitList "," (include "gantry.elasticsearchNodes" .root)) -}}
{{- end -}}
{{- if or $v.elasticsearch.existingSecret $own -}}
{{- if or (eq $v.elasticsearch.kind "apiKey") $own -}}{{- $_ := set $s "index.elasticsearchApiKeyFile" "/etc/gantry/elasticsearch/apiKey" -}}{{- end -}}
{{- if or (eq $v.elasticsearch.kind "password") $own -}}
{{- $_ := set $s "index.elasticsearchUserFile" "/etc/gantry/elasticsearch/username" -}}
{{- $_ := set $s "index.elasticsearchPasswordFile" "/etc/gantry/elasticsearch/password" -}}
{{- end -}}
{{- end -}}
{{- if or $v.elasticsearch.caConfigMap $own -}}{{- $_ := set $s "index.elasticsearchCaFile" "/etc/gantry/elasticsearch-ca/ca.crt" -}}{{- end -}}
{{- if not $own -}}
{{- $given := merge (dict) (get $v.roles .role).settings $v.settings -}}
{{- /* Every sender has the balancer's address where it is not kept: then a share of one sender is no share. */ -}}
{{- if and (not (include "gantry.sourceKept" .root)) (not (hasKey $given "ingest.permitBytesPerSender")) -}}
{{- $_ := set $s "ingest.permitBytesPerSender" (get $given "ingest.permitBytes" | default "256MiB") -}}
{{- end -}}
{{- /* The pause between two patients is no end: while the pod drains, a quiet association goes on as long as a busy one. */ -}}
{{- $_ := set $s "dimse.drainIdleMs" (get $s "platform.drainMs") -}}
{{- /* One server has nowhere to put a copy. */ -}}
{{- if $v.elasticsearch.bundled.enabled -}}{{- $_ := set $s "index.elasticsearchReplicas" 0 -}}{{- end -}}
{{- if not (hasKey $given "ingest.stowSpoolBytes") -}}
{{- $_ := set $s "ingest.stowSpoolBytes" (include "gantry.spool" .root) -}}
{{- end -}}
{{- $s = merge (dict) $given $s -}}
{{- end -}}
{{- $s | toYaml -}}
{{- end -}}

{{/* Three quarters of the scratch of ingest, in MiB: 10Gi → 7680MiB. */}}
{{- define "gantry.spool" -}}
{{- $scratch := .Values.roles.ingest.scratch -}}
{{- $number := regexFind "^[0-9]+" $scratch | int -}}
{{- $mib := ternary (mul $number 1024) $number (hasSuffix "Gi" $scratch) -}}
{{ div (mul $mib 3) 4 }}MiB
{{- end -}}

{{/* Changes with the settings of the containers of a workload, and with nothing else. */}}
{{- define "gantry.settingsDigest" -}}
{{- $root := .root -}}
{{- $all := "" -}}
{{- range splitList " " (include "gantry.containers" .) -}}
{{- $all = printf "%s%s" $all (include "gantry.settings" (dict "root" $root "role" .)) -}}
{{- end -}}
{{- sha256sum $all | trunc 16 -}}
{{- end -}}
