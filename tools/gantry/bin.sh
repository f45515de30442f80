#!/bin/sh
# `npx gantry …`: the checkout's own Node 24 on main.ts, wherever this is called from, also through npm's symbolic link.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
  esac
done
tools=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd -P) || exit 1
node=$tools/../../node_modules/.bin/node
if [ ! -x "$node" ]; then
  echo 'gantry: Node 24 is not set up yet: run `make setup` in the checkout' >&2
  exit 1
fi
exec "$node" "$tools/main.ts" "$@"
