#!/usr/bin/env bash
# run-tests.sh all | fast: node's own runner, its own summary. Set TESTS='services/index/**/*.test.ts' for a part of them.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

which=${1:?all or fast}
mapfile -t files < <(git ls-files --cached --others --exclude-standard -- 'services/**.test.ts' 'tools/**.test.ts' | sort -u)
if [[ $which == fast ]]; then
  # A test that starts someone else's program asks tools/setup/peers.ts or tools/servers for it.
  mapfile -t files < <(grep -LE 'setup/peers\.ts|servers/index\.ts|withoutServers' -- "${files[@]}")
fi
if [[ ${TESTS:-} ]]; then files=("$TESTS"); fi
if ((${#files[@]} == 0)); then
  echo 'No test was found: that cannot be right.' >&2
  exit 1
fi
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export GANTRY_PYTHON=${GANTRY_PYTHON:-$cache/python-$(sha256sum <tools/setup/requirements.txt | cut -c1-12)/bin/python}
# DCMTK sets no TCP_NODELAY by itself: without it each message waits 40 ms for an acknowledgement.
export TCP_NODELAY=1
echo "Running ${#files[@]} test files"
# A file that hangs fails after 20 minutes, so that the run still ends with a summary.
exec node --test --test-concurrency="$(nproc)" --test-timeout=1200000 "${files[@]}"
