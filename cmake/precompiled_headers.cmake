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

# optimise_little(<target>): for what waits for models; it compiles faster.
function(optimise_little target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()
