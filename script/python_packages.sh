# shellcheck shell=bash
# Python packages, installed from script/requirements.lock and in no other way: a file that is not
# listed there with its SHA-256 is refused by pip before anything of it is used.

lock=script/requirements.lock

# locked <group>: its part of the lock, which is a requirements file for pip.
locked() {
  awk -v heading="# [$1]" '/^# \[/ {on = $0 == heading; found = found || on} on && !/^(#|$)/
    END {exit !found}' "$lock" || die "$lock has no group [$1]; script/lock writes it"
}

# new_venv <venv>: an empty one; nothing happens if it is there.
new_venv() {
  local venv=$1 log=$logs/venv.log
  [[ ! -d $venv/locked ]] || return 0
  python3 -m venv --clear "$venv" 2>"$log" || {
    show_log "$log"
    die "python3 could not create a virtual environment in $venv. Needed: Python 3.9 or newer with
the venv module (Debian: apt-get install python3-venv). Then run script/${0##*/} again."
  }
  mkdir "$venv/locked" # Last: without it, the next run starts over.
}

# install_group <venv> <group> <title> [options of pip...]: nothing happens if the very packages of
# the lock were installed before, which takes no network to see.
install_group() {
  local venv=$1 group=$2 stamp=$1/locked/$2 wanted
  wanted=$(locked "$group")
  [[ ! -e $stamp || $(<"$stamp") != "$wanted" ]] || return 0
  rm -f "$stamp"
  printf '%s\n' "$wanted" >"$stamp.new"
  with_pip "$venv" "$group" "$3" pip install --require-hashes --no-deps --force-reinstall \
    "${@:4}" -r "$stamp.new"
  mv "$stamp.new" "$stamp"
}

# install_file <venv> <file>: a wheel that was built here, which the lock cannot know; what it needs is there already.
install_file() {
  local venv=$1 file=$2 list=$1/locked/file.new
  printf './%s --hash=sha256:%s\n' "$file" "$(sha256sum "$file" | cut -d ' ' -f 1)" >"$list"
  with_pip "$venv" wheel-install "installing $(basename "$file")" pip install --require-hashes --no-deps \
    --force-reinstall --no-index -r "$list"
  rm "$list"
}

# fetch_group <venv> <group> <title> <folder> [options of pip...]: puts the files of the packages
# there instead of installing them.
fetch_group() {
  local venv=$1 group=$2 list=$1/locked/$2.new
  locked "$group" >"$list"
  with_pip "$venv" "$group" "$3" pip download --require-hashes --no-deps -d "$4" "${@:5}" -r "$list"
  rm "$list"
}

# with_pip <venv> <group> <title> <command of pip...>: a failure ends the script and says what helps.
with_pip() {
  local venv=$1 log=$logs/$2.log title=$3
  shift 3
  # Builds take what is in the venv: pip's isolated ones would fetch packages without hashes.
  run_step "$title" "$log" "$venv/bin/python" -m "$@" --no-build-isolation "${pip_cache[@]}" -v || {
    show_log "$log"
    die "$title failed; the whole output is in $log.
$(pip_remedy "$log")
Then run script/${0##*/} again."
  }
}

# What helps against the failure in a log of pip.
pip_remedy() {
  local log=$1
  if grep -q 'DO NOT MATCH THE HASHES' "$log"; then
    sed -n '/DO NOT MATCH THE HASHES/,$p' "$log" |
      awk '/==.* from / {sub(/#.*/, "", $3); sub(/.*\//, "", $3); package = $1; file = $3}
        $1 == "Got" {print package ": the file " file " is not one that the lock lists; its SHA-256 is " $2 "."}'
    cat <<TEXT
Nothing of it was installed. Either it was changed on the way (package index, mirror, proxy;
'python3 -m pip config list' shows what pip uses): get it from a source that you trust. Or $lock
is wrong ('git diff' shows if it was edited): script/lock renews it; look at what it changes.
TEXT
  elif grep -qiE 'No matching distribution|Connection|timed out|Max retries|resolution|proxy' "$log" &&
    ! grep -q '^ *FAILED:' "$log"; then
    cat <<'TEXT'
The packages could not be fetched: check the network, proxy and package index that pip uses
('python3 -m pip config list' shows them).
TEXT
  else
    echo 'Its last lines are above; the usual reasons are a full disk and too little memory.'
  fi
}
