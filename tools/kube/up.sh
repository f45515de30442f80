#!/usr/bin/env bash
# up.sh: a whole Kubernetes of one node from what build.sh built; ready in under 30 s. `node.sh` adds nodes, `down.sh` removes it all.
# Then: export KUBECONFIG=$(tools/kube/up.sh | tail -1). Running already: it says so and changes nothing.
set -euo pipefail
source "$(dirname "$(readlink -f "$0")")/env.sh"
need_root "$0"
"$kube/build.sh" >&2
alone

if kubectl get --raw /readyz >/dev/null 2>&1; then
  echo "$KUBECONFIG"
  exit 0
fi
# The rest of a run that was killed.
[[ ! -d $run/pid ]] || GANTRY_KUBE_LOCKED=1 "$kube/down.sh" >&2

began=$(date +%s%N)
said() { printf '  %5.1f s  %s\n' "$((($(date +%s%N) - began) / 100000000))e-1" "$*" >&2; }
mkdir -p "$run"/{log,pid,cni,kubelet,etcd,containerd,ctrstate}

# Each in a session of its own, so that it outlives this script; down.sh ends it by its pid.
start() {
  local name=$1
  shift
  setsid nohup "$@" >"$run/log/$name.log" 2>&1 </dev/null 8>&- 9>&- &
  echo $! >"$run/pid/$name"
}
alive() { kill -0 "$(cat "$run/pid/$1")" 2>/dev/null || { echo "$1 died:" >&2; tail -20 "$run/log/$1.log" >&2; exit 1; }; }
ready() { alive etcd; alive apiserver; kubectl get --raw /readyz; }

# ---- Network ----
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
ip link show "$bridge" >/dev/null 2>&1 || {
  ip link add "$bridge" type bridge
  ip addr add "$node_ip/24" dev "$bridge"
  ip link set "$bridge" up
}
# What is for pods or services never leaves the machine, whatever runs or does not. The unreachable routes stay after down.sh, on purpose.
ip route replace "$service_cidr" dev "$bridge" src "$node_ip"
ip route replace unreachable 10.240.0.0/13 metric 9999
ip route replace unreachable "$service_cidr" metric 9999
# Pods reach the outside through the machine's address; between pods and nodes addresses stay as they are.
nft -f - <<'NFT'
table ip gantry
delete table ip gantry
table ip gantry {
  chain post {
    type nat hook postrouting priority 100
    ip saddr 10.244.0.0/16 ip daddr != { 10.243.0.0/16, 10.244.0.0/16 } masquerade
  }
}
NFT
# A dockerd, where one ran, leaves the policy of FORWARD on DROP.
if iptables -S FORWARD 2>/dev/null | grep -q -- '-P FORWARD DROP'; then
  for side in -s -d; do
    iptables -C FORWARD $side 10.240.0.0/13 -j ACCEPT 2>/dev/null || iptables -I FORWARD $side 10.240.0.0/13 -j ACCEPT
  done
fi
cat >"$run/cni/10-gantry.conflist" <<JSON
{"cniVersion":"1.0.0","name":"gantry","plugins":[
 {"type":"bridge","bridge":"$bridge","isGateway":true,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":"$run/cni/ipam","ranges":[[{"subnet":"$pod_cidr","gateway":"$node_ip"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
JSON
[[ -f $run/pki/proxy.kubeconfig ]] || "$kube/pki.sh" "$run/pki" "$node_ip" "$api_service_ip" "$node_name"
said 'network and certificates'

# ---- etcd, containerd, API server ----
start etcd etcd --name g --data-dir "$run/etcd" --unsafe-no-fsync \
  --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
  --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 --initial-cluster g=http://127.0.0.1:12380
cat >"$run/containerd.toml" <<TOML
version = 2
root = "$run/containerd"
state = "$run/ctrstate"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs","io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.local/pause:1"
  # Without CAP_SYS_RESOURCE oom_score_adj cannot be lowered, and runc would die of it.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
TOML
start containerd containerd -c "$run/containerd.toml"
pki=$run/pki
start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:12379 --bind-address="$node_ip" --advertise-address="$node_ip" --secure-port=6443 \
  --service-cluster-ip-range="$service_cidr" --authorization-mode=Node,RBAC --anonymous-auth=false --allow-privileged=true \
  --enable-admission-plugins=NodeRestriction --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --kubelet-certificate-authority="$pki/ca.crt" --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
  --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
  --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" --enable-aggregator-routing=true --profiling=false \
  --default-not-ready-toleration-seconds=5 --default-unreachable-toleration-seconds=5
until_true 20 ctr_of "$containerd_socket" version || { alive containerd; echo 'containerd does not answer' >&2; exit 1; }
(for image in "$kube_home"/img/*.tar; do ctr_of "$containerd_socket" images import "$image" >>"$run/log/import.log" 2>&1; done) &
importing=$!
until_true 60 ready || { echo 'the API server is not ready' >&2; exit 1; }
said 'API server'

# ---- Controllers, scheduler ----
start controller-manager kube-controller-manager --kubeconfig="$pki/controller-manager.kubeconfig" \
  --authentication-kubeconfig="$pki/controller-manager.kubeconfig" --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
  --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true --root-ca-file="$pki/ca.crt" \
  --service-account-private-key-file="$pki/sa.key" --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
  --service-cluster-ip-range="$service_cidr" --cluster-cidr=10.244.0.0/16 --requestheader-client-ca-file="$pki/front-proxy-ca.crt" \
  --horizontal-pod-autoscaler-sync-period=5s --horizontal-pod-autoscaler-cpu-initialization-period=15s \
  --horizontal-pod-autoscaler-initial-readiness-delay=5s --node-monitor-grace-period=20s
start scheduler kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" --authentication-kubeconfig="$pki/scheduler.kubeconfig" \
  --authorization-kubeconfig="$pki/scheduler.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false

# ---- kubelet, kube-proxy ----
cat >"$run/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# Refused by default since 1.35; some build machines have nothing else.
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
address: $node_ip
port: 10250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
containerRuntimeEndpoint: unix://$containerd_socket
clusterDomain: cluster.local
clusterDNS: [$dns_ip]
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: 100Mi, nodefs.available: 200Mi, imagefs.available: 200Mi, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 5s
serializeImagePulls: false
maxPods: 200
podLogsDir: $run/podlogs
makeIPTablesUtilChains: false
YAML
start kubelet kubelet --config="$run/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" --hostname-override="$node_name" --node-ip="$node_ip" --root-dir="$run/kubelet" --v=2
cat >"$run/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $pki/proxy.kubeconfig}
hostnameOverride: $node_name
clusterCIDR: 10.244.0.0/16
bindAddress: $node_ip
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0}
YAML
start proxy kube-proxy --config="$run/proxy.yaml"
wait "$importing"
said 'images imported'

# ---- DNS, volumes, metrics ----
for manifest in "$kube"/manifests/*.yaml; do
  sed "s,@DNSIP@,$dns_ip,g; s,@RUN@,$run,g" "$manifest" | kubectl apply -f - >>"$run/log/apply.log"
done
until_true 60 kubectl get node "$node_name" || { alive kubelet; exit 1; }
until_true 60 kubectl get serviceaccount default
kubectl wait --for=condition=Ready "node/$node_name" --timeout=90s >/dev/null
kubectl label node "$node_name" topology.kubernetes.io/zone=here --overwrite >/dev/null
said 'node Ready'
kubectl -n kube-system rollout status deployment --timeout=180s >/dev/null
said 'DNS, volumes and metrics'
echo "$KUBECONFIG"
