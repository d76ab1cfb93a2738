#!/usr/bin/env bash
# abi_test.sh <librestkv.so> <folder of restkv.h> [--write]: the library exports the functions of restkv.h and nothing
# else, and its interface is compatible with the one in abi.xml. --write renews that file.
# 77: abidiff is missing, only the functions were compared.
set -euo pipefail
library=$1 include=$2 mode=${3-}
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The version of a symbol stands behind @@.
nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort >"$scratch/exported"
perl -0ne 'print "$1\n" while /^RESTKV_API[^;(]*?\b(\w+)\(/mg' "$include/restkv.h" | sort >"$scratch/declared"
[[ $(wc -l <"$scratch/declared") -gt 30 ]] || { echo 'FAILED: the test does not see what restkv.h declares'; exit 1; }
diff "$scratch/declared" "$scratch/exported" ||
  { echo 'FAILED: restkv.h declares (<) other functions than librestkv.so exports (>)'; exit 1; }

command -v abidw >/dev/null && command -v abidiff >/dev/null ||
  { echo 'skipped: the interface was not compared: apt-get install abigail-tools'; exit 77; }
# A library with the same interface and nothing in it: what the functions are implemented with is nobody's business.
soname=$(readelf -d "$library" | sed -n 's/.*soname: \[\(.*\)\]/\1/p')
perl -0pe 's/^(RESTKV_API[^;]*);/$1 { __builtin_trap(); }/mg' "$include/restkv.h" >"$scratch/restkv.c"
"${CC:-cc}" -g -shared -fPIC -o "$scratch/$soname" "$scratch/restkv.c" -Wl,-soname="$soname" \
  -Wl,--version-script="$folder/../../src/doors/restkv.map"
abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --out-file "$scratch/abi.xml" "$scratch/$soname"
sed -i -E "s/ (path|filepath|comp-dir-path)='[^']*'//g" "$scratch/abi.xml"
grep -q "name='restkv_layer'" "$scratch/abi.xml" || { echo 'FAILED: abidw sees no structs'; exit 1; }
if [[ $mode == --write ]]; then
  cp "$scratch/abi.xml" "$folder/abi.xml"
  exit
fi
abidiff --no-added-syms "$folder/abi.xml" "$scratch/abi.xml" ||
  { echo 'FAILED: programs that were compiled before would not work: see docs/c-api.md'; exit 1; }
