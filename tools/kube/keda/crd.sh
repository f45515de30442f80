#!/usr/bin/env bash
# KEDA's own definition of a ScaledObject, out of its Go module (1 s), into the cache. Prints its path.
set -euo pipefail
source "$(dirname "$(readlink -f "$0")")/../env.sh"
keda_version=2.21.0
file=$cache/keda-$keda_version-scaledobjects.yaml

if [[ ! -f $file ]]; then
  mkdir -p "$cache"
  work=$(mktemp -d "${TMPDIR:-/tmp}/gantry-keda.XXXXXX")
  cd "$work"
  GOMODCACHE=$work GOFLAGS=-modcacherw GOTOOLCHAIN=auto go mod download "github.com/kedacore/keda/v2@v$keda_version"
  mv "github.com/kedacore/keda/v2@v$keda_version/config/crd/bases/keda.sh_scaledobjects.yaml" "$file"
  rm -rf "$work"
fi
echo "$file"
