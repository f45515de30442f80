# Sourced by the scripts beside it: one line a step, how long it took, and the log's end when it failed.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
export PATH="$root/node_modules/.bin:$PATH"
cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set: set it, or XDG_CACHE_HOME, to a folder that can be written}/.cache}/gantry

# step TEXT COMMAND...: runs it quietly and prints "TEXT ... 12 s".
step() {
  local text=$1 began=$SECONDS log
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/gantry-setup.XXXXXX")
  printf '  %-66s' "$text"
  if "$@" >"$log" 2>&1 </dev/null; then
    printf '%4d s\n' $((SECONDS - began))
    rm -f "$log"
  else
    local status=$?
    printf ' FAILED after %d s\n' $((SECONDS - began))
    tail -n 20 "$log" | sed 's/^/    | /'
    printf '    the whole log: %s\n' "$log"
    return "$status"
  fi
}

say() { printf '  %s\n' "$*"; }

in_ci() { [[ ${CI:-} == true ]]; }
