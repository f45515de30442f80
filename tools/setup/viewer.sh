#!/usr/bin/env bash
# The OHIF viewer: the built dist of the npm package @ohif/app, kept outside the checkout, checked by version and digest.
# Without it Gantry works all the same, only /viewer is empty: so a failure here does not stop `make up`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

version=3.13.2
integrity=sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==
home=$cache/ohif-$version

# .integrity is written last, inside a folder that is renamed into place: where it stands, everything stands.
is_there() { [[ -f $home/.integrity && $(<"$home/.integrity") == "$integrity" ]]; }

digest() {
  node -e 'process.stdout.write("sha512-" + require("node:crypto").hash("sha512", require("node:fs").readFileSync(process.argv[1]), "base64"))' "$1"
}

if [[ ${1:-} == fetch ]]; then
  work=$(mktemp -d "$cache/.ohif.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  # Without a network it gives up in seconds: the start waits for it. In a folder of its own, so that the checkout's npm settings play no part.
  (cd "$work" && PATH=$host_path npm pack "@ohif/app@$version" --loglevel=error --ignore-scripts \
    --fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=4000)
  tarball=$(echo "$work"/*.tgz)
  found=$(digest "$tarball")
  if [[ $found != "$integrity" ]]; then
    echo "@ohif/app@$version is not the package that was pinned: expected $integrity, found $found"
    exit 1
  fi
  mkdir "$work/dist"
  tar -xzf "$tarball" -C "$work/dist" --strip-components=2 package/dist
  echo "$integrity" >"$work/dist/.integrity"
  # -T: never into a folder that another run has put there meanwhile; that run's result is as good.
  is_there || { rm -rf "$home" && mv -T "$work/dist" "$home"; }
  exit 0
fi

is_there && exit 0
if mkdir -p "$cache" && step "OHIF viewer $version (50 MB, into ${home/#"$HOME"/\~})" "$0" fetch; then
  exit 0
fi
say 'The viewer could not be fetched: /viewer stays empty until a start with a network. All else works.'
! in_ci
