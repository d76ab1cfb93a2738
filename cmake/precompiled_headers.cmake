# Half of the time of an ordinary file goes into reading headers of others; here they are read once per target.
# Files include what they use all the same: clang-tidy, and who sets CMAKE_DISABLE_PRECOMPILE_HEADERS, build
# without.
set(restkv_precompiled_headers
  <algorithm> <array> <chrono> <cmath> <cstddef> <cstdint> <filesystem> <fstream> <functional> <limits> <map> <memory>
  <numeric> <optional> <random> <set> <span> <sstream> <string> <string_view> <thread> <utility> <vector>
  <fmt/format.h> <fmt/ranges.h>)

# precompile_headers(<target> [<more headers>...])
function(precompile_headers target)
  target_precompile_headers(${target} PRIVATE ${restkv_precompiled_headers} ${ARGN})
endfunction()

# waits_for_models(<target>): what has little to compute itself is hardly optimised, which takes half of the time to
# compile, and all of it shares one precompiled header, that of restkv_sandbox.
function(waits_for_models target)
  if(RESTKV_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  else()
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  if(target STREQUAL "restkv_sandbox")
    precompile_headers(${target})
  else()
    target_precompile_headers(${target} REUSE_FROM restkv_sandbox)
  endif()
endfunction()
