#!/usr/bin/env bash
# load.sh FILE.tar...: gives images (docker or OCI archives) to every node, those that come later included. A tag other than `latest`.
set -euo pipefail
source "$(dirname "$(readlink -f "$0")")/env.sh"
need_root "$0"
mkdir -p "$run/images"
for file in "$@"; do
  kept=$run/images/$(basename "$file")
  ln -f "$file" "$kept" 2>/dev/null || cp "$file" "$kept"
  for socket in "$containerd_socket" "$run"/n[0-9]*/containerd.sock; do
    [[ ! -S $socket ]] || ctr_of "$socket" images import "$kept"
  done
done
