#!/usr/bin/env bash
# python_packages_test.sh lock|install <source folder> <scratch folder>
set -euo pipefail
topic=$1 source=$2 scratch=$3
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}

expect_in() { # expect_in <text> <file>
  grep -qF -- "$1" "$2" || { fail "'$1' is not in what was said:"; cat "$2"; }
}

# ---- The lock itself, and that nothing goes past it ---------------------------------------------

test_lock() {
  cd "$source"
  # Whatever can install or fetch a package stands in one place, with hashes.
  local line
  while IFS= read -r line; do
    fail "a package could get in without a hash: $line"
  done < <(
    {
      grep -rnE '\b(pip3?|uv)("|'\''|,)* *("|'\''|,)*(install|download|wheel|sync|run|tool)\b|\b(pipx|easy_install|ensurepip|uvx|conda|npm|wget)\b|--upgrade-deps' \
        script .ci cmake src benchmarks tests/server docs README.md CMakeLists.txt CMakePresets.json
      # Documents and the server's greeting show how to ask a server with it.
      grep -rnE '\bcurl\b' script .ci cmake benchmarks CMakeLists.txt CMakePresets.json
    } | grep -vE 'pip (install|download) --require-hashes|^script/bootstrap:[0-9]+:(python3-venv |curl  |libcurl4-openssl-dev )'
  )
  grep -q 'pip install --require-hashes --no-deps' script/python_packages.sh || fail 'the test is blind'
  grep -q -- '--no-build-isolation' script/python_packages.sh || fail 'builds fetch without hashes'

  python3 - <<'PYTHON' || failures=$((failures + 1))
import re, sys

def groups(path):
    found, group = {}, None
    for line in open(path).read().replace("\\\n", " ").splitlines():
        if heading := re.match(r"# \[(.+?)\]", line):
            group = found.setdefault(heading[1], [])
        elif line.strip() and not line.startswith("#"):
            group.append(line)
    return found

wanted, locked = groups("script/requirements.in"), groups("script/requirements.lock")
wrong = []
if list(wanted) != list(locked):
    wrong.append(f"groups {list(wanted)} are locked as {list(locked)}")
for group, lines in locked.items():
    for line in lines:
        if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^#]*?)?( +--hash=sha256:[0-9a-f]{64})+ *", line):
            wrong.append(f"[{group}] is not a version with hashes: {line}")
    names = {re.split("==| ", line)[0]: line for line in lines}
    for line in wanted.get(group, []):
        name = re.match(r"[\w-]+", line)[0]
        exact = re.match(r"[\w-]+==[\w.]+", line)
        if name not in names or exact and not names[name].startswith(exact[0]):
            wrong.append(f"[{group}] has no {line}; run script/lock")
    if not lines:
        wrong.append(f"[{group}] is empty")
text = open("script/requirements.lock").read()
if "://" in text:
    wrong.append("the lock names a host")
print("\n".join(f"FAILED: {x}" for x in wrong))
sys.exit(bool(wrong))
PYTHON
}

# ---- What happens when a package is set up --------------------------------------------------------

# A package of one file, as a wheel: make_wheel <name> <content>.
make_wheel() {
  python3 - "$@" <<'PYTHON'
import sys, zipfile
name, content = sys.argv[1:]
info = f"{name}-1.0.dist-info"
with zipfile.ZipFile(f"index/{name}-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr(f"{name}.py", content)
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
PYTHON
}

# A source package whose build needs the package `builder`.
make_source() {
  mkdir thing-1.0
  printf '[build-system]\nrequires = ["builder"]\nbuild-backend = "builder"\n' >thing-1.0/pyproject.toml
  printf 'Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n' >thing-1.0/PKG-INFO
  tar czf index/thing-1.0.tar.gz thing-1.0
}

hash_of() { sha256sum "index/$1" | cut -d ' ' -f 1; }

write_lock() { # write_lock <hash of demo>
  cat >script/requirements.lock <<TEXT
# [demo]
demo==1.0 \\
    --hash=sha256:$1

# [bare]
bare==1.0

# [source]
thing==1.0 \\
    --hash=sha256:$(hash_of thing-1.0.tar.gz)
TEXT
}

# install <group> [options...]: as script/bootstrap does; what it says is in `said`.
install() {
  bash -c 'source script/common.sh; source script/python_packages.sh
    mkdir -p "$logs"; new_venv build/venv; install_group build/venv "$1" "installing $1" "${@:2}"' \
    script/bootstrap "$@" >said 2>&1
}

# fetch <group> <folder>: as script/bootstrap does with a source archive.
fetch() {
  bash -c 'source script/common.sh; source script/python_packages.sh
    fetch_group build/venv "$1" "fetching $1" "$2"' script/bootstrap "$@" >said 2>&1
}

test_install() {
  rm -rf "$scratch"
  mkdir -p "$scratch/script" "$scratch/index"
  cd "$scratch"
  cp "$source"/script/{common.sh,python_packages.sh} script
  export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/index PIP_CONFIG_FILE=/dev/null
  make_wheel demo 'answer = 1'
  make_wheel bare ''
  make_source
  local good wrong
  good=$(hash_of demo-1.0-py3-none-any.whl)
  wrong=${good//[0-7]/8}

  write_lock "$wrong"
  ! install demo || fail 'a wrong hash was accepted'
  expect_in 'demo==1.0: the file demo-1.0-py3-none-any.whl is not one that the lock lists' said
  expect_in "its SHA-256 is $good" said
  expect_in 'script/lock renews it' said
  expect_in 'Then run script/bootstrap again' said
  ! build/venv/bin/python -c 'import demo' 2>/dev/null || fail 'the refused package was installed'

  write_lock "$good"
  ! install bare || fail 'a package without a hash was accepted'
  expect_in 'Hashes are required' said
  install demo || { fail 'the right hash was refused'; cat said; }
  build/venv/bin/python -c 'import demo; assert demo.answer == 1' || fail 'it was not installed'

  # Fetched instead of installed: the same checks.
  fetch demo files || { fail 'the right hash was not fetched'; cat said; }
  [[ -s files/demo-1.0-py3-none-any.whl ]] || fail 'nothing was fetched'
  ! fetch bare files || fail 'a package without a hash was fetched'
  expect_in 'Hashes are required' said

  # A folder of pieces holds what was fetched, and may not have a name that ccache would take apart.
  RESTKV_PIECES=$PWD/pieces fetch demo files || { fail 'a folder of pieces was refused'; cat said; }
  [[ -d pieces/pip ]] || fail 'nothing was put into the folder of pieces'
  [[ $(RESTKV_PIECES=pieces bash -c 'source script/common.sh; echo "$CCACHE_REMOTE_STORAGE"' script/x) == "file:$PWD/pieces/ccache" ]] ||
    fail 'ccache does not know the folder of pieces'
  ! RESTKV_PIECES=/dev/null fetch demo files || fail 'a folder of pieces that cannot be was accepted'
  expect_in "RESTKV_PIECES='/dev/null' is no folder" said
  ! RESTKV_PIECES="$PWD/two pieces" fetch demo files || fail 'a folder with a space was accepted'
  expect_in 'RESTKV_PIECES' said

  # Again: without a network, an index or a word.
  mv index away
  install demo || fail 'what is there needs the index'
  [[ ! -s said ]] || { fail 'what is there is not left alone:'; cat said; }
  mv away index

  # The same version with other contents: the changed lock is noticed.
  make_wheel demo 'answer = 2'
  install demo || fail 'what is there is fetched again'
  write_lock "$(hash_of demo-1.0-py3-none-any.whl)"
  install demo || { fail 'the renewed lock was refused'; cat said; }
  build/venv/bin/python -c 'import demo; assert demo.answer == 2' || fail 'the lock was not noticed'

  # Builds use what was installed with a hash before; they fetch nothing, even what the index has.
  make_wheel builder 'raise SystemExit("fetched without a hash")'
  ! install source --no-binary thing || fail 'a source package was built'
  ! grep -q 'fetched without a hash' said build/logs/source.log ||
    fail 'the build fetched what the lock does not list'

  ! install nothing || fail 'a group that is not there was installed'
  expect_in 'has no group [nothing]' said
}

"test_$topic"
((failures == 0)) && echo "passed"
