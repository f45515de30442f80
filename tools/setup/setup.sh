#!/usr/bin/env bash
# Node 24 and the npm packages of package-lock.json. Warm it costs one checksum; offline it works once it has run.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

stamp=node_modules/.gantry-setup
# What is installed and for which machine: a checkout shared between two kinds of machine sets up again.
wanted="$(sha256sum <package-lock.json | cut -d' ' -f1) $(uname -sm)"

is_node_24() { [[ $(node_modules/.bin/node --version 2>/dev/null) == v24.* ]]; }
is_stamped() { [[ -f $stamp && $(<"$stamp") == "$wanted" && -x node_modules/.bin/node ]]; }

# `npm install something` leaves what `npm ci` would: then nothing needs to be installed again.
is_installed() {
  is_node_24 && node_modules/.bin/node -e '
    const { readFileSync } = require("node:fs");
    const packages = (file) => JSON.parse(readFileSync(file, "utf8")).packages;
    const there = packages("node_modules/.package-lock.json");
    const differs = Object.entries(packages("package-lock.json")).filter(([path, wanted]) =>
      path !== "" && !(wanted.optional && !there[path]) && there[path]?.integrity !== wanted.integrity);
    process.exit(differs.length ? 1 : 0);' 2>/dev/null
}

is_stamped && exit 0
command -v npm >/dev/null || {
  echo 'Gantry needs npm (any version) for the first setup; on Debian and Ubuntu: sudo apt-get install npm' >&2
  exit 1
}

# Two `make` in one checkout must not install over each other (flock is in util-linux, so on every Linux).
mkdir -p "$cache"
exec 9>"$cache/setup-$(sha256sum <<<"$root" | cut -c1-16).lock"
flock 9
is_stamped && exit 0
if is_installed; then
  echo "$wanted" >"$stamp"
  exit 0
fi

# The host's own node only runs npm (so its age does not matter); Gantry runs on the Node 24 that npm brings.
export PATH=$host_path
# --include=dev: NODE_ENV=production in someone's shell would leave out what the demo and the checks need.
packages() { npm ci --include=dev --no-audit --no-fund --no-progress --engine-strict=false; }

# The package `node` fetches its binary in an install script. Where scripts are switched off (`ignore-scripts`, common in
# hospitals, and the way that newer npm versions go) this one alone is run by hand.
node_binary() (
  cd node_modules/node
  npm_config_ignore_scripts=false node installArchSpecificPackage.js
  ln -sf ../node/bin/node ../.bin/node
)

echo 'Setting up Gantry (once; later runs skip this)'
step "Node 24 and the libraries, with npm $(npm --version 2>/dev/null)" packages
is_node_24 || step 'the Node 24 binary (npm did not run install scripts)' node_binary
if ! is_node_24; then
  echo 'node_modules/.bin/node is not a Node 24 that runs here. Gantry needs Linux on x64 or arm64 with glibc 2.28 or newer.' >&2
  exit 1
fi
echo "$wanted" >"$stamp"
