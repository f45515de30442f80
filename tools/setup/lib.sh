# Sourced by the scripts beside it: one line a step, how long it took, and the log's end when it failed.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
# npm runs on the node it came with: its system-wide settings (a hospital's registry and certificates) lie beside that one.
host_path=${PATH//"$root/node_modules/.bin:"/}
export PATH="$root/node_modules/.bin:$host_path"
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
    # What went wrong stands first (npm) or last (apt, pip).
    if (($(wc -l <"$log") > 24)); then sed -n '1,10p' "$log"; echo '...'; tail -n 14 "$log"; else cat "$log"; fi | sed 's/^/    | /'
    printf '    the whole log: %s\n' "$log"
    return "$status"
  fi
}

say() { printf '  %s\n' "$*"; }

in_ci() { [[ ${CI:-} == true ]]; }
