#!/usr/bin/env bash
# node.sh N:      one more real node (N: 1, 2, …) on this machine: a network namespace, bridge, containerd, kubelet and kube-proxy of its own
# node.sh N kill: a power failure: kill -9 of the node's kubelet, kube-proxy, containerd, shims and containers
# node.sh N rm:   the same, and every trace of it goes
set -euo pipefail
source "$(dirname "$(readlink -f "$0")")/env.sh"
need_root "$0"
number=${1:?the number of the node}
state=$run/n$number
namespace=$state/netns
name=gantry-$number
address=10.243.$number.2
gateway=10.243.$number.1
pods=10.244.$number.0/24
bridge_address=10.244.$number.1
socket=$state/containerd.sock

power_off() {
  local one shim containers=()
  for one in kubelet proxy containerd; do kill -9 "$(cat "$state/pid/$one" 2>/dev/null)" 2>/dev/null || true; done
  for shim in $(pgrep -f -- "containerd-shim-runc-v2 .*-address $socket"); do
    mapfile -t -O "${#containers[@]}" containers < <(pgrep -P "$shim")
    kill -9 "$shim" 2>/dev/null || true
  done
  for one in "${containers[@]}"; do kill -9 "$one" 2>/dev/null || true; done
}

case ${2:-up} in
  kill) power_off; exit 0 ;;
  rm)
    power_off
    sleep 0.3
    for mount in $(mounts_below "$state"); do umount -l "$mount" || true; done
    ip link del "gkv$number" 2>/dev/null || true
    ip route del "$pods" 2>/dev/null || true
    for group in /sys/fs/cgroup/*/n"$number"; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
    rm -rf "$state"
    kubectl delete node "$name" --ignore-not-found 2>/dev/null || true
    exit 0
    ;;
esac

mkdir -p "$state"/{log,pid,cni,kubelet,containerd,state}
start() {
  local program=$1
  shift
  setsid nohup nsenter --net="$namespace" "$@" >"$state/log/$program.log" 2>&1 </dev/null 9>&- &
  echo $! >"$state/pid/$program"
}

# Not `ip netns add`: beside it the namespaces that CNI makes cannot be deleted.
touch "$namespace"
unshare --net="$namespace" true
ip link add "gkv$number" type veth peer name eth0 netns "$namespace"
ip addr add "$gateway/24" dev "gkv$number"
ip link set "gkv$number" up
nsenter --net="$namespace" bash -e <<INSIDE
ip link set lo up
ip addr add $address/24 dev eth0
ip link set eth0 up
ip route add default via $gateway
ip link add $bridge type bridge
ip addr add $bridge_address/24 dev $bridge
ip link set $bridge up
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
INSIDE
ip route add "$pods" via "$address"
for controller in cpu cpuacct cpuset memory pids devices freezer blkio systemd unified; do
  [[ ! -d /sys/fs/cgroup/$controller ]] || mkdir -p "/sys/fs/cgroup/$controller/n$number"
done
if [[ -d /sys/fs/cgroup/cpuset/n$number ]]; then
  for kind in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.$kind >"/sys/fs/cgroup/cpuset/n$number/cpuset.$kind"; done
fi
sed "s#$pod_cidr#$pods#; s#\"gateway\":\"$node_ip\"#\"gateway\":\"$bridge_address\"#; s#$run/cni/ipam#$state/cni/ipam#" \
  "$run/cni/10-gantry.conflist" >"$state/cni/10-gantry.conflist"
sed "s#$run/containerd\"#$state/containerd\"#; s#$run/ctrstate#$state/state#; s#$containerd_socket#$socket#; s#$run/cni#$state/cni#" \
  "$run/containerd.toml" >"$state/containerd.toml"
"$kube/pki.sh" "$run/pki" "$address" "$api_service_ip" "$name" "node$number"
start containerd containerd -c "$state/containerd.toml"
until_true 20 ctr_of "$socket" version
# Pods that land here need their images: the sandbox's, and what tools/kube/load.sh was told of.
for image in "$kube_home"/img/{pause,busybox}.tar "$run"/images/*.tar; do
  [[ ! -e $image ]] || ctr_of "$socket" images import "$image" >>"$state/log/import.log" 2>&1
done
sed "s#^address:.*#address: $address#; s#kubelet-server#node$number-server#; s#unix://.*#unix://$socket#; s#podlogs#n$number/podlogs#" "$run/kubelet.yaml" >"$state/kubelet.yaml"
echo "cgroupRoot: /n$number" >>"$state/kubelet.yaml"
start kubelet kubelet --config="$state/kubelet.yaml" --kubeconfig="$run/pki/node$number.kubeconfig" --hostname-override="$name" --node-ip="$address" --root-dir="$state/kubelet" --v=2
sed "s#hostnameOverride:.*#hostnameOverride: $name#; s#bindAddress: $node_ip#bindAddress: $address#" "$run/proxy.yaml" >"$state/proxy.yaml"
start proxy kube-proxy --config="$state/proxy.yaml"
until_true 60 kubectl get node "$name"
kubectl wait --for=condition=Ready "node/$name" --timeout=60s
kubectl label node "$name" topology.kubernetes.io/zone=there --overwrite >/dev/null
