#!/usr/bin/env bash
# down.sh: ends what up.sh and node.sh started, by pid, and removes every trace of it but two unreachable routes.
set -uo pipefail
source "$(dirname "$(readlink -f "$0")")/env.sh"
need_root "$0"
[[ ${GANTRY_KUBE_LOCKED:-} ]] || alone
for node in "$run"/n[0-9]*; do [[ ! -d $node ]] || "$kube/node.sh" "${node##*/n}" rm >/dev/null 2>&1; done

ends() { ! kill -0 "$1" 2>/dev/null; }
stop() {
  local pid
  pid=$(cat "$run/pid/$1" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null
  until_true 3 ends "$pid" || kill -9 "$pid" 2>/dev/null
  rm -f "$run/pid/$1"
}
for program in kubelet proxy scheduler controller-manager; do stop "$program" & done
wait
for pid in $(ctr_of "$containerd_socket" tasks ls 2>/dev/null | awk 'NR > 1 && $2 > 0 {print $2}'); do kill -9 "$pid" 2>/dev/null; done
sleep 0.5
for container in $(ctr_of "$containerd_socket" containers ls -q 2>/dev/null); do
  ctr_of "$containerd_socket" tasks rm -f "$container" >/dev/null 2>&1
  ctr_of "$containerd_socket" containers rm "$container" >/dev/null 2>&1
done
for program in apiserver etcd containerd; do stop "$program"; done
for pid in $(pgrep -f -- "containerd-shim-runc-v2 .*-address $containerd_socket"); do kill -9 "$pid" 2>/dev/null; done
for mount in $(mounts_below "$run"); do umount -l "$mount"; done
for namespace in /run/netns/cni-*; do [[ ! -e $namespace ]] || { umount -l "$namespace" 2>/dev/null; rm -f "$namespace"; }; done
[[ ! -f $run/proxy.yaml ]] || kube-proxy --cleanup --config="$run/proxy.yaml" >/dev/null 2>&1
# What CNI's portmap and kube-proxy left in the nat table.
iptables-save -t nat 2>/dev/null | grep -E 'CNI-|KUBE-' | grep -E '^-A (PREROUTING|OUTPUT|POSTROUTING)' | sed 's/^-A/-D/' | while read -r rule; do eval "iptables -w -t nat $rule"; done
chains=$(iptables-save -t nat 2>/dev/null | sed -n 's/^:\(CNI-[^ ]*\).*/\1/p')
for chain in $chains; do iptables -w -t nat -F "$chain"; done
for chain in $chains; do iptables -w -t nat -X "$chain" 2>/dev/null; done
for side in -s -d; do iptables -D FORWARD $side 10.240.0.0/13 -j ACCEPT 2>/dev/null; done
nft delete table ip gantry 2>/dev/null
ip link del "$bridge" 2>/dev/null
find /sys/fs/cgroup -maxdepth 3 -type d -name kubepods 2>/dev/null | while read -r group; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; done
rm -rf "$run"
exit 0
