#!/usr/bin/env bash
# Outlives whoever started servers, by a moment: when its standard input ends (that is: when that process is gone, by
# whatever signal), the servers are killed and their folders removed. Lines: pid N, gone N, dir PATH, removed PATH.
trap '' INT TERM HUP
declare -A pids dirs
while read -r what value; do
  case $what in
    pid) pids[$value]=1 ;;
    gone) unset "pids[$value]" ;;
    dir) dirs[$value]=1 ;;
    removed) unset "dirs[$value]" ;;
  esac
done
for pid in "${!pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
# A killed process may still be writing for an instant: a folder is removed until it stays away.
for dir in "${!dirs[@]}"; do
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$dir" 2>/dev/null && [[ ! -e $dir ]] && break
    sleep 0.1
  done
done
