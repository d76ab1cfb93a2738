# shellcheck shell=bash
# Shared by the scripts in this folder; not for running by itself. Messages go to standard error,
# so that standard output carries results only.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quiet=${quiet:-}
logs=build/logs
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc 2>/dev/null || echo 2)}

# RESTKV_PIECES names a folder that carries from machine to machine what a set-up compiled and fetched. It is no more
# than the storage of ccache and of pip, which look at contents: what does not fit is made again.
pip_cache=(--no-cache-dir)
if [[ ${RESTKV_PIECES:-} ]]; then
  if [[ $RESTKV_PIECES == *[[:space:]\|]* ]]; then
    echo "error: RESTKV_PIECES='$RESTKV_PIECES': ccache takes no folder with spaces or '|' in its name" >&2
    exit 1
  fi
  [[ $RESTKV_PIECES == /* ]] || RESTKV_PIECES=$OLDPWD/$RESTKV_PIECES # where the script was called
  mkdir -p "$RESTKV_PIECES/pip" || {
    echo "error: RESTKV_PIECES='$RESTKV_PIECES' is no folder that can be written; name another one" >&2
    exit 1
  }
  pip_cache=(--cache-dir "$RESTKV_PIECES/pip")
  export RESTKV_PIECES CCACHE_REMOTE_STORAGE="file:$RESTKV_PIECES/ccache" CCACHE_RESHARE=1
fi

say() { [[ $quiet ]] || printf '%s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# A program that handles Ctrl-C itself ends like any failure; without this, it would look like one.
trap 'printf "interrupted; run it again to go on\n" >&2; exit 130' INT

# The newest "[done/total]" that ninja wrote into a log, if any.
ninja_progress() {
  tail -c 65536 "$1" 2>/dev/null | grep -oE '\[[0-9]+/[0-9]+\]' | tail -n 1 || true
}

# Prints a line about a running command every now and then (a terminal: one line, renewed).
report_progress() {
  local title=$1 log=$2 began=$SECONDS pause=15 line='  %s: %s s %s\n'
  if [[ -t 2 ]]; then
    pause=1
    line='\r\033[K  %s: %s s %s'
  fi
  # Sleep is redirected because it may outlive the script a little, and must not hold its pipes.
  while sleep "$pause" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    # shellcheck disable=SC2059
    printf "$line" "$title" $((SECONDS - began)) "$(ninja_progress "$log")" >&2
  done
}

# run_step <title> <log> <command...>: runs a command with its output in a log, showing what runs
# and for how long. Returns the command's status.
run_step() {
  local title=$1 log=$2 began=$SECONDS reporter='' status=0
  shift 2
  mkdir -p "$(dirname "$log")"
  : >"$log"
  say "$title ..."
  if [[ ! $quiet ]]; then
    # The lock of bootstrap must not outlive it in a forgotten reporter.
    report_progress "$title" "$log" 9>&- &
    reporter=$!
    # shellcheck disable=SC2064
    trap "kill $reporter 2>/dev/null || true" EXIT
  fi
  "$@" >"$log" 2>&1 </dev/null 9>&- || status=$?
  if [[ $reporter ]]; then
    kill "$reporter" 2>/dev/null || true
    wait "$reporter" 2>/dev/null || true
    trap - EXIT
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
  fi
  if ((status == 0)); then say "$title: done in $((SECONDS - began)) s"; fi
  return "$status"
}

# The part of a log that says what went wrong: compiler and CMake errors, else the end.
show_log() {
  local plain mistakes='(: (fatal )?error:|^FAILED|CMake Error)'
  plain=$(sed 's/\x1b\[[0-9;]*m//g' "$1")
  {
    if grep -qE "$mistakes" <<<"$plain"; then
      grep -E -A 8 "$mistakes" <<<"$plain" | sed -n '1,60p'
    else
      tail -n 25 <<<"$plain"
    fi
  } | sed 's/^/  | /' >&2
}
