#pragma once

#include <string>

namespace restkv {

/// Routes what ggml and libllama would print to stderr into memory (once per process); warnings
/// and errors of this thread are kept for `take_ggml_errors`.
void capture_ggml_log();
/// Messages of this thread since the last call, on one line; empty if there were none.
std::string take_ggml_errors();

}  // namespace restkv
